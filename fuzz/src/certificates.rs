//! Certificates: what a peer shows, and what files hold.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519, SanType, date_time_ymd,
};
use receptor_core::id::NodeId;
use receptor_core::tls::{ClientSettings, Configs, Pem, ServerSettings, Suites, node_ids, node_ids_in};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, SignatureScheme};

use crate::source::Source;

/// The same in every run: signatures of Ed25519 depend on nothing but the key and what is signed.
fn key(seed: u8) -> KeyPair {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([seed; 32]);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519).expect("a key")
}

/// In the middle of 2026.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            1_782_000_000,
        )))
    }
}

/// Who is asked for, and whose key every peer has.
const NODE: &str = "peer";

/// What a peer may begin with. Of these only [`World::good`] proves that it is [`NODE`].
struct World {
    configs: Configs,
    /// Certificates in DER: the good one first, then those with one fault each.
    chains: Vec<Vec<u8>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
    signer: Arc<dyn SigningKey>,
}

fn leaf(node: Option<&str>, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::DnsName("hub".try_into().expect("a name"))];
    if let Some(node) = node {
        let kind = vec![1, 3, 6, 1, 4, 1, 2312, 19, 1];
        params.subject_alt_names.push(SanType::OtherName((kind, node.into())));
    }
    params
}

fn authority(name: &str, key: KeyPair) -> (Vec<u8>, String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().to_vec(), certificate.pem(), Issuer::new(params, key))
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let (root, pem, issuer) = authority("mesh", key(1));
        let (_, _, stranger) = authority("mesh", key(2));
        let own = key(3);
        let signed = |params: CertificateParams, by: &Issuer<'_, KeyPair>| {
            let certificate = params.signed_by(&own, by).expect("a certificate");
            (certificate.der().to_vec(), certificate.pem())
        };
        let (good, good_pem) = signed(leaf(Some(NODE), (2026, 2027)), &issuer);
        let mut server_only = leaf(Some(NODE), (2026, 2027));
        server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let mut other_key = leaf(Some(NODE), (2026, 2027));
        other_key.subject_alt_names.reverse();
        let chains = vec![
            good,
            signed(leaf(Some("other"), (2026, 2027)), &issuer).0,
            signed(leaf(None, (2026, 2027)), &issuer).0,
            signed(leaf(Some(NODE), (2024, 2025)), &issuer).0,
            signed(leaf(Some(NODE), (2026, 2027)), &stranger).0,
            signed(server_only, &issuer).0,
            other_key.self_signed(&own).expect("a certificate").der().to_vec(),
            root,
        ];
        let ca = || Some(Pem::new("ca.crt", pem.as_bytes()));
        let client = ClientSettings {
            root_cas: ca(),
            ..ClientSettings::new("c")
        };
        let server = ServerSettings {
            require_client_cert: true,
            client_cas: ca(),
            skip_receptor_names_check: true,
            ..ServerSettings::new(
                "s",
                Pem::new("own.crt", good_pem),
                Pem::new("own.key", own.serialize_pem()),
            )
        };
        let configs = Configs::new(&NodeId::new("own"), &[server], &[client], None, Arc::new(Clock));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = rustls::pki_types::PrivateKeyDer::try_from(own.serialize_der()).expect("a key");
        World {
            configs: configs.expect("good settings"),
            chains,
            signer: provider.key_provider.load_private_key(der).expect("a key"),
            provider,
        }
    })
}

