use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::id::{NameHash, ServiceName};
use crate::wire::data::{HEADER_LEN, Header};

/// A queue with its budget.
struct Bench {
    egress: Egress,
    budget: Budget,
    now: Instant,
}

impl Bench {
    fn new(limit: usize) -> Self {
        let mut egress = Egress::new(limit, 7);
        egress.set_extended(true);
        Self {
            egress,
            budget: Budget::new(64 << 20),
            now: Instant::ZERO,
        }
    }

    fn push(&mut self, priority: Priority, frame: BytesMut) -> bool {
        let taken = self.egress.push(self.now, priority, frame, &mut self.budget);
        assert_eq!(self.budget.held(), self.egress.held());
        taken
    }

    fn pop(&mut self) -> Option<BytesMut> {
        let frame = self.egress.pop(self.now, &mut self.budget);
        assert_eq!(self.budget.held(), self.egress.held());
        frame
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.egress.settle(&mut self.budget);
        assert_eq!(self.budget.held(), self.egress.held());
    }

    /// Takes about so many bytes, and tells how many were of which flow.
    fn take(&mut self, bytes: usize) -> BTreeMap<u64, usize> {
        let (mut taken, mut shares) = (0, BTreeMap::new());
        while taken < bytes {
            let Some(frame) = self.pop() else { break };
            taken += frame.len();
            *shares.entry(flow_of(&frame)).or_default() += frame.len();
        }
        shares
    }
}

