//! Both ends without sockets, and rustls as it comes as the other end where that would do what we do not.

extern crate std;

use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use rustls::{ContentType, HandshakeKind, ProtocolVersion};
use std::io::{Read as _, Write as _};

use super::anonymous::{COMMON_NAME, client_config, server_config};
use super::*;
use crate::tls::OpenRecords;

/// A throw-away certificate and its key.
pub(super) fn certificate(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "some");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

fn server_named(name: &str) -> Arc<ServerConfig> {
    let (certificate, key) = certificate(name);
    server_config(certificate, key).unwrap()
}

fn ends() -> (Secure, Secure) {
    let client = Secure::client(client_config().unwrap()).unwrap();
    let server = Secure::server(server_named(COMMON_NAME)).unwrap();
    (client, server)
}

/// Everything one end has to send.
fn sent(from: &mut Secure) -> Vec<u8> {
    core::iter::from_fn(|| from.poll_transmit())
        .collect::<Vec<_>>()
        .concat()
}

/// Carries what one end has to send to the other, in pieces of this size; says how much it was.
fn carry(from: &mut Secure, to: &mut Secure, piece: usize) -> usize {
    let mut count = 0;
    while let Some(data) = from.poll_transmit() {
        count += data.len();
        data.chunks(piece).for_each(|piece| to.handle_data(piece));
    }
    count
}

fn settle(a: &mut Secure, b: &mut Secure) {
    while carry(a, b, usize::MAX) + carry(b, a, usize::MAX) > 0 {}
}

