//! What only TLS can do wrong.

use alloc::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;

/// Configs of a client and a server that trust each other, made for one version or any.
pub(super) fn configs(tls12: bool) -> (Arc<ClientConfig>, Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["hub".to_string()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = || PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = if tls12 {
        &[&rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key())
        .unwrap();
    (Arc::new(client), Arc::new(server), certificate)
}

pub(super) fn client(config: &Arc<ClientConfig>, name: &'static str) -> Records {
    Records::client(Arc::clone(config), ServerName::try_from(name).unwrap()).unwrap()
}

pub(super) fn server(config: &Arc<ServerConfig>) -> Records {
    Records::server(Arc::clone(config)).unwrap()
}

#[test]
fn the_certificate_is_told() {
    let (client_config, server_config, certificate) = configs(false);
    let mut a = Transport::lengths().over_tls(client(&client_config, "hub"));
    let mut b = Transport::lengths().over_tls(server(&server_config));
    assert_eq!(a.peer_certificate(), None);
    settle(&mut a, &mut b, usize::MAX);
    assert_eq!(a.peer_certificate(), Some(&certificate[..]));
    assert_eq!(b.peer_certificate(), None);
}

#[test]
fn a_wrong_name_fails_at_both_ends() {
    let (client_config, server_config, _) = configs(false);
    let mut a = Transport::lengths().over_tls(client(&client_config, "other"));
    let mut b = Transport::lengths().over_tls(server(&server_config));
    settle(&mut a, &mut b, usize::MAX);
    assert!(failure(&a).contains("not valid for name"), "{}", failure(&a));
    assert_eq!(failure(&b), "tls: bad certificate");
}

#[test]
fn what_is_no_tls_fails_with_an_alert() {
    let (_, server_config, _) = configs(false);
    let mut b = Transport::lengths().over_tls(server(&server_config));
    b.handle_bytes(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n");
    assert!(failure(&b).starts_with("tls: "), "{}", failure(&b));
    assert!(b.poll_transmit().is_some());
    assert!(b.poll_transmit().is_none());
}

#[test]
fn an_endless_handshake_ends() {
    let (_, server_config, _) = configs(false);
    let mut b = Transport::lengths().over_tls(server(&server_config));
    // Records of a handshake message that never ends.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    for _ in 0..9 {
        b.handle_bytes(&record);
        record[5] = 0;
    }
    assert!(b.end().is_some());
}

#[test]
fn the_end_is_told_behind_the_last_frame() {
    for tls12 in [true, false] {
        let (client_config, server_config, _) = configs(tls12);
        let mut a = Transport::lengths().over_tls(client(&client_config, "hub"));
        let mut b = Transport::lengths().over_tls(server(&server_config));
        settle(&mut a, &mut b, usize::MAX);
        a.push_frame(frame(1, 100_000 % 65_536));
        a.finish();
        a.finish();
        let [_, frames] = settle(&mut a, &mut b, usize::MAX);
        assert_eq!(frames.len(), 1);
        assert_eq!(b.end(), Some(&End::Closed));
        // The other half may go on.
        b.handle_bytes(b"nonsense");
        assert_eq!(b.end(), Some(&End::Closed));
    }
}

#[test]
fn a_broken_record_is_an_end_with_a_reason() {
    let (client_config, server_config, _) = configs(false);
    let mut a = Transport::lengths().over_tls(client(&client_config, "hub"));
    let mut b = Transport::lengths().over_tls(server(&server_config));
    settle(&mut a, &mut b, usize::MAX);
    a.push_frame(frame(1, 100));
    let mut bytes = a.poll_transmit().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    b.handle_bytes(&bytes);
    assert!(failure(&b).contains("decrypt"), "{}", failure(&b));
    let [_, _] = settle(&mut b, &mut a, usize::MAX);
    assert_eq!(failure(&a), "tls: bad record mac");
}
