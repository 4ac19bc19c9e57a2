//! TLS configs as they stand in a configuration: with the names of files, which are read here.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use receptor_core::id::NodeId;
use receptor_core::tls::{ClientSettings, Configs, Pem, ServerSettings, text};
use rustls::time_provider::DefaultTimeProvider;

use crate::error_text::os_text;

/// Most bytes of one file; the system's whole store of roots is a quarter of it.
const FILE_MAX: u64 = 1 << 20;

/// A `tls-server`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsServer {
    /// The name others refer to.
    pub name: String,
    /// File of the certificate and its chain.
    pub cert: String,
    /// File of the private key.
    pub key: String,
    /// Clients must show a certificate.
    pub require_client_cert: bool,
    /// File of who may have made it; empty for none.
    pub client_cas: String,
    /// Fingerprints, one of which it must have.
    pub pinned_client_certs: Vec<String>,
    /// The own certificate need not name this node.
    pub skip_receptor_names_check: bool,
    /// No TLS 1.2.
    pub min_tls13: bool,
}

/// A `tls-client`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsClient {
    /// The name others refer to.
    pub name: String,
    /// File of the client certificate and its chain; empty for none.
    pub cert: String,
    /// File of its private key; empty for none.
    pub key: String,
    /// File of who may have made the certificates of servers; empty for the system's roots.
    pub root_cas: String,
    /// Nothing of a server's certificate is verified.
    pub insecure_skip_verify: bool,
    /// Fingerprints, one of which it must have.
    pub pinned_server_certs: Vec<String>,
    /// The own certificate need not name this node.
    pub skip_receptor_names_check: bool,
    /// No TLS 1.2.
    pub min_tls13: bool,
}

/// All TLS configs of a node, not yet read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsFiles {
    /// In the order of the configuration; of several with one name the last counts.
    pub servers: Vec<TlsServer>,
    /// The same of clients.
    pub clients: Vec<TlsClient>,
    /// The client config `default` exists: TLS 1.2 or later, the system's roots.
    pub has_default_client: bool,
}

impl TlsFiles {
    /// Reads all files and checks what is in them. Blocks.
    ///
    /// # Errors
    /// The classic text.
    pub fn load(&self, node_id: &NodeId) -> Result<Configs, String> {
        let servers: Result<Vec<_>, _> = self.servers.iter().map(TlsServer::read).collect();
        let servers = servers.map_err(|error| format!("{}{error}", text::SERVER_PREFIX))?;
        let clients: Result<Vec<_>, _> = self.clients.iter().map(TlsClient::read).collect();
        let clients = clients.map_err(|error| format!("{}{error}", text::CLIENT_PREFIX))?;
        let wants_roots = self.has_default_client
            || servers.iter().any(ServerSettings::wants_system_roots)
            || clients.iter().any(ClientSettings::wants_system_roots);
        let roots = wants_roots.then(system_roots);
        Configs::new(node_id, &servers, &clients, roots, Arc::new(DefaultTimeProvider))
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let servers = self.servers.iter().flat_map(|s| [&s.cert, &s.key, &s.client_cas]);
        let clients = self.clients.iter().flat_map(|c| [&c.cert, &c.key, &c.root_cas]);
        servers
            .chain(clients)
            .map(String::as_str)
            .filter(|file| !file.is_empty())
    }
}

impl TlsServer {
    fn read(&self) -> Result<ServerSettings, String> {
        Ok(ServerSettings {
            require_client_cert: self.require_client_cert,
            client_cas: optional(&self.client_cas).map_err(|error| format!("{}{error}", text::CLIENT_CAS))?,
            pinned_client_certs: self.pinned_client_certs.clone(),
            skip_receptor_names_check: self.skip_receptor_names_check,
            min_tls13: self.min_tls13,
            ..ServerSettings::new(&self.name, read(&self.cert)?, read(&self.key)?)
        })
    }
}