fn connected() -> (Secure, Secure) {
    let (mut client, mut server) = ends();
    settle(&mut client, &mut server);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

fn all(secure: &mut Secure) -> Vec<u8> {
    core::iter::from_fn(|| secure.read()).collect::<Vec<_>>().concat()
}

fn write_all(from: &mut Secure, mut data: &[u8]) {
    while !data.is_empty() {
        let count = from.write(data);
        assert!(count > 0);
        data = &data[count..];
    }
}

#[test]
fn the_handshake_takes_one_round_trip() {
    let (mut client, mut server) = ends();
    carry(&mut client, &mut server, usize::MAX);
    assert!(server.is_handshaking());
    carry(&mut server, &mut client, usize::MAX);
    assert!(!client.is_handshaking(), "{client:?}");
    write_all(&mut client, b"with the last message of the handshake");
    carry(&mut client, &mut server, usize::MAX);
    assert!(!server.is_handshaking());
    assert_eq!(all(&mut server), b"with the last message of the handshake");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bytes_arrive_in_any_slicing(
        piece in prop_oneof![1usize..40, 1000usize..40_000],
        lengths in prop::collection::vec(prop_oneof![0usize..100, 0usize..300_000], 1..6),
    ) {
        let (mut client, mut server) = ends();
        while carry(&mut client, &mut server, piece) + carry(&mut server, &mut client, piece) > 0 {}
        prop_assert!(!client.is_handshaking() && !server.is_handshaking());
        for (index, length) in lengths.into_iter().enumerate() {
            let data: Vec<u8> = (0..length).map(|at| (at * 7 + index) as u8).collect();
            write_all(&mut client, &data);
            carry(&mut client, &mut server, piece.max(length / 100));
            prop_assert!(all(&mut server) == data);
            write_all(&mut server, &data);
            carry(&mut server, &mut client, piece.max(length / 100));
            prop_assert!(all(&mut client) == data);
        }
    }
}

#[test]
fn each_half_ends_on_its_own_and_an_end_without_notice_is_a_truncation() {
    let (mut client, mut server) = connected();
    write_all(&mut client, b"question");
    client.finish();
    assert_eq!(client.write(b"more"), 0);
    carry(&mut client, &mut server, usize::MAX);
    assert!(!server.is_finished(), "there is something to read");
    assert_eq!(all(&mut server), b"question");
    assert!(server.is_finished());
    server.handle_eof();
    assert_eq!(server.error(), None);
    write_all(&mut server, &[9; 100_000]);
    carry(&mut server, &mut client, 1000);
    assert_eq!(all(&mut client), [9; 100_000]);
    assert!(!client.is_finished());
    client.handle_eof();
    assert_eq!(client.error(), Some(&SecureError::Truncated));
    assert!(!client.is_finished());
}

#[test]
fn an_end_within_the_handshake_is_an_error() {
    let (mut client, mut server) = ends();
    carry(&mut client, &mut server, usize::MAX);
    client.handle_eof();
    assert_eq!(client.error(), Some(&SecureError::Truncated));
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let (mut client, mut server) = connected();
    write_all(&mut client, &[1; 40_000]);
    let records = sent(&mut client);
    for at in (0..records.len()).step_by(601) {
        let (mut client, mut server) = connected();
        write_all(&mut client, &[1; 40_000]);
        let mut records = sent(&mut client);
        records[at] ^= 0x10;
        server.handle_data(&records);
        server.handle_eof();
        assert!(server.error().is_some(), "byte {at}");
        let whole = all(&mut server);
        assert!(whole.len() < 40_000 && whole.iter().all(|&byte| byte == 1), "byte {at}");
        // The peer is told why.
        carry(&mut server, &mut client, usize::MAX);
        assert!(client.error().is_some() || at < 5, "byte {at}");
    }
    // Records that come twice, or that are missing, too.
    server.handle_data(&records);
    assert_eq!(all(&mut server).len(), 40_000);
    server.handle_data(&records);
    assert!(server.error().is_some());
    assert_eq!(server.read(), None);
}

#[test]
fn another_name_is_refused() {
    for name in [
        "",
        "receptor",
        "netceptor-insecure-common-nam",
        "netceptor-insecure-common-name2",
    ] {
        let mut client = Secure::client(client_config().unwrap()).unwrap();
        let mut server = Secure::server(server_named(name)).unwrap();
        settle(&mut client, &mut server);
        assert!(client.is_handshaking() && client.error().is_some(), "{name:?}");
        assert!(server.error().is_some(), "{name:?}: the listener is told");
    }
}

#[test]
fn a_listener_without_the_key_of_its_certificate_is_refused() {
    let (certificate, _) = certificate(COMMON_NAME);
    let (_, key) = self::certificate(COMMON_NAME);
    // rustls does not even let us try, so the certificate alone is stolen and shown with another key.
    assert!(server_config(certificate.clone(), key.clone()).is_err());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider
        .key_provider
        .load_private_key(rustls::pki_types::PrivateKeyDer::Pkcs8(key.into()))
        .unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate.into()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut client = Secure::client(client_config().unwrap()).unwrap();
    let mut server = Secure::server(Arc::new(config)).unwrap();
    settle(&mut client, &mut server);
    assert!(client.is_handshaking());
    assert!(
        client.error().unwrap().to_string().contains("BadSignature"),
        "{client:?}"
    );
}

#[test]
fn who_does_not_speak_tls_is_told_apart_at_once() {
    for greeting in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"Receptor Control, node x\n", &[0; 20]] {
        let (mut client, mut server) = ends();
        client.handle_data(greeting);
        server.handle_data(greeting);
        assert!(client.error().is_some() && server.error().is_some(), "{greeting:?}");
        let error = client.error().unwrap().to_string();
        assert!(error.starts_with("TLS: "), "{error}");
    }
}

#[test]
fn a_handshake_without_end_is_given_up() {
    // Certificate messages may be 64 KiB long, and a client may send empty records for ever.
    let mut server = Secure::server(server_named(COMMON_NAME)).unwrap();
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    for _ in 0..20 {
        server.handle_data(&record);
        record[5..9].fill(0);
    }
    assert!(server.error().is_some());
}

