//! TLS over a stream, alone: bytes per second made into records and read out of them, and handshakes.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use receptor_core::stream::secure::{Secure, anonymous};

/// As an adapter writes.
const PIECE: usize = 64 << 10;

/// As the segments of a stream bring it.
const SEGMENT: usize = 16_300;

fn carry(from: &mut Secure, to: &mut Secure) {
    while let Some(records) = from.poll_transmit() {
        to.handle_data(&records);
    }
}

/// Makes pairs of ends that have done nothing yet.
fn ends() -> impl Fn() -> (Secure, Secure) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = anonymous::COMMON_NAME;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a certificate");
    let server = anonymous::server_config(certificate.der().to_vec(), key.serialize_der()).expect("a config");
    let client = anonymous::client_config().expect("a config");
    move || {
        let client = Secure::client(Arc::clone(&client)).expect("a client");
        let server = Secure::server(Arc::clone(&server)).expect("a server");
        (client, server)
    }
}

fn handshake((mut client, mut server): (Secure, Secure)) -> (Secure, Secure) {
    carry(&mut client, &mut server);
    carry(&mut server, &mut client);
    carry(&mut client, &mut server);
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

fn secure(criterion: &mut Criterion) {
    let ends = ends();
    let data = vec![7; PIECE];
    let mut group = criterion.benchmark_group("secure");
    group.bench_function("handshake", |bencher| {
        bencher.iter_batched(&ends, handshake, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Bytes(PIECE as u64));
    let (mut client, _server) = handshake(ends());
    group.bench_function("write", |bencher| {
        bencher.iter(|| {
            assert_eq!(client.write(black_box(&data)), PIECE);
            while let Some(record) = client.poll_transmit() {
                black_box(record);
            }
        });
    });
    let (mut client, mut server) = handshake(ends());
    group.bench_function("read", |bencher| {
        bencher.iter_batched(
            || {
                client.write(&data);
                std::iter::from_fn(|| client.poll_transmit())
                    .collect::<Vec<_>>()
                    .concat()
            },
            |records| {
                for segment in records.chunks(SEGMENT) {
                    server.handle_data(segment);
                    while let Some(plain) = server.read() {
                        black_box(plain);
                    }
                }
            },
            // One at a time: records have their order.
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, secure);
criterion_main!(benches);
