//! All TLS configs of a node by their names.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, IpAddr, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::names::{names, parse};
use super::pins::Pins;
use super::profile::{
    STREAM_VERSIONS, Suites, forget_sessions_of_client, forget_sessions_of_server, link_versions, provider,
};
use super::settings::{ClientSettings, ServerSettings};
use super::trust::Trust;
use super::verifier::{Demands, Name, Peer, Verifier};
use super::{Pem, pem, text};
use crate::id::NodeId;

/// The client config that exists without being defined, if [`Configs::new`] was given the system's roots: TLS 1.2 or later,
/// the system's roots, no certificate. For `wss://` peers without `tls`.
pub const DEFAULT_CLIENT: &str = "default";

/// What stands in a handshake where a server has no host name. It is not sent.
const NO_HOST: &str = "receptor";

/// The TLS configs of one node, all of them checked.
///
/// Configs of `rustls` are made from them for one use each. They are cheap: keys and roots are shared.
#[derive(Debug)]
pub struct Configs {
    servers: BTreeMap<String, Server>,
    clients: BTreeMap<String, Client>,
    clock: Arc<dyn TimeProvider>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Server {
    pair: Arc<CertifiedKey>,
    /// `None` if no certificates are asked for.
    demands: Option<Demands>,
    /// A dialling node's certificate must name it.
    wants_name: bool,
    min_tls13: bool,
}

#[derive(Debug)]
struct Client {
    pair: Option<Arc<CertifiedKey>>,
    demands: Demands,
    min_tls13: bool,
}

impl Configs {
    /// No config at all.
    pub fn none(clock: Arc<dyn TimeProvider>) -> Self {
        Self {
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
            clock,
            warnings: Vec::new(),
        }
    }