#[test]
fn another_protocol_in_tls_is_refused_by_both() {
    for alpn in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut foreign = (*client_config().unwrap()).clone();
        foreign.alpn_protocols.clone_from(&alpn);
        let mut client = Secure::client(Arc::new(foreign)).unwrap();
        let mut server = Secure::server(server_named(COMMON_NAME)).unwrap();
        settle(&mut client, &mut server);
        assert!(server.error().is_some(), "{alpn:?}");

        let mut foreign = (*server_named(COMMON_NAME)).clone();
        foreign.alpn_protocols.clone_from(&alpn);
        let mut client = Secure::client(client_config().unwrap()).unwrap();
        let mut server = Secure::server(Arc::new(foreign)).unwrap();
        settle(&mut client, &mut server);
        assert!(client.error().is_some(), "{alpn:?}");
    }
}

/// A client that would resume and send early data, if it were let.
fn eager_client() -> Arc<ClientConfig> {
    let mut config = (*client_config().unwrap()).clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    Arc::new(config)
}

fn exchange(client: &mut rustls::ClientConnection, server: &mut Secure) {
    for _ in 0..4 {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).unwrap();
        }
        server.handle_data(&records);
        while let Some(data) = server.poll_transmit() {
            let mut data = &data[..];
            while !data.is_empty() {
                client.read_tls(&mut data).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }
}

#[test]
fn a_client_that_wants_to_resume_finds_nothing_to_resume_with() {
    let (client, server) = (eager_client(), server_named(COMMON_NAME));
    for _ in 0..3 {
        let mut client = rustls::ClientConnection::new(Arc::clone(&client), "receptor".try_into().unwrap()).unwrap();
        let mut server = Secure::server(Arc::clone(&server)).unwrap();
        assert!(client.early_data().is_none());
        exchange(&mut client, &mut server);
        assert!(!server.is_handshaking());
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.tls13_tickets_received(), 0);
        let suite = client.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let group = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::secp256r1);
    }
}

#[test]
fn a_server_that_hands_out_tickets_sees_full_handshakes_only() {
    let mut config = (*server_named(COMMON_NAME)).clone();
    config.send_tls13_tickets = 4;
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
    config.max_early_data_size = 1000;
    let (client, server) = (client_config().unwrap(), Arc::new(config));
    for _ in 0..3 {
        let mut client = Secure::client(Arc::clone(&client)).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        for _ in 0..3 {
            while let Some(data) = client.poll_transmit() {
                let mut data = &data[..];
                while !data.is_empty() {
                    server.read_tls(&mut data).unwrap();
                    server.process_new_packets().unwrap();
                }
            }
            assert!(server.early_data().is_none());
            let mut records = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut records).unwrap();
            }
            client.handle_data(&records);
        }
        assert!(!client.is_handshaking() && client.error().is_none());
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

fn keys(secure: &mut Secure) -> &mut OpenRecords {
    secure.records.opened().0
}

/// Seals any message as the peer of a test.
fn send_raw(from: &mut Secure, typ: ContentType, message: &[u8]) {
    let (keys, outgoing) = from.records.opened();
    keys.seal_one(typ, message, outgoing).unwrap();
}

#[test]
fn keys_change_before_they_are_used_up() {
    let (mut client, mut server) = connected();
    for _ in 0..3 {
        keys(&mut client).set_limit(5);
        keys(&mut server).set_limit(3);
        let data: Vec<u8> = (0..400_000_u32).map(|n| (n % 253) as u8).collect();
        write_all(&mut client, &data);
        carry(&mut client, &mut server, 7000);
        assert!(all(&mut server) == data);
        write_all(&mut server, &data);
        carry(&mut server, &mut client, 7000);
        assert!(all(&mut client) == data);
    }
}

