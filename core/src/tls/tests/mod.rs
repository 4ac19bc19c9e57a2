//! Handshakes between configs, right and wrong.

mod authority;
mod handshakes;
mod settings;