    /// Checks all settings, for the node `own`. Of several with one name the last counts. `system_roots` are certificates in
    /// DER; without them, who needs them trusts nobody. `clock` is what certificates are judged by.
    ///
    /// # Errors
    /// The classic text: certificate, key or fingerprint cannot be read, they do not belong together, or the certificate does
    /// not name this node.
    pub fn new(
        own: &NodeId,
        servers: &[ServerSettings],
        clients: &[ClientSettings],
        system_roots: Option<Vec<Vec<u8>>>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, String> {
        let has_system_roots = system_roots.is_some();
        let roots = system_roots.into_iter().flatten().map(CertificateDer::from);
        let mut builder = Builder {
            own,
            provider: provider(Suites::Library),
            system: Arc::new(Trust::new(roots.collect())),
            warnings: Vec::new(),
        };
        let mut configs = Self::none(clock);
        if has_system_roots {
            let default = builder.client(&ClientSettings::new(DEFAULT_CLIENT))?;
            configs.clients.insert(DEFAULT_CLIENT.into(), default);
        }
        for settings in servers {
            let server = builder.server(settings);
            let server = server.map_err(|error| alloc::format!("{}{error}", text::SERVER_PREFIX))?;
            configs.servers.insert(settings.name.clone(), server);
        }
        for settings in clients {
            let client = builder.client(settings);
            let client = client.map_err(|error| alloc::format!("{}{error}", text::CLIENT_PREFIX))?;
            configs.clients.insert(settings.name.clone(), client);
        }
        configs.warnings = builder.warnings;
        Ok(configs)
    }

    /// What an operator should know of them.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The names of all server configs.
    pub fn server_names(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// The names of all client configs.
    pub fn client_names(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(String::as_str)
    }

    /// For whoever accepts connections of a network below the mesh: links, control service, services. With `alpn` what it
    /// announces, if anything.
    ///
    /// # Errors
    /// There is no such config.
    pub fn link_server(&self, name: &str, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, String> {
        let server = self.server(name)?;
        self.server_config(
            server,
            link_versions(server.min_tls13),
            Name::Any,
            Suites::Library,
            alpn,
        )
    }

    /// For whoever dials a host outside the mesh: with the name that it is dialled by, which its certificate must have. It is
    /// sent, unless it is an address.
    ///
    /// # Errors
    /// There is no such config, or nobody can have such a name.
    pub fn link_client(
        &self,
        name: &str,
        host: &str,
        alpn: &[&[u8]],
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let client = self.client(name)?;
        self.link_client_of(client, link_versions(client.min_tls13), host, alpn)
    }

    /// Whether a client of this name knows who is at the other end: not if it takes any certificate.
    ///
    /// # Errors
    /// There is no such config.
    pub fn verifies_servers(&self, name: &str) -> Result<bool, String> {
        Ok(self.client(name)?.demands.trust.is_some())
    }

    /// As [`Self::link_client`], of one that has nothing newer than TLS 1.2.
    #[cfg(test)]
    pub(super) fn old_link_client(
        &self,
        name: &str,
        host: &str,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        self.link_client_of(self.client(name)?, &[&rustls::version::TLS12], host, &[])
    }

    fn link_client_of(
        &self,
        client: &Client,
        versions: &[&'static SupportedProtocolVersion],
        host: &str,
        alpn: &[&[u8]],
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let named = host_name(host);
        let enable_sni = named.is_some();
        // Who verifies nothing needs no name.
        let stand_in = || host_name(NO_HOST).filter(|_| client.demands.trust.is_none());
        let name = named.or_else(stand_in);
        let name = name.ok_or_else(|| alloc::format!("no certificate can be verified for the host name {host:?}"))?;
        let mut config = self.client_config(client, versions, Name::Host, Suites::Library, alpn)?;
        config.enable_sni = enable_sni;
        Ok((Arc::new(config), name))
    }

    /// For whoever was dialled over the mesh, by `peer`. Fingerprints count here too, unlike in the classic node.
    ///
    /// # Errors
    /// There is no such config.
    pub fn stream_server(
        &self,
        name: &str,
        peer: Peer,
        suites: Suites,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, String> {
        let server = self.server(name)?;
        let wanted = if server.wants_name { Name::Node(peer) } else { Name::Any };
        self.server_config(server, STREAM_VERSIONS, wanted, suites, alpn)
    }

    /// For whoever dials the node `peer` over the mesh. Names of hosts have no part in it.
    ///
    /// # Errors
    /// There is no such config.
    pub fn stream_client(
        &self,
        name: &str,
        peer: Peer,
        suites: Suites,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, String> {
        let client = self.client(name)?;
        let mut config = self.client_config(client, STREAM_VERSIONS, Name::Node(peer), suites, alpn)?;
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    fn server(&self, name: &str) -> Result<&Server, String> {
        self.servers.get(name).ok_or_else(|| text::unknown(name))
    }

    fn client(&self, name: &str) -> Result<&Client, String> {
        self.clients.get(name).ok_or_else(|| text::unknown(name))
    }

    fn server_config(
        &self,
        server: &Server,
        versions: &[&'static SupportedProtocolVersion],
        name: Name,
        suites: Suites,
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, String> {
        let provider = provider(suites);
        let clients = match &server.demands {
            Some(demands) => verifier(&provider, demands, name),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let builder = ServerConfig::builder_with_details(provider, Arc::clone(&self.clock));
        let mut config = builder
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&server.pair))));
        config.alpn_protocols = protocols(alpn);
        forget_sessions_of_server(&mut config);
        Ok(Arc::new(config))
    }

    fn client_config(
        &self,
        client: &Client,
        versions: &[&'static SupportedProtocolVersion],
        name: Name,
        suites: Suites,
        alpn: &[&[u8]],
    ) -> Result<ClientConfig, String> {
        let provider = provider(suites);
        let servers: Arc<dyn ServerCertVerifier> = verifier(&provider, &client.demands, name);
        let builder = ClientConfig::builder_with_details(provider, Arc::clone(&self.clock));
        let builder = builder
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(servers);
        let mut config = match &client.pair {
            Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair)))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(alpn);
        forget_sessions_of_client(&mut config);
        Ok(config)
    }
}

fn verifier(provider: &CryptoProvider, demands: &Demands, name: Name) -> Arc<Verifier> {
    Arc::new(Verifier {
        demands: demands.clone(),
        name,
        algorithms: provider.signature_verification_algorithms,
    })
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}

/// What a certificate can be verified for: a name or an address, the latter perhaps in brackets.
fn host_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    // An interface is no part of what a certificate names.
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    if let Ok(address) = IpAddr::try_from(address) {
        return Some(ServerName::IpAddress(address));
    }
    let name = DnsName::try_from(host.strip_suffix('.').unwrap_or(host).to_string());
    name.ok().map(ServerName::DnsName)
}

/// Makes configs of settings.
struct Builder<'a> {
    own: &'a NodeId,
    provider: Arc<CryptoProvider>,
    system: Arc<Trust>,
    warnings: Vec<String>,
}

impl Builder<'_> {
    fn server(&mut self, settings: &ServerSettings) -> Result<Server, String> {
        let name = &settings.name;
        let pair = self.pair(name, &settings.cert, &settings.key, settings.skip_receptor_names_check)?;
        let pins = Arc::new(Pins::parse(&settings.pinned_client_certs)?);
        let demands = if settings.asks_for_certificates() {
            let trust = self.trust(name, settings.client_cas.as_ref());
            let hints = settings.client_cas.as_ref().map_or_else(Vec::new, |_| trust.subjects());
            Some(Demands {
                trust: Some(trust),
                hints: hints.into(),
                pins,
            })
        } else {
            if !pins.is_empty() {
                self.warn(
                    name,
                    "pinnedclientcert has no effect, since no client certificates are asked for",
                );
            }
            None
        };
        Ok(Server {
            pair,
            demands,
            wants_name: settings.require_client_cert,
            min_tls13: settings.min_tls13,
        })
    }

    fn client(&mut self, settings: &ClientSettings) -> Result<Client, String> {
        let name = &settings.name;
        let pair = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => Some(self.pair(name, cert, key, settings.skip_receptor_names_check)?),
            (None, None) => None,
            _ => return Err(text::ONE_OF_TWO.into()),
        };
        let pins = Arc::new(Pins::parse(&settings.pinned_server_certs)?);
        let trust = if settings.insecure_skip_verify {
            self.warn(
                name,
                "insecureskipverify: nothing of a server's certificate is verified",
            );
            if !pins.is_empty() {
                self.warn(name, "pinnedservercert has no effect beside insecureskipverify");
            }
            None
        } else {
            Some(self.trust(name, settings.root_cas.as_ref()))
        };
        Ok(Client {
            pair,
            demands: Demands {
                trust,
                hints: [].into(),
                pins,
            },
            min_tls13: settings.min_tls13,
        })
    }

    fn trust(&mut self, name: &str, roots: Option<&Pem>) -> Arc<Trust> {
        let trust = match roots {
            Some(pem) => Arc::new(Trust::new(pem.certificates())),
            None => Arc::clone(&self.system),
        };
        if trust.is_empty() {
            let place = roots.map_or("the system's certificate store", |pem| &pem.file);
            self.warn(
                name,
                &alloc::format!("no usable certificate in {place}: every peer will be refused"),
            );
        }
        trust
    }

    fn pair(&mut self, name: &str, cert: &Pem, key: &Pem, skips_names: bool) -> Result<Arc<CertifiedKey>, String> {
        let pair = pem::pair(cert, key, &self.provider)?;
        if let Some(leaf) = pair.cert.first() {
            self.check_names(name, cert, leaf, skips_names)?;
        }
        Ok(pair)
    }

    /// Whether the own certificate is one that others accept from this node (`security.md` §9).
    fn check_names(&mut self, name: &str, cert: &Pem, leaf: &[u8], is_skipped: bool) -> Result<(), String> {
        let names = parse(leaf).and_then(|certificate| names(&certificate));
        let (found, is_critical) = match names {
            Ok(found) => found,
            Err(_) if is_skipped => return Ok(()),
            Err(error) => return Err(alloc::format!("certificate in {}: {error}", cert.file)),
        };
        if is_critical && !found.is_empty() {
            self.warn(
                name,
                "the certificate's subjectAltName is marked as critical, which Go nodes refuse",
            );
        }
        if is_skipped || found.iter().any(|id| id == self.own.as_str()) {
            return Ok(());
        }
        Err(alloc::format!(
            "nodeID={} not found in certificate name(s); names found=[{}]; cfg section={name}; server cert={}",
            self.own,
            found.join(" "),
            cert.file
        ))
    }

    fn warn(&mut self, name: &str, what: &str) {
        self.warnings.push(alloc::format!("TLS config {name}: {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        let text = |host| host_name(host).map(|name| name.to_str().into_owned());
        assert_eq!(text("example.org").as_deref(), Some("example.org"));
        assert_eq!(text("example.org.").as_deref(), Some("example.org"));
        assert_eq!(text("my_host").as_deref(), Some("my_host"));
        for host in ["::1", "[::1]", "::1%lo"] {
            assert!(matches!(host_name(host), Some(ServerName::IpAddress(_))), "{host}");
        }
        assert!(matches!(host_name("127.0.0.1"), Some(ServerName::IpAddress(_))));
        for host in ["", ".", "a b", "nöde", &"x".repeat(64)] {
            assert!(host_name(host).is_none(), "{host}");
        }
    }
}
