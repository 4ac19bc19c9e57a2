//! Whole nodes ask nothing of the allocator for a segment: not the one that sends, nor the relay, nor the one that receives.

use bytes::Bytes;
use receptor_core::time::Duration;
use receptor_tests::counting::{Counting, allocations};
use receptor_tests::line::Line;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_segment_costs_no_allocation_on_its_whole_way() {
    const PIECE: usize = 64 << 10;
    let data = Bytes::from(vec![7; PIECE]);
    let mut line = Line::new();
    let stream = line.dial();
    for end in [stream, stream + 1] {
        line.secured(end);
    }
    // So little that there is always something to send: segments are full then.
    line.limit(100_000);
    let round = |line: &mut Line| {
        while line.ends[stream].credit >= PIECE {
            line.send(stream, data.clone());
            line.settle();
        }
        line.pass(Duration::from_micros(200));
    };
    for _ in 0..5_000 {
        round(&mut line);
    }
    let (before, frames, received) = (allocations(), line.relayed, line.ends[stream + 1].received);
    for _ in 0..1_000 {
        round(&mut line);
    }
    let (count, frames) = (allocations() - before, line.relayed - frames);
    let received = line.ends[stream + 1].received - received;
    println!("{count} allocations for {frames} frames and {received} bytes through three nodes");
    assert!(received > 90 << 20, "{received}");
    assert_eq!(count, 0, "allocations for {frames} frames");
}
