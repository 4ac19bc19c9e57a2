//! The TLS configs of a node, for its tasks.

use std::sync::{Arc, PoisonError, RwLock};

use receptor_core::config::TlsNames;
use receptor_core::node::io::{Role, Security};
use receptor_core::stream::Secure;
use receptor_core::stream::secure::{ALPN, anonymous};
use receptor_core::tls::{Configs, Peer, Suites};
use rustls::pki_types::ServerName;
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, ServerConfig};

/// What streams, links and local sockets are protected with.
///
/// The configs can be replaced while the node runs: what begins after that has the new ones, what has begun keeps its own.
#[derive(Debug)]
pub struct Tls {
    configs: RwLock<Arc<Configs>>,
    /// Where no config is named; why there is none, if that failed.
    anonymous: Result<(Arc<ClientConfig>, Arc<ServerConfig>), String>,
}

impl Tls {
    /// With these configs, and a throw-away certificate of its own.
    pub fn new(configs: Configs) -> Self {
        Self {
            configs: RwLock::new(Arc::new(configs)),
            anonymous: anonymous_configs(),
        }
    }

    /// The configs there are now.
    pub fn configs(&self) -> Arc<Configs> {
        Arc::clone(&self.configs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes others from now on.
    pub fn replace(&self, configs: Configs) {
        self.swap(Arc::new(configs));
    }

    /// The same, and gives those from before.
    pub(super) fn swap(&self, configs: Arc<Configs>) -> Arc<Configs> {
        let mut place = self.configs.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, configs)
    }

    /// The names of all of them, for the node's configuration.
    pub fn names(&self) -> TlsNames {
        let configs = self.configs();
        TlsNames {
            servers: configs.server_names().map(str::to_owned).collect(),
            clients: configs.client_names().map(str::to_owned).collect(),
        }
    }

    /// For a listener of links or local sockets.
    ///
    /// # Errors
    /// There is no such config.
    pub fn link_server(&self, name: &str, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, String> {
        self.configs().link_server(name, alpn)
    }

    /// For dialling `host` outside the mesh.
    ///
    /// # Errors
    /// There is no such config, or no certificate can be valid for this host.
    pub fn link_client(
        &self,
        name: &str,
        host: &str,
        alpn: &[&[u8]],
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        self.configs().link_client(name, host, alpn)
    }

    /// An end of a stream.
    pub(super) fn secure(&self, security: &Security) -> Result<Secure, String> {
        let (client, server) = self.anonymous.as_ref().map_err(String::clone)?;
        let peer = || match &security.peer {
            Some(node) => Peer::Node(node.as_str().to_owned()),
            None => Peer::Unknown,
        };
        match (security.role, &security.config) {
            (Role::Client, None) => Secure::client(Arc::clone(client)),
            (Role::Server, None) => Secure::server(Arc::clone(server)),
            (Role::Client, Some(name)) => {
                Secure::client(self.configs().stream_client(name, peer(), Suites::Fastest, &[ALPN])?)
            }
            (Role::Server, Some(name)) => {
                Secure::server(self.configs().stream_server(name, peer(), Suites::Fastest, &[ALPN])?)
            }
        }
        .map_err(|error| error.to_string())
    }
}

impl Default for Tls {
    /// Without any named config.
    fn default() -> Self {
        Self::new(Configs::none(Arc::new(DefaultTimeProvider)))
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
