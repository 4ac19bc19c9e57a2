//! Configs for streams between nodes that no TLS config was named for; see [`crate::tls::anonymous`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::{ClientConfig, Error, ServerConfig};

use super::ALPN;
use crate::tls::{Suites, anonymous};

pub use anonymous::COMMON_NAME;

/// For ends that dial.
///
/// # Errors
/// If the cryptography does not start.
pub fn client_config() -> Result<Arc<ClientConfig>, Error> {
    anonymous::client_config(ALPN, Suites::Fastest).map(Arc::new)
}

/// For ends that were dialled: with a certificate whose common name is [`COMMON_NAME`], and its key in PKCS#8.
///
/// # Errors
/// If they do not fit.
pub fn server_config(certificate: Vec<u8>, key: Vec<u8>) -> Result<Arc<ServerConfig>, Error> {
    anonymous::server_config(ALPN, Suites::Fastest, certificate, key).map(Arc::new)
}
