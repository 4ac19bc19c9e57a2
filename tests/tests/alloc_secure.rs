//! What an idle stream holds for TLS, at each end.

use std::fs;
use std::sync::Arc;

use receptor_core::stream::secure::{Secure, anonymous};
use receptor_tests::counting::{Counting, held};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn carry(from: &mut Secure, to: &mut Secure) {
    while let Some(records) = from.poll_transmit() {
        to.handle_data(&records);
    }
}

/// Resident memory of this process in bytes: the keys are in memory that only the kernel counts.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a number of KiB") << 10
}

#[test]
fn an_idle_secured_stream_is_small() {
    const PAIRS: u64 = 1_000;
    /// Twice what is held, the slack of the allocator included.
    const RESIDENT_MAX: u64 = 16 << 10;
    const HELD_MAX: u64 = 5 << 10;
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = anonymous::COMMON_NAME;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a certificate");
    let server = anonymous::server_config(certificate.der().to_vec(), key.serialize_der()).expect("a config");
    let client = anonymous::client_config().expect("a config");
    let used = |data: &[u8]| {
        let mut client = Secure::client(Arc::clone(&client)).expect("a client");
        let mut server = Secure::server(Arc::clone(&server)).expect("a server");
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
        carry(&mut client, &mut server);
        assert!(!client.is_handshaking() && !server.is_handshaking());
        // Each has been used, in both directions.
        assert_eq!((client.write(data), server.write(data)), (data.len(), data.len()));
        carry(&mut client, &mut server);
        carry(&mut server, &mut client);
        for end in [&mut client, &mut server] {
            let read: usize = std::iter::from_fn(|| end.read()).map(|bytes| bytes.len()).sum();
            assert_eq!(read, data.len());
        }
        (client, server)
    };
    let data = vec![7; 100_000];
    drop((0..50).map(|_| used(&data)).collect::<Vec<_>>());
    let before = (held(), resident());
    let pairs: Vec<_> = (0..PAIRS).map(|_| used(&data)).collect();
    let ends = 2 * PAIRS;
    let per_end = (
        (held() - before.0) as u64 / ends,
        resident().saturating_sub(before.1) / ends,
    );
    println!(
        "{} bytes for TLS at each end of an idle stream, {} resident with the keys",
        per_end.0, per_end.1
    );
    assert!(per_end.0 <= HELD_MAX && per_end.1 <= RESIDENT_MAX, "{per_end:?}");
    drop(pairs);
    assert!(held() - before.0 < 100_000, "{} bytes are left", held() - before.0);
}