/// rustls as it comes is the other end: what it says after the handshake is understood, and it understands us.
#[test]
fn changes_of_keys_are_followed_and_answered() {
    let name = "receptor".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(client_config().unwrap(), name).unwrap();
    let mut server = Secure::server(server_named(COMMON_NAME)).unwrap();
    exchange(&mut client, &mut server);
    for round in 0..3 {
        // It asks us to change ours, too.
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"with new keys").unwrap();
        exchange(&mut client, &mut server);
        assert_eq!(all(&mut server), b"with new keys", "round {round}");
        write_all(&mut server, b"answer");
        // And of our own will.
        keys(&mut server).set_limit(1);
        write_all(&mut server, b", and new keys of its own");
        exchange(&mut client, &mut server);
        let mut answer = [0; 31];
        client.reader().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer, and new keys of its own");
    }
    client.send_close_notify();
    server.finish();
    exchange(&mut client, &mut server);
    assert!(server.is_finished() && server.error().is_none());
    assert_eq!(client.reader().read(&mut [0]).unwrap(), 0, "an announced end");
}

#[test]
fn messages_after_the_handshake_come_split_and_joined() {
    // Two tickets, the second in three parts, between them a warning that means nothing; then a change of keys.
    let (mut client, mut server) = connected();
    let ticket = [4, 0, 0, 3, 1, 2, 3];
    send_raw(
        &mut server,
        ContentType::Handshake,
        &[&ticket[..], &ticket[..2]].concat(),
    );
    send_raw(&mut server, ContentType::Handshake, &ticket[2..6]);
    send_raw(&mut server, ContentType::Handshake, &ticket[6..]);
    send_raw(&mut server, ContentType::Alert, &[1, 90]);
    send_raw(&mut server, ContentType::ApplicationData, &[]);
    write_all(&mut server, b"data");
    carry(&mut server, &mut client, 11);
    assert_eq!((all(&mut client), client.error()), (b"data".to_vec(), None));
}

