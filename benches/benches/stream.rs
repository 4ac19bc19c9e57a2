//! 1 MiB from one end of a native stream to the other: the machines alone, and through two simulated nodes.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use receptor_core::id::PipeId;
use receptor_core::node::io::{Command, Event, Reply};
use receptor_core::rng::Rng;
use receptor_core::stream::{Config, Stream};
use receptor_core::time::{Duration, Instant};
use receptor_sim::pair::Pair;

const SIZE: usize = 1 << 20;

/// Bytes before a packet, as the data header needs them.
const HEADROOM: usize = 36;

/// A stream that both ends know.
fn streams() -> (Stream, Stream) {
    let now = Instant::ZERO;
    let mut sender = Stream::dial(Config::default(), &mut Rng::from_seed([1; 32]), now);
    let syn = sender.poll_transmit(now, 0).expect("a first packet").freeze();
    let receiver = Stream::accept(Config::default(), &syn, now, false).expect("a valid first packet");
    (sender, receiver)
}

/// Carries everything over without loss; time passes by 100 µs per round.
fn transfer(sender: &mut Stream, receiver: &mut Stream, mut data: Bytes) -> usize {
    let (mut now, mut received) = (Instant::ZERO, 0);
    let carry = |now, from: &mut Stream, to: &mut Stream| {
        while let Some(packet) = from.poll_transmit(now, HEADROOM) {
            to.handle_packet(now, packet.freeze().slice(HEADROOM..), false);
        }
    };
    while received < SIZE {
        while let Ok(written) = sender.write(now, data.clone())
            && written > 0
        {
            data = data.slice(written..);
        }
        carry(now, sender, receiver);
        while let Some(chunk) = receiver.read(now) {
            received += black_box(chunk).len();
        }
        now = now + Duration::from_micros(100);
        carry(now, receiver, sender);
        sender.handle_timeout(now);
        receiver.handle_timeout(now);
    }
    received
}

/// Two nodes, and a stream between them: the left one's pipe, and the right one's.
fn nodes() -> (Pair, PipeId, PipeId) {
    let mut pair = Pair::new(1);
    let listen = Command::Listen {
        service: "bench".into(),
        advertise: None,
        tls: None,
    };
    assert!(matches!(pair.ask(Pair::RIGHT, listen), Reply::Service(_)));
    let from = pair.new_pipe(Pair::LEFT);
    let dial = Command::Dial {
        pipe: from,
        node: "right".into(),
        service: "bench".into(),
        tls: None,
    };
    assert_eq!(pair.ask(Pair::LEFT, dial), Reply::Done);
    let accepted = |event: &Event| match event {
        Event::Accepted { pipe, .. } => Some(*pipe),
        _ => None,
    };
    let to = pair
        .host(Pair::RIGHT)
        .events
        .iter()
        .find_map(accepted)
        .expect("an accepted stream");
    (pair, from, to)
}

fn stream(criterion: &mut Criterion) {
    let data = Bytes::from(vec![b'x'; SIZE]);
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("1 MiB between two machines", |bencher| {
        bencher.iter_batched(
            streams,
            |(mut sender, mut receiver)| transfer(&mut sender, &mut receiver, data.clone()),
            BatchSize::LargeInput,
        );
    });
    // The simulator's own work is part of this figure.
    group.sample_size(20);
    group.bench_function("1 MiB between two nodes", |bencher| {
        bencher.iter_batched(
            nodes,
            |(mut pair, from, to)| {
                pair.write(Pair::LEFT, from, &data);
                let arrived = |world: &receptor_sim::world::World| {
                    world
                        .host(Pair::RIGHT)
                        .pipe(to)
                        .is_some_and(|pipe| pipe.inbox.len() == SIZE)
                };
                assert!(pair.run_until(Duration::from_secs(60), arrived));
                pair
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
