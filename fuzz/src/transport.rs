//! Layers of a link: whatever the connection does, frames come out as they went in, or not at all.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use receptor_core::config::HttpProxy;
use receptor_core::link::transport::{MAX_MESSAGE, Transport, Url};
use receptor_core::tls::Records;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::source::Source;

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

/// For TLS 1.2 and 1.3.
fn configs() -> &'static [Configs; 2] {
    static CONFIGS: OnceLock<[Configs; 2]> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["hub".to_owned()]).expect("a name");
        let certificate: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        [&rustls::version::TLS12, &rustls::version::TLS13].map(|version| {
            let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key)
                .expect("a certificate");
            (Arc::new(client), Arc::new(server))
        })
    })
}

struct End {
    transport: Transport,
    /// On its way to this end.
    wire: Vec<u8>,
    /// Somebody else has had a hand in it.
    is_tampered: bool,
    pushed: Vec<BytesMut>,
    read: usize,
}

impl End {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            wire: Vec::new(),
            is_tampered: false,
            pushed: Vec::new(),
            read: 0,
        }
    }
}

/// Two ends, with layers that the input chooses, and a wire that does what it says.
pub fn transport(input: &[u8]) {
    let mut source = Source::new(input);
    let layers = source.byte();
    let url = Url::parse("wss://hub/mesh").expect("a URL");
    let (mut near, mut far) = if layers & 1 == 0 {
        (Transport::lengths(), Transport::lengths())
    } else {
        let near = Transport::web_socket_client(&url, None).expect("no header");
        (near, Transport::web_socket_server("/mesh"))
    };
    let is_secure = layers & 2 != 0;
    if is_secure {
        let (client, server) = &configs()[usize::from(layers >> 2 & 1)];
        let name = ServerName::try_from("hub").expect("a name");
        near = near.over_tls(Records::client(Arc::clone(client), name).expect("a client"));
        far = far.over_tls(Records::server(Arc::clone(server)).expect("a server"));
    }
    let mut ends = [End::new(near), End::new(far)];
    if layers & 8 != 0 {
        let proxy = HttpProxy {
            address: "proxy:1".into(),
            credentials: Some("me:secret".into()),
        };
        let near = std::mem::replace(&mut ends[0].transport, Transport::lengths());
        ends[0].transport = near.through_proxy("hub:443", &proxy);
        assert!(ends[0].transport.poll_transmit().is_some());
        ends[0].wire = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    }
    while !source.is_empty() {
        let side = source.below(2);
        operation(&mut ends[side], &mut source);
        for side in 0..2 {
            settle(&mut ends, side, is_secure);
        }
    }
}

fn operation(end: &mut End, source: &mut Source<'_>) {
    match source.below(10) {
        0..=2 => {
            let wire = std::mem::take(&mut end.wire);
            end.transport.handle_bytes(&wire);
        }
        3 => {
            let step = 1 + source.number() as usize % 100;
            let wire = std::mem::take(&mut end.wire);
            wire.chunks(step).for_each(|part| end.transport.handle_bytes(part));
        }
        4 => {
            end.is_tampered = true;
            end.transport.handle_bytes(source.bytes());
        }
        5 => {
            let at = source.number() as usize;
            if let Some(byte) = end.wire.get_mut(at) {
                end.is_tampered = true;
                *byte ^= source.byte();
            }
        }
        6 | 7 => {
            let frame = BytesMut::from(source.bytes());
            push(end, frame);
        }
        8 => {
            let len = source.number() as usize % 70_000;
            push(end, BytesMut::zeroed(len));
        }
        _ if source.flag() => end.transport.handle_eof(),
        _ => end.transport.finish(),
    }
}

fn push(end: &mut End, frame: BytesMut) {
    if !frame.is_empty() && frame.len() <= 65_535 && !end.transport.is_handshaking() {
        end.pushed.push(frame.clone());
        end.transport.push_frame(frame);
    }
}

fn settle(ends: &mut [End; 2], side: usize, is_secure: bool) {
    let [one, two] = ends;
    let (end, other) = if side == 0 { (one, two) } else { (two, one) };
    while let Some(bytes) = end.transport.poll_transmit() {
        other.wire.extend_from_slice(&bytes);
    }
    while let Some(frame) = end.transport.poll_frame() {
        assert!(!frame.is_empty() && frame.len() <= MAX_MESSAGE);
        if is_secure || !end.is_tampered {
            assert_eq!(other.pushed.get(end.read), Some(&frame), "a frame that was never sent");
            end.read += 1;
        }
    }
}

/// A WebSocket listener with a peer that upgrades and then sends anything, in slices.
pub fn websocket(input: &[u8]) {
    let mut source = Source::new(input);
    let mut transport = Transport::web_socket_server("/");
    if source.flag() {
        transport.handle_bytes(
            b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(!transport.is_handshaking() && transport.end().is_none());
    }
    let step = 1 + source.number() as usize % 100;
    let (mut given, mut taken) = (0, 0);
    for part in source.rest().chunks(step) {
        given += part.len();
        transport.handle_bytes(part);
        while let Some(frame) = transport.poll_frame() {
            assert!(!frame.is_empty() && frame.len() <= MAX_MESSAGE);
            taken += frame.len();
        }
        assert!(taken <= given, "more came out than went in");
        while let Some(bytes) = transport.poll_transmit() {
            assert!(!bytes.is_empty());
        }
    }
    transport.finish();
    while transport.poll_transmit().is_some() {}
}