#[test]
fn what_makes_no_sense_after_the_handshake_is_refused_and_told() {
    let (handshake, alert, data) = (ContentType::Handshake, ContentType::Alert, ContentType::ApplicationData);
    let huge = [&[4, 0xff, 0xff, 0xff][..], &[0; 100]].concat();
    type Messages<'a> = &'a [(ContentType, &'a [u8])];
    let cases: [(&str, Messages<'_>); 11] = [
        ("a second hello", &[(handshake, &[1, 0, 0, 0])]),
        ("a ticket from a client", &[(handshake, &[4, 0, 0, 0])]),
        (
            "a request that is neither yes nor no",
            &[(handshake, &[24, 0, 0, 1, 2])],
        ),
        ("a change of keys without content", &[(handshake, &[24, 0, 0, 0])]),
        ("more under the old keys", &[(handshake, &[24, 0, 0, 1, 0, 24])]),
        ("no message", &[(handshake, &[])]),
        ("a message without end", &[(handshake, &huge)]),
        ("data within a message", &[(handshake, &[24, 0]), (data, b"x")]),
        ("half an alert", &[(alert, &[1])]),
        ("an alert", &[(alert, &[2, 80])]),
        ("a type nobody knows", &[(ContentType::from(99), b"x")]),
    ];
    for (name, messages) in cases {
        let (mut client, mut server) = connected();
        for (typ, message) in messages {
            send_raw(&mut client, *typ, message);
        }
        write_all(&mut client, b"never read");
        carry(&mut client, &mut server, usize::MAX);
        assert!(server.error().is_some(), "{name}");
        assert_eq!(server.read(), None, "{name}");
        assert_eq!(server.write(b"x"), 0, "{name}");
        carry(&mut server, &mut client, usize::MAX);
        assert_eq!(client.error().is_some(), name != "an alert", "{name}");
    }
}

#[test]
fn records_that_are_none_are_refused() {
    for header in [
        [0x15, 3, 3, 0, 2],
        [0x14, 3, 3, 0, 1],
        [0x17, 3, 1, 0, 30],
        [0x17, 3, 3, 0x41, 1],
        [0x17, 3, 3, 0, 0],
        [0x17, 3, 3, 0, 16],
    ] {
        let (mut client, mut server) = connected();
        server.handle_data(&header);
        server.handle_data(&[0; 100]);
        assert!(server.error().is_some(), "{header:?}");
        carry(&mut server, &mut client, usize::MAX);
        assert!(client.error().is_some(), "{header:?}");
    }
}

#[test]
fn messages_without_use_come_to_an_end() {
    let (mut client, mut server) = connected();
    for round in 0..100 {
        client.records.change_keys();
        carry(&mut client, &mut server, usize::MAX);
        if round < 30 {
            assert_eq!(server.error(), None);
        }
    }
    assert!(server.error().is_some());
    // With bytes of the user between them they may go on for ever.
    let (mut client, mut server) = connected();
    for _ in 0..100 {
        client.records.change_keys();
        write_all(&mut client, b"x");
        carry(&mut client, &mut server, usize::MAX);
        assert_eq!(all(&mut server), b"x");
    }
}

#[test]
fn every_suite_is_spoken_with_every_config() {
    use rustls::crypto::aws_lc_rs::cipher_suite::*;
    for suite in [
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = vec![suite];
        let (certificate, key) = certificate(COMMON_NAME);
        // Made by somebody who has not heard of our needs.
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.into()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.into()),
            )
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = Secure::client(client_config().unwrap()).unwrap();
        let mut server = Secure::server(Arc::new(config)).unwrap();
        settle(&mut client, &mut server);
        keys(&mut client).set_limit(2);
        write_all(&mut client, &[5; 200_000]);
        carry(&mut client, &mut server, 30_000);
        assert!(all(&mut server) == [5; 200_000]);
    }
}

#[test]
fn a_record_is_opened_where_it_came() {
    let (mut client, mut server) = connected();
    write_all(&mut client, &[1; 20_000]);
    let both = sent(&mut client);
    server.handle_data(&both);
    let (first, second) = (server.read().unwrap(), server.read().unwrap());
    assert_eq!((first.len(), second.len()), (16_384, 3616));
    let between = second.as_ptr() as usize - first.as_ptr() as usize;
    assert_eq!(between, 16_384 + 22, "slices of the same memory");
}

#[test]
fn records_fit_where_they_were_said_to_fit() {
    let (mut client, _server) = connected();
    for room in [
        0,
        1,
        149,
        150,
        151,
        1000,
        16_405,
        16_406,
        16_600,
        65_536,
        100_000,
        131_072,
        1 << 20,
    ] {
        let count = Secure::plain_room(room);
        if count > 0 {
            assert_eq!(client.write(&vec![0; count]), count);
            let records = sent(&mut client);
            assert!(records.len() <= room, "{} bytes for room of {room}", records.len());
        }
        assert!(room < 200 || count * 10 > room.min(WRITE_MAX) * 3, "{count} of {room}");
    }
}

#[test]
fn nonsense_after_our_own_end_is_an_error_like_any_other() {
    let (mut client, mut server) = connected();
    write_all(&mut server, b"answer");
    let mut records = server.poll_transmit().unwrap().to_vec();
    records[10] ^= 1;
    client.finish();
    client.handle_data(&records);
    assert!(client.error().is_some());
    assert_eq!(client.read(), None);
}

#[test]
fn a_server_that_hands_out_tickets_goes_on_with_keys_of_its_own() {
    let mut config = (*server_named(COMMON_NAME)).clone();
    config.send_tls13_tickets = 3;
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
    let mut client = Secure::client(client_config().unwrap()).unwrap();
    let mut server = Secure::server(Arc::new(config)).unwrap();
    settle(&mut client, &mut server);
    for _ in 0..3 {
        write_all(&mut server, &[9; 300_000]);
        carry(&mut server, &mut client, 5000);
        assert!(all(&mut client) == [9; 300_000]);
        write_all(&mut client, &[8; 300_000]);
        carry(&mut client, &mut server, 5000);
        assert!(all(&mut server) == [8; 300_000]);
    }
}
