//! A forwarded data frame costs no allocation: header looked at, one byte patched, slice queued, slice pulled.

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use receptor_core::firewall::Rules;
use receptor_core::id::LinkId;
use receptor_core::link::framing;
use receptor_core::time::Duration;
use receptor_tests::counting::{Counting, allocations_of};
use receptor_tests::relay::{Relay, data};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames cut from one buffer, as an adapter reads them.
fn frames(count: usize, payload: usize) -> Vec<BytesMut> {
    let frame = data("left", "right", payload);
    let prefix = framing::prefix(frame.len()).expect("a legal length");
    let mut buffer = BytesMut::with_capacity(count * (prefix.len() + frame.len()));
    for _ in 0..count {
        buffer.put_slice(&prefix);
        buffer.put_slice(&frame);
    }
    std::iter::from_fn(|| framing::next_frame(&mut buffer)).collect()
}

#[test]
fn forwarding_allocates_nothing() {
    forward_through(Relay::new(&["left", "right"]));
}

/// Rules are asked once about these flows, which is while nobody counts.
#[test]
fn forwarding_behind_a_firewall_allocates_nothing() {
    let rules = [
        [("action", Some("drop")), ("fromnode", Some("/(?i)EDGE-[0-9]+/"))],
        [("action", Some("accept")), ("toservice", Some("/rec.*/"))],
    ];
    let rules = Rules::from_fields(rules).expect("good rules");
    forward_through(Relay::with_firewall(&["left", "right"], rules));
}

fn forward_through(mut relay: Relay) {
    const BATCH: usize = 64;
    const BATCHES: usize = 20;
    let (from, to) = (LinkId(0), LinkId(1));
    let mut pulled = Vec::with_capacity(BATCH);
    let mut forward = |batch: Vec<BytesMut>| {
        let count = batch.len();
        for frame in batch {
            relay.frame(from, frame);
        }
        // The one output of a batch is the signal that frames wait.
        while let Some(output) = relay.node.poll_output() {
            black_box(output);
        }
        black_box(relay.node.next_deadline());
        relay.pull(to, &mut pulled);
        assert_eq!(pulled.len(), count, "frames were not forwarded");
        pulled.clear();
    };

    assert!(
        allocations_of(|| drop(black_box(vec![0; 8]))) > 0,
        "the allocator does not count"
    );
    for payload in [0, 64, 1400, 16 << 10] {
        forward(frames(BATCH, payload));
        let batches: Vec<_> = (0..BATCHES).map(|_| frames(BATCH, payload)).collect();
        let count = allocations_of(|| batches.into_iter().for_each(&mut forward));
        assert_eq!(
            count,
            0,
            "allocations for {} frames of {payload} bytes",
            BATCH * BATCHES
        );
    }
}

#[test]
fn waiting_allocates_nothing() {
    const ROUND: usize = 32;
    const ROUNDS: usize = 50;
    let (from, to) = (LinkId(0), LinkId(1));
    let mut relay = Relay::new(&["left", "right"]);
    let mut pulled = Vec::with_capacity(2 * ROUND);
    let mut round = |batch: Vec<BytesMut>, bytes: usize| {
        relay.advance(Duration::from_micros(100));
        for frame in batch {
            relay.frame(from, frame);
        }
        while let Some(output) = relay.node.poll_output() {
            black_box(output);
        }
        relay.pull_some(to, bytes, &mut pulled);
        let count = pulled.len();
        pulled.clear();
        count
    };
    for payload in [64, 1400, 16 << 10] {
        let frame_len = data("left", "right", payload).len();
        // Some hundred frames wait, and the blocks of memory they wait in have all been used.
        for _ in 0..10 {
            round(frames(ROUND, payload), 1);
        }
        for _ in 0..100 {
            assert_eq!(round(frames(ROUND, payload), ROUND * frame_len), ROUND);
        }
        let batches: Vec<_> = (0..ROUNDS).map(|_| frames(ROUND, payload)).collect();
        let count = allocations_of(|| {
            for batch in batches {
                assert_eq!(round(batch, ROUND * frame_len), ROUND);
            }
        });
        assert_eq!(
            count,
            0,
            "allocations for {} waiting frames of {payload} bytes",
            ROUND * ROUNDS
        );
        round(Vec::new(), usize::MAX);
    }
}
