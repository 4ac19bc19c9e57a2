//! The root: the only place that sees two components.

pub mod io;
