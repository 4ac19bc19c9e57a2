//! TLS over a stream: whatever comes over the wire, what is read is a prefix of what was written, and nothing panics.

use std::sync::{Arc, OnceLock};

use receptor_core::stream::secure::{Secure, anonymous};
use rustls::{ClientConfig, ServerConfig};

use crate::source::Source;

type Configs = (Arc<ClientConfig>, Arc<ServerConfig>);

fn configs() -> &'static Configs {
    static CONFIGS: OnceLock<Configs> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = anonymous::COMMON_NAME;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate");
        let server = anonymous::server_config(certificate.der().to_vec(), key.serialize_der());
        let client = anonymous::client_config().expect("a config");
        (client, server.expect("a config"))
    })
}

struct End {
    secure: Secure,
    /// On its way to this end.
    wire: Vec<u8>,
    written: Vec<u8>,
    has_finished: bool,
    read: usize,
}

impl End {
    fn new(secure: Secure) -> Self {
        Self {
            secure,
            wire: Vec::new(),
            written: Vec::new(),
            has_finished: false,
            read: 0,
        }
    }
}

/// Two ends and a wire that does what the input says.
pub fn secure(input: &[u8]) {
    let (client, server) = configs();
    let mut ends = [
        End::new(Secure::client(Arc::clone(client)).expect("a client")),
        End::new(Secure::server(Arc::clone(server)).expect("a server")),
    ];
    let mut source = Source::new(input);
    while !source.is_empty() {
        let side = source.below(2);
        operation(&mut ends, side, &mut source);
        for side in 0..2 {
            settle(&mut ends, side);
        }
    }
}

fn operation(ends: &mut [End; 2], side: usize, source: &mut Source<'_>) {
    let end = &mut ends[side];
    match source.below(10) {
        0..=2 => {
            let wire = std::mem::take(&mut end.wire);
            end.secure.handle_data(&wire);
        }
        3 => {
            let count = end.wire.len().min(source.number() as usize);
            let rest = end.wire.split_off(count);
            let first = std::mem::replace(&mut end.wire, rest);
            end.secure.handle_data(&first);
        }
        4 => end.secure.handle_data(source.bytes()),
        5 => {
            let at = source.number() as usize;
            if let Some(byte) = end.wire.get_mut(at) {
                *byte ^= source.byte();
            }
        }
        6 => {
            let more = source.bytes();
            let count = end.secure.write(more);
            end.written.extend_from_slice(&more[..count]);
        }
        7 => {
            let count = source.number() as usize % 200_000;
            let count = end.secure.write(&vec![7; count]);
            end.written.resize(end.written.len() + count, 7);
        }
        8 => {
            end.has_finished |= !end.secure.is_handshaking() && end.secure.error().is_none();
            end.secure.finish();
        }
        _ => end.secure.handle_eof(),
    }
}

/// Moves what an end has to say to the wire, and looks at what it has for its user.
fn settle(ends: &mut [End; 2], side: usize) {
    let [one, two] = ends;
    let (end, other) = if side == 0 { (one, two) } else { (two, one) };
    while let Some(records) = end.secure.poll_transmit() {
        other.wire.extend_from_slice(&records);
    }
    while let Some(plain) = end.secure.read() {
        let expected = other.written.get(end.read..end.read + plain.len());
        assert_eq!(expected, Some(&plain[..]), "bytes that were never written");
        end.read += plain.len();
    }
    if end.secure.is_finished() {
        assert!(other.has_finished && end.read == other.written.len(), "an early end");
    }
}
