//! One data frame from socket buffer to socket queue: cut from a TCP stream, routed, queued, pulled.

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use receptor_core::firewall::Rules;
use receptor_core::id::LinkId;
use receptor_core::link::framing;
use receptor_sim::relay::{Relay, data};

/// Bytes of a buffer that a socket fills.
const READ: usize = 256 << 10;

/// As many whole frames as a read gives, and how many those are.
fn read(payload: usize) -> (BytesMut, usize) {
    let frame = data("left", "right", payload);
    let prefix = framing::prefix(frame.len()).expect("a legal length");
    let frames = READ / (prefix.len() + frame.len());
    let mut buffer = BytesMut::with_capacity(READ);
    for _ in 0..frames {
        buffer.put_slice(&prefix);
        buffer.put_slice(&frame);
    }
    (buffer, frames)
}

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    let rules = [
        [("action", Some("drop")), ("fromnode", Some("/(?i)edge-[0-9]+/"))],
        [("action", Some("reject")), ("toservice", Some("control"))],
    ];
    let rules = Rules::from_fields(rules).expect("good rules");
    for (payload, rules, name) in [
        (64, Rules::default(), ""),
        (64, rules, ", firewall"),
        (16 << 10, Rules::default(), ""),
    ] {
        let mut relay = Relay::with_firewall(&["left", "right"], rules);
        let (template, frames) = read(payload);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(format!("{payload} B{name}"), |bencher| {
            bencher.iter_batched(
                || (template.clone(), Vec::with_capacity(frames)),
                |(mut buffer, mut pulled)| {
                    while let Some(frame) = framing::next_frame(&mut buffer) {
                        relay.frame(LinkId(0), frame);
                    }
                    while let Some(output) = relay.node.poll_output() {
                        black_box(output);
                    }
                    relay.pull(LinkId(1), &mut pulled);
                    assert_eq!(pulled.len(), frames);
                    // Freed outside the measured time: an adapter uses its buffers again.
                    pulled
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);
