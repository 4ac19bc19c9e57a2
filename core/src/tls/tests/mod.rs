//! Handshakes between configs, right and wrong.

pub(crate) mod authority;
mod handshakes;
mod settings;
