//! What is common to all streams with one node: its life, the memory for them, the way to it.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::net::pattern;
use super::table::{CONTROL, MS, NAMES, Nodes, table};
use crate::deadline::Deadline;
use crate::stream::{Event, StreamId, TIMEOUT_TEXT, TableConfig, TableEvent};

/// Idle streams, accepted, and not touched for a while.
fn idle(config: &TableConfig, count: usize) -> (Nodes, Vec<StreamId>) {
    let mut nodes = Nodes::new(config);
    let mut dialled = Vec::new();
    for n in 0..count {
        dialled.push(nodes.dial(&n.to_string()));
        if n % 100 == 99 || n == count - 1 {
            nodes.run(MS * 10);
            while nodes.tables[1].accept(CONTROL).is_some() {}
        }
    }
    nodes.run(MS * 12_000);
    (nodes, dialled)
}

#[test]
fn idle_streams_own_no_timer_and_live_on_the_packets_of_one() {
    let (mut nodes, _) = idle(&TableConfig::default(), 1000);
    let deadline = nodes.tables[0].next_deadline();
    assert!(
        matches!(deadline, Deadline::At(_, "node at the other end of streams")),
        "{deadline:?}"
    );
    let before = nodes.packets;
    nodes.run(MS * 3_600_000);
    let packets = nodes.packets - before;
    assert!(
        (400..=500).contains(&packets),
        "a question and its answer every 15 s: {packets}"
    );
    assert_eq!(nodes.tables[0].remotes().count(), 1);
    assert!(nodes.tables.iter().all(|table| table.len() == 1000));
}

#[test]
fn a_silent_node_loses_all_its_streams_at_either_end() {
    let (mut nodes, dialled) = idle(&TableConfig::default(), 300);
    nodes.loss = 1000;
    let start = nodes.now;
    let lost = Event::Lost {
        reason: TIMEOUT_TEXT.to_string(),
    };
    for index in 0..2 {
        nodes.events[index].clear();
    }
    nodes.run(MS * 44_000);
    assert!(nodes.events.iter().all(Vec::is_empty));
    nodes.run(MS * 22_000);
    let events = dialled.iter().map(|&id| TableEvent::Stream(id, lost.clone()));
    let mut told = nodes.events[0].clone();
    told.sort_by_key(|event| match event {
        TableEvent::Stream(id, _) => *id,
        _ => StreamId(0),
    });
    assert!(events.eq(told), "after {:?}", nodes.now.since(start));
    nodes.run(MS * 20_000);
    assert_eq!(nodes.events[1].len(), 300);
    nodes.run(MS * 200_000);
    assert!(nodes.tables.iter().all(|table| table.remotes().count() == 0));
}

#[test]
fn a_node_that_was_started_anew_resets_all_streams_it_has_forgotten() {
    let (mut nodes, dialled) = idle(&TableConfig::default(), 300);
    nodes.tables[1] = table(TableConfig::default(), 9);
    nodes.tables[1].listen(CONTROL).unwrap();
    nodes.events[0].clear();
    // A route that came back is reason enough to ask; without it the silence would be.
    nodes.tables[0].kick(nodes.now, NAMES[1]);
    let young = nodes.dial("young");
    nodes.run(MS * 200);
    let resets = |nodes: &Nodes| {
        let is_reset = |event: &&TableEvent| matches!(event, TableEvent::Stream(_, Event::Reset { code: 1, .. }));
        nodes.events[0].iter().filter(is_reset).count()
    };
    assert_eq!(resets(&nodes), dialled.len());
    assert!(!nodes.tables[0].stream(young).unwrap().is_ended());
}

#[test]
fn one_forgotten_stream_among_many_is_found_in_time() {
    let (mut nodes, dialled) = idle(&TableConfig::default(), 10);
    let accepted = nodes.tables[1].stream_ids();
    nodes.loss = 1000;
    nodes.tables[1].reset(nodes.now, accepted[4], 300, "");
    nodes.tables[1].release(nodes.now, accepted[4]);
    nodes.tables[1].forget_lingering();
    nodes.run(MS * 100);
    nodes.loss = 0;
    nodes.run(MS * 170_000);
    assert!(nodes.tables[0].stream(dialled[4]).unwrap().is_ended());
    assert_eq!(nodes.tables[0].remotes().count(), 1);
}

#[test]
fn a_node_whose_first_hop_is_held_up_is_not_probed() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let dialled = nodes.dial("a");
    nodes.run(MS * 10);
    nodes.write(0, dialled, b"on its way");
    nodes.tables[0].block(NAMES[1]);
    nodes.run(MS * 20_000);
    let before = nodes.packets;
    nodes.tables[0].unblock(NAMES[1]);
    nodes.run(MS * 5);
    let accepted = nodes.tables[1].accept(CONTROL).unwrap();
    assert_eq!(nodes.read(1, accepted), b"on its way");
    assert!(nodes.packets - before <= 4, "{}", nodes.packets - before);
}

#[test]
fn the_memory_of_a_node_is_shared_and_its_limit_holds() {
    let config = TableConfig {
        receive_memory: 2 << 20,
        send_memory: 1 << 20,
        ..TableConfig::default()
    };
    let mut nodes = Nodes::new(&config);
    let dialled: Vec<StreamId> = (0..40).map(|n| nodes.dial(&n.to_string())).collect();
    nodes.run(MS * 10);
    let accepted: Vec<StreamId> = core::iter::from_fn(|| nodes.tables[1].accept(CONTROL)).collect();
    let mut read = alloc::vec![0; 40];
    let bytes = pattern(50_000);
    for _ in 0..60 {
        for &id in &dialled {
            while nodes.tables[0].write(nodes.now, id, bytes.clone()).is_ok() {}
        }
        nodes.run(MS * 10);
        for (n, &id) in accepted.iter().enumerate() {
            // A few never read.
            if n >= 5 {
                read[n] += nodes.read(1, id).len();
            }
        }
        let drawn = [nodes.tables[1].memory_drawn().0, nodes.tables[0].memory_drawn().1];
        assert!(drawn[0] <= 2 << 20 && drawn[1] <= 1 << 20, "{drawn:?}");
    }
    let (least, most) = (read[5..].iter().min().unwrap(), read[5..].iter().max().unwrap());
    assert!(least * 10 >= most * 6, "{least} to {most}");
    for id in dialled {
        nodes.tables[0].reset(nodes.now, id, 300, "");
    }
    nodes.run(MS * 1000);
    for id in accepted {
        nodes.tables[1].release(nodes.now, id);
    }
    nodes.run(MS * 1000);
    assert_eq!(nodes.tables[1].memory_drawn(), (0, 0));
    assert_eq!(nodes.tables[0].memory_drawn(), (0, 0));
}

#[test]
fn a_way_that_takes_more_is_used_by_fast_streams_and_one_that_takes_less_by_all() {
    let mut nodes = Nodes::new(&TableConfig::default());
    let dialled = nodes.dial("a");
    nodes.write(0, dialled, b"x");
    nodes.run(MS * 5);
    assert_eq!(nodes.tables[0].poll_new_remote(), Some(NAMES[1]));
    assert_eq!(nodes.tables[0].poll_new_remote(), None);
    nodes.tables[0].set_path(nodes.now, NAMES[1], 1400);
    nodes.tables[0].write(nodes.now, dialled, pattern(50_000)).unwrap();
    let mut largest = 0;
    while let Some(out) = nodes.tables[0].poll_transmit(nodes.now, 36) {
        largest = largest.max(out.packet.len() - 36);
    }
    assert_eq!(largest, 1400);
}
