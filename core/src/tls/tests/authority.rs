//! Certificates for tests, and handshakes with them.

use alloc::borrow::ToOwned as _;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConfig, ServerConnection};

use super::super::{ClientSettings, Configs, Pem, ServerSettings, text};
use crate::id::NodeId;

/// In the middle of 2026, when all certificates here are valid but those that shall not be.
#[derive(Debug)]
struct Midsummer;

impl TimeProvider for Midsummer {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_782_000_000)))
    }
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: Pem,
}

/// A leaf: what it is for and when, and for whom.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) nodes: Vec<&'static str>,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) years: (i32, i32),
    /// Instead of the names.
    pub(crate) alt_name: Option<(Vec<u8>, bool)>,
}

pub(crate) fn leaf(node: &'static str) -> Leaf {
    Leaf {
        nodes: [node].into(),
        hosts: ["localhost"].into(),
        usages: [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth].into(),
        years: (2026, 2027),
        alt_name: None,
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: Pem,
    pub(crate) key: Pem,
    pub(crate) der: Vec<u8>,
}

impl Leaf {
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params.extended_key_usages.clone_from(&self.usages);
        match &self.alt_name {
            Some((content, is_critical)) => {
                let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content.clone());
                extension.set_criticality(*is_critical);
                params.custom_extensions = [extension].into();
            }
            None => {
                for &host in &self.hosts {
                    params.subject_alt_names.push(match host.parse() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(host.try_into().unwrap()),
                    });
                }
                for &node in &self.nodes {
                    let kind = [1, 3, 6, 1, 4, 1, 2312, 19, 1].into();
                    params.subject_alt_names.push(SanType::OtherName((kind, node.into())));
                }
            }
        }
        params
    }

    pub(crate) fn self_signed(&self, is_ca: bool) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = self.params();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = params.self_signed(&key).unwrap();
        identity(&certificate, &key)
    }
}

fn identity(certificate: &rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        cert: Pem::new("own.crt", certificate.pem()),
        key: Pem::new("own.key", key.serialize_pem()),
        der: certificate.der().to_vec(),
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::made_by(name, None)
    }

    fn made_by(name: &str, issuer: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, &issuer.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let pem = Pem::new("ca.crt", certificate.pem());
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self) -> Self {
        Self::made_by("intermediate", Some(self))
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Identity {
        self.issue_with(leaf, &KeyPair::generate().unwrap())
    }

    pub(crate) fn issue_with(&self, leaf: &Leaf, key: &KeyPair) -> Identity {
        let certificate = leaf.params().signed_by(key, &self.issuer).unwrap();
        identity(&certificate, key)
    }
}

/// Node `server` with one config `s`.
pub(crate) fn server_configs(settings: ServerSettings) -> Result<Configs, String> {
    Configs::new(
        &NodeId::new("server"),
        &[settings],
        &[],
        Some(Vec::new()),
        Arc::new(Midsummer),
    )
}

/// Node `client` with one config `c`.
pub(crate) fn client_configs(settings: ClientSettings) -> Result<Configs, String> {
    Configs::new(
        &NodeId::new("client"),
        &[],
        &[settings],
        Some(Vec::new()),
        Arc::new(Midsummer),
    )
}

pub(crate) fn server(identity: &Identity) -> ServerSettings {
    ServerSettings::new("s", identity.cert.clone(), identity.key.clone())
}

pub(crate) fn client(roots: &Authority) -> ClientSettings {
    ClientSettings {
        root_cas: Some(roots.pem.clone()),
        ..ClientSettings::new("c")
    }
}

pub(crate) fn client_with(roots: &Authority, identity: &Identity) -> ClientSettings {
    ClientSettings {
        cert: Some(identity.cert.clone()),
        key: Some(identity.key.clone()),
        ..client(roots)
    }
}

/// How a handshake ended: what the client and what the server says, and in which version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) client: Result<(), String>,
    pub(crate) server: Result<(), String>,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) sni: Option<String>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn works(&self) {
        assert_eq!((&self.client, &self.server), (&Ok(()), &Ok(())));
    }

    #[track_caller]
    pub(crate) fn server_refuses(&self, reason: &str) {
        let said = self.server.as_ref().expect_err("the server refuses");
        assert!(said.contains(reason), "{self:?}");
        let heard = self.client.as_ref().expect_err("the client is told");
        assert!(heard.starts_with("tls: "), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn client_refuses(&self, reason: &str) {
        let said = self.client.as_ref().expect_err("the client refuses");
        assert!(said.contains(reason), "{self:?}");
        let heard = self.server.as_ref().expect_err("the server is told");
        assert!(heard.starts_with("tls: "), "{self:?}");
    }
}

pub(crate) fn handshake(client: Arc<ClientConfig>, name: ServerName<'static>, server: Arc<ServerConfig>) -> Outcome {
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        deliver(&wire, |wire| server.read_tls(wire), &mut server_error);
        take(server.process_new_packets(), &mut server_error);
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        deliver(&wire, |wire| client.read_tls(wire), &mut client_error);
        take(client.process_new_packets(), &mut client_error);
    }
    let end = |error: Option<String>, is_handshaking: bool| match error {
        Some(error) => Err(error),
        None if is_handshaking => Err("not done".into()),
        None => Ok(()),
    };
    Outcome {
        client: end(client_error, client.is_handshaking()),
        server: end(server_error, server.is_handshaking()),
        version: client.protocol_version(),
        sni: server.server_name().map(str::to_owned),
    }
}

fn deliver<E: fmt::Display>(
    mut wire: &[u8],
    mut read: impl FnMut(&mut &[u8]) -> Result<usize, E>,
    error: &mut Option<String>,
) {
    while !wire.is_empty() && error.is_none() {
        if let Err(problem) = read(&mut wire) {
            error.get_or_insert_with(|| problem.to_string());
        }
    }
}

fn take(state: Result<rustls::IoState, rustls::Error>, error: &mut Option<String>) {
    if let Err(problem) = state {
        error.get_or_insert_with(|| text::plain(&problem.to_string()));
    }
}
