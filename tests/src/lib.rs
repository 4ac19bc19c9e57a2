//! Tests of whole nodes.
//!
//! The simulator is a package of its own, `receptor-sim` in `sim/`, which is found here again: [`world`], [`pair`], [`relay`],
//! [`street`] and [`mixed`]. [`mod@line`] is three nodes with nothing of its own between them.
//! [`certificates`] is an authority for them. [`suite`] binds the runtime adapters to each other. [`live`] runs real daemons.
//! The suites are in `tests/`.

pub use receptor_sim::{mixed, pair, relay, street, world};

pub mod certificates;
pub mod counting;
pub mod line;
pub mod live;
pub mod suite;