impl TlsClient {
    fn read(&self) -> Result<ClientSettings, String> {
        Ok(ClientSettings {
            cert: optional(&self.cert)?,
            key: optional(&self.key)?,
            root_cas: optional(&self.root_cas).map_err(|error| format!("{}{error}", text::ROOT_CAS))?,
            insecure_skip_verify: self.insecure_skip_verify,
            pinned_server_certs: self.pinned_server_certs.clone(),
            skip_receptor_names_check: self.skip_receptor_names_check,
            min_tls13: self.min_tls13,
            ..ClientSettings::new(&self.name)
        })
    }
}

fn optional(file: &str) -> Result<Option<Pem>, String> {
    Some(file).filter(|file| !file.is_empty()).map(read).transpose()
}

fn read(file: &str) -> Result<Pem, String> {
    let failed = |verb, error| format!("{verb} {file}: {}", os_text(&error));
    let opened = File::open(file).map_err(|error| failed("open", error))?;
    let mut bytes = Vec::new();
    let mut beginning = opened.take(FILE_MAX + 1);
    beginning
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("{file} is longer than the limit of {FILE_MAX} bytes"));
    }
    Ok(Pem::new(file, bytes))
}

/// Whom the operating system trusts: `SSL_CERT_FILE`, `SSL_CERT_DIR` or its own store, as Go has it.
fn system_roots() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("the system's root certificates: {error}");
    }
    found.certs.into_iter().map(|root| root.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error(files: &TlsFiles) -> String {
        files.load(&NodeId::new("n")).expect_err("an error")
    }

    #[test]
    fn files_that_are_not_there_are_named_as_by_go() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there").to_str().unwrap().to_owned();
        fs::write(&there, "").unwrap();
        let missing = "/no/such/file".to_owned();
        let server = |cert: &str, key: &str, cas: &str| TlsFiles {
            servers: vec![TlsServer {
                cert: cert.into(),
                key: key.into(),
                client_cas: cas.into(),
                ..TlsServer::default()
            }],
            ..TlsFiles::default()
        };
        let open = "open /no/such/file: no such file or directory";
        let expected = format!("error preparing tls server config: {open}");
        assert_eq!(error(&server(&missing, &there, "")), expected);
        assert_eq!(error(&server(&there, &missing, "")), expected);
        let expected = format!("error preparing tls server config: error reading client CAs file: {open}");
        assert_eq!(error(&server(&there, &there, &missing)), expected);
        let client = |cert: &str, key: &str, cas: &str| TlsFiles {
            clients: vec![TlsClient {
                cert: cert.into(),
                key: key.into(),
                root_cas: cas.into(),
                ..TlsClient::default()
            }],
            ..TlsFiles::default()
        };
        let expected = format!("error preparing tls client config: {open}");
        assert_eq!(error(&client(&missing, &there, "")), expected);
        let expected = format!("error preparing tls client config: error reading root CAs file: {open}");
        assert_eq!(error(&client("", "", &missing)), expected);
        let expected = "error preparing tls client config: cert and key must both be supplied or neither";
        assert_eq!(error(&client(&there, "", &there)), expected);
        assert!(client("", "", &there).load(&NodeId::new("n")).is_ok());
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large").to_str().unwrap().to_owned();
        File::create(&large).unwrap().set_len(FILE_MAX + 1).unwrap();
        let files = TlsFiles {
            clients: vec![TlsClient {
                root_cas: large,
                ..TlsClient::default()
            }],
            ..TlsFiles::default()
        };
        assert!(error(&files).ends_with("is longer than the limit of 1048576 bytes"));
    }

    #[test]
    fn the_system_has_its_own_roots() {
        let files = TlsFiles {
            has_default_client: true,
            ..TlsFiles::default()
        };
        let configs = files.load(&NodeId::new("n")).unwrap();
        assert_eq!(configs.client_names().collect::<Vec<_>>(), ["default"]);
    }
}
