//! The TLS configs of a node, made once.

use std::sync::Arc;

use receptor_core::node::io::{Role, Security};
use receptor_core::stream::Secure;
use receptor_core::stream::secure::anonymous;
use rustls::{ClientConfig, ServerConfig};

/// What streams are protected with.
#[derive(Debug)]
pub struct Tls {
    /// Where no config is named; why there is none, if that failed.
    anonymous: Result<(Arc<ClientConfig>, Arc<ServerConfig>), String>,
}

impl Tls {
    /// With a throw-away certificate of its own.
    pub fn new() -> Self {
        Self {
            anonymous: anonymous_configs(),
        }
    }

    /// An end of a stream. Here named configs find their place.
    pub(super) fn secure(&self, security: &Security) -> Result<Secure, String> {
        if let Some(name) = &security.config {
            return Err(format!("unknown TLS config {name}"));
        }
        let (client, server) = self.anonymous.as_ref().map_err(String::clone)?;
        match security.role {
            Role::Client => Secure::client(Arc::clone(client)),
            Role::Server => Secure::server(Arc::clone(server)),
        }
        .map_err(|error| error.to_string())
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

fn anonymous_configs() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), String> {
    let failed = |error: rcgen::Error| format!("throw-away certificate: {error}");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, anonymous::COMMON_NAME);
    let certificate = params.self_signed(&key).map_err(failed)?;
    let client = anonymous::client_config().map_err(|error| error.to_string())?;
    let server =
        anonymous::server_config(certificate.der().to_vec(), key.serialize_der()).map_err(|error| error.to_string())?;
    Ok((client, server))
}