/// A data frame of a flow.
fn frame(flow: u64, len: usize) -> BytesMut {
    let header = Header {
        hops: 3,
        from: NameHash(flow),
        to: NameHash(1),
        to_service: ServiceName::PING,
        ..Header::default()
    };
    let mut frame = BytesMut::zeroed(len.max(HEADER_LEN));
    frame[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    frame
}

fn flow_of(frame: &BytesMut) -> u64 {
    Header::parse(frame).unwrap().from.0
}

#[test]
fn control_goes_before_data_and_order_is_kept_within_a_flow() {
    let mut bench = Bench::new(1 << 20);
    for (priority, len) in [
        (Priority::Transit, 101),
        (Priority::Control, 102),
        (Priority::Own, 103),
        (Priority::Control, 104),
    ] {
        assert!(bench.push(priority, frame(1, len)));
    }
    let order: Vec<usize> = core::iter::from_fn(|| bench.pop()).map(|f| f.len()).collect();
    assert_eq!(order, [102, 104, 101, 103]);
    assert!(bench.egress.is_empty());
    assert_eq!(bench.budget.held(), 0);
}

#[test]
fn flows_share_a_link_whatever_they_send() {
    let mut bench = Bench::new(8 << 20);
    // One sends large frames, one small ones, one twice as many as the others.
    for (flow, len, count) in [(1, 60_000, 20), (2, 200, 6000), (3, 16_000, 150)] {
        for _ in 0..count {
            assert!(bench.push(Priority::Transit, frame(flow, len)));
        }
    }
    let shares = bench.take(3_000_000);
    for flow in 1..=3 {
        assert!((940_000..=1_060_000).contains(&shares[&flow]), "{shares:?}");
    }
}

#[test]
fn sixty_four_flows_do_not_meet_in_one_queue() {
    let mut bench = Bench::new(64 << 20);
    for flow in 0..64 {
        for _ in 0..10 {
            assert!(bench.push(Priority::Own, frame(flow, 16 << 10)));
        }
    }
    let shares = bench.take(64 * 5 * (16 << 10));
    assert!(shares.values().all(|&bytes| bytes == 5 * (16 << 10)), "{shares:?}");
}

#[test]
fn a_ping_does_not_wait_behind_bulk() {
    let mut bench = Bench::new(8 << 20);
    for _ in 0..100 {
        bench.push(Priority::Transit, frame(1, 16 << 10));
    }
    bench.take(200_000);
    for _ in 0..10 {
        bench.push(Priority::Transit, frame(2, 36));
        assert_eq!(flow_of(&bench.pop().unwrap()), 2);
        // A round of the others, so that the flow has been forgotten.
        bench.take(40_000);
    }
}

#[test]
fn a_flow_cannot_stay_first_by_coming_anew() {
    let mut bench = Bench::new(8 << 20);
    for _ in 0..100 {
        bench.push(Priority::Transit, frame(1, 10_000));
    }
    // The second always has just one frame waiting.
    let mut sent = BTreeMap::new();
    for _ in 0..60 {
        bench.push(Priority::Transit, frame(2, 10_000));
        let flow = flow_of(&bench.pop().unwrap());
        *sent.entry(flow).or_insert(0) += 1;
    }
    assert!((25..=35).contains(&sent[&1]), "{sent:?}");
}

#[test]
fn what_waited_too_long_is_marked_and_only_between_our_nodes() {
    let mut bench = Bench::new(1 << 20);
    for _ in 0..4 {
        bench.push(Priority::Transit, frame(1, 16_384));
    }
    bench.wait(MARK_AFTER);
    assert!(!data::is_marked(&bench.pop().unwrap()));
    bench.wait(Duration::from_nanos(1));
    assert!(data::is_marked(&bench.pop().unwrap()));
    assert_eq!(bench.egress.stats().marked, 1);
    bench.egress.set_extended(false);
    assert!(!data::is_marked(&bench.pop().unwrap()));
    assert_eq!(bench.egress.stats().marked, 1);
}

#[test]
fn a_flow_without_a_queue_is_not_marked_for_the_turns_of_others() {
    let mut bench = Bench::new(1 << 20);
    for _ in 0..4 {
        bench.push(Priority::Transit, frame(1, 16_384));
    }
    for _ in 0..3 {
        bench.push(Priority::Transit, frame(2, 5_000));
    }
    bench.wait(MARK_AFTER * 2);
    let mut marked = Vec::new();
    while let Some(frame) = bench.pop() {
        if data::is_marked(&frame) {
            marked.push(flow_of(&frame));
        }
    }
    assert_eq!(marked, [1, 1, 1]);
}

#[test]
fn flags_of_our_nodes_do_not_reach_classic_ones() {
    let mut bench = Bench::new(1 << 20);
    for extended in [true, false] {
        bench.egress.set_extended(extended);
        let mut marked = frame(1, 100);
        marked[2] = 0x80;
        data::mark(&mut marked);
        bench.push(Priority::Transit, marked);
        let sent = bench.pop().unwrap();
        assert_eq!(sent[2..4], if extended { [0x80, 1] } else { [0, 0] });
    }
}

#[test]
fn a_full_queue_drops_the_oldest_of_the_fattest_flow() {
    let mut bench = Bench::new(100_000);
    bench.push(Priority::Transit, frame(1, 1001));
    for _ in 0..200 {
        assert!(bench.push(Priority::Transit, frame(1, 1000)));
        assert!(bench.egress.held() <= 100_000);
    }
    assert!(bench.push(Priority::Transit, frame(2, 500)));
    assert!(bench.push(Priority::Control, frame(0, 60_000)), "room of its own");
    let dropped = bench.egress.stats().dropped_link_full;
    assert!((107..=109).contains(&dropped), "{dropped}");
    bench.pop();
    assert_eq!(bench.pop().unwrap().len(), 1000, "the oldest was dropped");
    assert_eq!(bench.take(100_000)[&2], 500);
}

#[test]
fn control_is_never_dropped_for_data_but_has_its_limit() {
    let mut bench = Bench::new(10_000);
    for _ in 0..20 {
        bench.push(Priority::Transit, frame(1, 900));
    }
    assert!(bench.push(Priority::Control, frame(0, 9000)));
    assert!(!bench.push(Priority::Control, frame(0, 1000)));
    assert_eq!(bench.egress.stats().dropped_control, 1);
    for _ in 0..20 {
        bench.push(Priority::Transit, frame(1, 900));
    }
    assert_eq!(bench.pop().unwrap().len(), 9000);
}

#[test]
fn a_frame_larger_than_the_limit_empties_no_queue_for_ever() {
    let mut bench = Bench::new(10_000);
    assert!(!bench.push(Priority::Transit, frame(1, 20_000)));
    assert!(bench.push(Priority::Transit, frame(1, 5000)));
}

#[test]
fn no_link_takes_the_memory_of_all() {
    let mut budget = Budget::new(1 << 20);
    let mut links: Vec<Egress> = (0..4).map(|seed| Egress::new(1 << 20, seed)).collect();
    for link in &mut links {
        for _ in 0..2000 {
            link.push(Instant::ZERO, Priority::Transit, frame(1, 1000), &mut budget);
        }
    }
    // An eighth of what is left, each.
    let mut left = 1 << 20;
    for link in &links {
        let held = link.held();
        assert!((left / 9 - 2200..=left / 9).contains(&held), "{held} of {left}");
        assert!(link.stats().dropped_node_full > 0);
        assert_eq!(link.stats().dropped_link_full, 0);
        left -= held;
    }
    // Those that stand above their share give way.
    for _ in 0..2000 {
        for link in &mut links {
            link.push(Instant::ZERO, Priority::Transit, frame(1, 1000), &mut budget);
        }
    }
    for link in &links {
        let held = link.held();
        assert!((82_000..=88_000).contains(&held), "{held}");
    }
    assert_eq!(budget.held(), links.iter().map(Egress::held).sum::<usize>());
    for link in &mut links {
        link.close(&mut budget);
    }
    assert_eq!(budget.held(), 0);
}

#[test]
fn frames_that_wait_do_not_pin_the_buffers_they_came_in() {
    let mut bench = Bench::new(1 << 20);
    let (mut buffers, mut payload) = (Vec::new(), 0);
    // Of each buffer one small frame waits.
    for _ in 0..1000 {
        let mut buffer = BytesMut::zeroed(64 << 10);
        buffer[..136].copy_from_slice(&frame(1, 136));
        assert!(bench.push(Priority::Transit, buffer.split_to(136)));
        payload += 100;
        bench.wait(Duration::from_millis(1));
        buffer.clear();
        assert!(buffer.try_reclaim(64 << 10), "nobody else holds it");
        buffers.push(buffer);
    }
    assert_eq!(bench.egress.stats().dropped(), 0);
    assert!(bench.egress.held() <= 4 * payload, "{}", bench.egress.held());
    let mut count = 0;
    while let Some(sent) = bench.pop() {
        assert_eq!((flow_of(&sent), sent.len()), (1, 136));
        count += 1;
    }
    assert_eq!((count, bench.budget.held()), (1000, 0));
}

#[test]
fn the_limit_counts_memory_and_not_only_what_is_in_it() {
    let mut bench = Bench::new(300_000);
    for round in 0..2000_u64 {
        let len = 36 + (round * 7919 % 60_000) as usize;
        bench.push(Priority::Transit, frame(round % 5, len));
        if round % 3 == 0 {
            bench.wait(Duration::from_millis(1));
        }
        if round % 4 == 0 {
            bench.pop();
        }
        assert!(bench.egress.data.held() <= 300_000);
    }
    while bench.pop().is_some() {}
    assert_eq!(bench.budget.held(), 0);
}

#[test]
fn own_streams_keep_a_gathered_write_waiting_and_transit_does_not_stop_them() {
    let mut bench = Bench::new(4 << 20);
    for _ in 0..200 {
        bench.push(Priority::Transit, frame(1, 16 << 10));
    }
    assert!(!bench.egress.is_congested());
    let mut queued = 0;
    while !bench.egress.is_congested() {
        queued += 16 << 10;
        assert!(bench.push(Priority::Own, frame(2, 16 << 10)));
    }
    assert!((512 << 10..=640 << 10).contains(&queued), "{queued}");
    while !bench.egress.has_room() {
        bench.pop().unwrap();
    }
    assert!(bench.egress.own_bytes >= 256 << 10, "never too little for a write");
}

#[test]
fn a_stranger_with_our_address_does_not_count_as_ours() {
    let mut bench = Bench::new(1 << 20);
    bench.push(Priority::Transit, frame(1, 1000));
    bench.push(Priority::Own, frame(1, 2000));
    assert_eq!(bench.egress.own_bytes, 2000);
    while bench.pop().is_some() {}
    assert_eq!(bench.egress.own_bytes, 0);
}

#[test]
fn flows_beyond_the_limit_share_queues() {
    let mut bench = Bench::new(64 << 20);
    for flow in 0..5000 {
        assert!(bench.push(Priority::Transit, frame(flow, 100)));
    }
    assert!(bench.egress.stats().flows <= 1024 + 64);
    let mut seen: Vec<u64> = core::iter::from_fn(|| bench.pop()).map(|f| flow_of(&f)).collect();
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..5000));
    assert_eq!(bench.egress.stats().flows, 0);
}

#[test]
fn empty_and_short_frames_are_not_free() {
    let mut bench = Bench::new(10 * Egress::FRAME_OVERHEAD);
    for _ in 0..100 {
        bench.push(Priority::Transit, BytesMut::new());
    }
    assert_eq!(bench.egress.stats().queued_frames, 10);
    let mut control = 0;
    while bench.push(Priority::Control, BytesMut::new()) {
        control += 1;
    }
    assert_eq!(control, 10);
}
