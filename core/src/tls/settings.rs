//! What a TLS config is made of, as it stands in a node's configuration (`security.md` §2, §3).

use alloc::string::String;
use alloc::vec::Vec;

use super::Pem;

/// A `tls-server`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSettings {
    /// The name others refer to.
    pub name: String,
    /// The certificate, and its chain behind it.
    pub cert: Pem,
    /// Its private key: PKCS#1, PKCS#8 or SEC1.
    pub key: Pem,
    /// Clients must show a certificate; on a mesh stream with the name of the node that dials.
    pub require_client_cert: bool,
    /// Who may have made the certificates of clients; without it the system's roots. If it is given, clients without a
    /// certificate are refused, required or not.
    pub client_cas: Option<Pem>,
    /// Fingerprints, one of which a client's certificate must have, if there are any.
    pub pinned_client_certs: Vec<String>,
    /// The own certificate need not name this node.
    pub skip_receptor_names_check: bool,
    /// No TLS 1.2.
    pub min_tls13: bool,
}

impl ServerSettings {
    /// A server that asks for no client certificates.
    pub fn new(name: &str, cert: Pem, key: Pem) -> Self {
        Self {
            name: name.into(),
            cert,
            key,
            require_client_cert: false,
            client_cas: None,
            pinned_client_certs: Vec::new(),
            skip_receptor_names_check: false,
            min_tls13: false,
        }
    }

    pub(super) const fn asks_for_certificates(&self) -> bool {
        self.require_client_cert || self.client_cas.is_some()
    }

    /// Whether the system's roots are needed.
    pub const fn wants_system_roots(&self) -> bool {
        self.require_client_cert && self.client_cas.is_none()
    }
}

/// A `tls-client`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSettings {
    /// The name others refer to.
    pub name: String,
    /// The client certificate, and its chain behind it. With a key, or neither.
    pub cert: Option<Pem>,
    /// Its private key: PKCS#1, PKCS#8 or SEC1.
    pub key: Option<Pem>,
    /// Who may have made the certificates of servers; without it the system's roots.
    pub root_cas: Option<Pem>,
    /// Nothing of a server's certificate is verified: no chain, no name, no fingerprint.
    pub insecure_skip_verify: bool,
    /// Fingerprints, one of which a server's certificate must have, if there are any.
    pub pinned_server_certs: Vec<String>,
    /// The own certificate need not name this node.
    pub skip_receptor_names_check: bool,
    /// No TLS 1.2.
    pub min_tls13: bool,
}

impl ClientSettings {
    /// A client without a certificate that trusts the system's roots.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            cert: None,
            key: None,
            root_cas: None,
            insecure_skip_verify: false,
            pinned_server_certs: Vec::new(),
            skip_receptor_names_check: false,
            min_tls13: false,
        }
    }

    /// Whether the system's roots are needed.
    pub const fn wants_system_roots(&self) -> bool {
        self.root_cas.is_none() && !self.insecure_skip_verify
    }
}
