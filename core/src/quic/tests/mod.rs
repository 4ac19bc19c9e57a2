//! Real handshakes under virtual time. What cryptography draws at random is not repeatable, so only properties are judged.

mod hostile;
mod net;
mod pair;
mod tls;