/// Shows what it has, whoever asks.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A peer with the right key shows certificates that the input makes out of real ones, or of nothing. Whatever it shows, only
/// the one certificate of the authority for this node lets it in; as a server where a host is dialled, any of the authority's
/// certificates for that host.
pub fn certificates(input: &[u8]) {
    let world = world();
    let mut source = Source::new(input);
    let how = source.byte();
    let mut chain = Vec::new();
    for _ in 0..=source.below(3) {
        chain.push(certificate(world, &mut source));
    }
    let _ = node_ids(&chain[0]);
    let leaf = chain[0].clone();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let shows = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, Arc::clone(&world.signer)))));
    let peer = || match how >> 2 & 1 {
        0 => receptor_core::tls::Peer::Node(NODE.into()),
        _ => receptor_core::tls::Peer::Hash(NodeId::new(NODE).hash()),
    };
    let (is_in, may) = match how & 3 {
        0 => {
            let ours = world.configs.stream_client("c", peer(), Suites::Library, &[]);
            let name = "receptor".try_into().expect("a name");
            let client = ClientConnection::new(ours.expect("a config"), name).expect("a client");
            (accepts_server(world, client, shows), leaf == world.chains[0])
        }
        1 => {
            let (ours, name) = world.configs.link_client("c", "hub", &[]).expect("a config");
            let client = ClientConnection::new(ours, name).expect("a client");
            (accepts_server(world, client, shows), world.chains[..3].contains(&leaf))
        }
        2 => {
            let ours = world.configs.stream_server("s", peer(), Suites::Library, &[]);
            (
                accepts_client(world, ours.expect("a config"), shows),
                leaf == world.chains[0],
            )
        }
        _ => {
            let ours = world.configs.link_server("s", &[]).expect("a config");
            (accepts_client(world, ours, shows), world.chains[..3].contains(&leaf))
        }
    };
    assert!(may || !is_in, "let in with {leaf:02x?}");
}

/// A real certificate with some bytes changed, cut out or put in; or bytes of the input.
fn certificate(world: &World, source: &mut Source<'_>) -> Vec<u8> {
    let base = source.byte();
    if base & 0x80 != 0 {
        return source.bytes().to_vec();
    }
    let mut der = world.chains[usize::from(base) % world.chains.len()].clone();
    for _ in 0..source.below(5) {
        let at = source.number() as usize % (der.len() + 1);
        match source.below(4) {
            0 => {
                let byte = source.byte();
                if let Some(place) = der.get_mut(at) {
                    *place ^= byte;
                }
            }
            1 => der.truncate(at),
            2 => {
                let end = (at + source.below(256)).min(der.len());
                der.drain(at..end);
            }
            _ => {
                let new = source.bytes();
                der.splice(at..at, new.iter().copied());
            }
        }
    }
    der
}

fn accepts_server(world: &World, mut client: ClientConnection, shows: Arc<Shows>) -> bool {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&world.provider));
    let server = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(shows);
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    shake(&mut client, &mut server);
    !client.is_handshaking()
}

fn accepts_client(world: &World, ours: Arc<ServerConfig>, shows: Arc<Shows>) -> bool {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&world.provider));
    let client = builder
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(shows);
    let name = "hub".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = ServerConnection::new(ours).expect("a server");
    shake(&mut client, &mut server);
    !server.is_handshaking()
}

/// Exchanges records until nobody has anything to say.
fn shake(client: &mut ClientConnection, server: &mut ServerConnection) {
    for _ in 0..10 {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).expect("memory takes all");
        }
        let mut rest = &records[..];
        while !rest.is_empty() && server.read_tls(&mut rest).is_ok() {
            let _ = server.process_new_packets();
        }
        let mut records = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut records).expect("memory takes all");
        }
        let mut rest = &records[..];
        while !rest.is_empty() && client.read_tls(&mut rest).is_ok() {
            let _ = client.process_new_packets();
        }
    }
}

/// The peer of the fuzzer takes every server for the right one.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// PEM files of a TLS config, three of them with zero bytes between: certificate, key, authorities. Also as DER: names.
pub fn pem(input: &[u8]) {
    let _ = node_ids(input);
    let _ = node_ids_in(input);
    let mut files = input.splitn(3, |&byte| byte == 0);
    let mut file = |name: &str| Pem::new(name, files.next().unwrap_or_default());
    let (cert, key, cas) = (file("f.crt"), file("f.key"), file("ca.crt"));
    let pin = String::from_utf8_lossy(input).into_owned();
    let server = ServerSettings {
        require_client_cert: true,
        client_cas: Some(cas.clone()),
        pinned_client_certs: vec![pin.clone()],
        ..ServerSettings::new("s", cert.clone(), key.clone())
    };
    let client = ClientSettings {
        cert: Some(cert),
        key: Some(key),
        root_cas: Some(cas),
        ..ClientSettings::new("c")
    };
    let plain = ServerSettings {
        pinned_client_certs: Vec::new(),
        ..server.clone()
    };
    for (servers, clients) in [(vec![server], vec![]), (vec![plain], vec![]), (vec![], vec![client])] {
        if let Err(error) = Configs::new(&NodeId::new("n"), &servers, &clients, None, Arc::new(Clock)) {
            assert!(!error.is_empty());
        }
    }
}
