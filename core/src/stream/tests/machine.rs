//! Handshake, halves, resets, windows, liveness.

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::net::{Pair, Weather, pattern};
use crate::deadline::Deadline;
use crate::rng::Rng;
use crate::stream::{Config, Event, SERVICE_UNKNOWN, Stream, TIMEOUT_TEXT, WriteError};
use crate::time::{Duration, Instant};

const fn secs(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

fn pair() -> Pair {
    Pair::new(1, Config::default(), Weather::default())
}

#[test]
fn a_request_and_its_answer_take_one_round_trip_and_nothing_lingers_at_the_answering_end() {
    let mut pair = pair();
    pair.ends[0].outbox = Bytes::from_static(b"request");
    pair.ends[1].outbox = Bytes::from_static(b"answer");
    pair.run_until(secs(1), |pair| pair.has(0, &Event::Finished));
    assert_eq!(
        pair.now,
        Instant::from_millis(10),
        "SYN, request and FIN share one packet"
    );
    assert_eq!(
        (&pair.ends[0].inbox[..], &pair.ends[1].inbox[..]),
        (&b"answer"[..], &b"request"[..])
    );
    assert_eq!(
        pair.ends[0].events,
        [Event::Connected, Event::Readable, Event::PeerFinished, Event::Finished]
    );
    pair.run(secs(2));
    assert!(pair.ends[1].stream().is_drained() && !pair.ends[0].stream().is_drained());
    pair.run(secs(100));
    assert!(pair.ends[0].stream().is_drained());
    assert!(
        pair.ends.iter().all(|end| end.packets <= 3),
        "{} {}",
        pair.ends[0].packets,
        pair.ends[1].packets
    );
    assert_eq!(pair.ends[0].stream().next_deadline(), Deadline::Idle);
}

#[test]
fn each_direction_ends_by_itself() {
    for first in 0..2 {
        let mut pair = pair();
        pair.ends[1 - first].finish = false;
        pair.ends[first].outbox = Bytes::from_static(b"first");
        pair.run(secs(1));
        assert!(pair.has(1 - first, &Event::PeerFinished));
        assert!(pair.ends[1 - first].stream().is_finished() && !pair.ends[first].stream().is_finished());
        pair.ends[1 - first].outbox = pattern(100_000);
        pair.ends[1 - first].finish = true;
        pair.run(secs(5));
        assert!(pair.has(0, &Event::Finished) && pair.has(1, &Event::Finished));
        assert_eq!(pair.ends[first].inbox, pattern(100_000));
    }
}

#[test]
fn nothing_is_written_after_the_end() {
    let mut pair = pair();
    pair.run(secs(1));
    let now = pair.now;
    assert_eq!(
        pair.ends[0].stream().write(now, Bytes::from_static(b"x")),
        Err(WriteError::Closed)
    );
}

#[test]
fn the_send_buffer_is_bounded_and_says_when_it_has_room() {
    let config = Config {
        send_buffer_max: 100_000,
        ..Config::default()
    };
    let mut pair = Pair::new(1, config, Weather::default());
    let now = pair.now;
    assert_eq!(pair.ends[0].stream().write(now, pattern(150_000)), Ok(100_000));
    assert_eq!(pair.ends[0].stream().write(now, pattern(1)), Err(WriteError::Blocked));
    pair.ends[0].finish = false;
    pair.run(secs(1));
    assert!(pair.has(0, &Event::Writable));
    assert_eq!(pair.ends[0].stream().write_space(), 100_000);
    assert_eq!(pair.ends[1].inbox, pattern(100_000));
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer_and_a_lost_update_does_not_keep_it_stopped() {
    let mut pair = pair();
    pair.ends[0].outbox = pattern(2_000_000);
    pair.ends[1].reads = false;
    pair.run(secs(40));
    let credit = Config::default().recv_window_initial;
    assert!(
        pair.ends[1].delivered_bytes < credit + 30_000,
        "{}",
        pair.ends[1].delivered_bytes
    );
    let probes = pair.ends[0].packets;
    assert!(
        probes < credit / 16_000 + 40,
        "a closed window is asked rarely: {probes}"
    );
    // Whatever the reader says in the first moments is lost.
    pair.weather.blackout = Some((secs(40), secs(42)));
    pair.ends[1].reads = true;
    pair.run_until(secs(60), |pair| pair.has(1, &Event::PeerFinished));
    assert_eq!(pair.ends[1].inbox, pattern(2_000_000));
    assert!(pair.now < secs(45), "{:?}", pair.now);
}

#[test]
fn a_stalled_reader_keeps_the_stream_for_hours() {
    let mut pair = pair();
    pair.ends[0].outbox = pattern(1_000_000);
    pair.ends[1].reads = false;
    pair.run(secs(7200));
    pair.ends[1].reads = true;
    pair.run(secs(7210));
    assert_eq!(pair.ends[1].inbox, pattern(1_000_000));
}

#[test]
fn an_idle_stream_has_no_deadline_and_sends_nothing() {
    let mut pair = pair();
    pair.ends[0].outbox = pattern(300_000);
    pair.ends[0].finish = false;
    pair.ends[1].finish = false;
    pair.run(secs(3600));
    assert_eq!(pair.ends[1].inbox, pattern(300_000));
    for end in &mut pair.ends {
        assert!(!end.stream().is_ended() && end.stream().is_idle());
        assert_eq!(end.stream().next_deadline(), Deadline::Idle);
    }
}

#[test]
fn a_stream_that_waits_for_an_answer_notices_that_its_peer_is_gone() {
    let mut pair = pair();
    pair.ends[0].finish = false;
    pair.ends[1].finish = false;
    pair.run(secs(5));
    pair.now = secs(5);
    pair.weather.blackout = Some((secs(5), secs(10_000)));
    let lost = Event::Lost {
        reason: TIMEOUT_TEXT.to_string(),
    };
    pair.ends[0].stream().ping();
    pair.run_until(secs(200), |pair| pair.has(0, &lost));
    assert!(pair.now >= secs(50) && pair.now < secs(51), "{:?}", pair.now);
    let now = pair.now;
    assert_eq!(
        pair.ends[0].stream().write(now, Bytes::from_static(b"x")),
        Err(WriteError::Closed)
    );
}

#[test]
fn a_dial_without_an_answer_fails_after_fifteen_seconds() {
    let weather = Weather {
        loss: 1000,
        ..Weather::default()
    };
    let mut pair = Pair::new(1, Config::default(), weather);
    pair.run_until(secs(60), |pair| !pair.ends[0].events.is_empty());
    assert_eq!(
        pair.ends[0].events,
        [Event::Lost {
            reason: "timeout: no recent network activity".to_string()
        }]
    );
    assert_eq!(pair.now, secs(15));
    assert!((15..25).contains(&pair.ends[0].packets), "{}", pair.ends[0].packets);
}

#[test]
fn an_unknown_service_ends_a_dial_at_once_and_a_missing_route_only_a_dial() {
    let mut dialled = Stream::dial(Config::default(), &mut Rng::from_seed([1; 32]), Instant::ZERO);
    dialled.on_unreachable(Instant::ZERO, "something else");
    assert!(!dialled.is_ended());
    dialled.on_unreachable(Instant::ZERO, SERVICE_UNKNOWN);
    assert_eq!(
        dialled.poll_event(),
        Some(Event::Lost {
            reason: "service unknown".to_string()
        })
    );
    assert!(dialled.is_drained() && dialled.poll_transmit(Instant::ZERO, 0).is_none());
    let mut pair = pair();
    pair.ends[0].finish = false;
    pair.run(secs(1));
    let now = pair.now;
    pair.ends[0].stream().on_unreachable(now, "no route to node");
    assert!(!pair.ends[0].stream().is_ended());
}

#[test]
fn a_reset_reaches_the_peer_even_if_it_is_lost_at_first() {
    for from in 0..2 {
        let mut pair = pair();
        pair.ends[0].finish = false;
        pair.ends[1].finish = false;
        pair.ends[0].outbox = pattern(1000);
        pair.run(secs(1));
        pair.weather.blackout = Some((secs(1), secs(4)));
        let now = pair.now;
        let reason = "é".repeat(300);
        pair.ends[from].stream().reset(now, 499, &reason);
        assert!(pair.ends[from].stream().is_finished());
        let reset = Event::Reset {
            code: 499,
            reason: "é".repeat(100),
        };
        pair.run_until(secs(20), |pair| pair.has(1 - from, &reset));
        assert!(pair.now < secs(8), "{:?}", pair.now);
        pair.run(secs(20));
        assert!(pair.ends[from].stream().is_drained(), "it was acknowledged");
        pair.run(secs(200));
        assert!(pair.ends[1 - from].stream().is_drained());
        assert!(
            pair.ends[from]
                .events
                .iter()
                .all(|event| !matches!(event, Event::Reset { .. }))
        );
    }
}

#[test]
fn resets_that_cross_are_quiet_soon() {
    let mut pair = pair();
    pair.ends[0].finish = false;
    pair.ends[1].finish = false;
    pair.run(secs(1));
    let (now, before) = (pair.now, pair.ends[0].packets + pair.ends[1].packets);
    pair.ends[0].stream().reset(now, 256, "a");
    pair.ends[1].stream().reset(now, 257, "b");
    pair.run(secs(200));
    assert!(pair.ends.iter_mut().all(|end| end.stream().is_drained()));
    assert!(pair.ends[0].packets + pair.ends[1].packets - before <= 4);
}

#[test]
fn bytes_that_have_all_arrived_survive_a_reset_and_others_do_not() {
    for whole in [true, false] {
        let mut pair = pair();
        pair.ends[0].outbox = pattern(50_000);
        pair.ends[0].finish = whole;
        pair.ends[1].finish = false;
        pair.ends[1].reads = false;
        pair.run(secs(1));
        let now = pair.now;
        pair.ends[0].stream().reset(now, 300, "");
        pair.run(secs(2));
        assert!(pair.has(
            1,
            &Event::Reset {
                code: 300,
                reason: "".to_string()
            }
        ));
        assert_eq!(pair.ends[1].stream().is_finished(), !whole);
        pair.ends[1].reads = true;
        pair.run(secs(3));
        assert_eq!(pair.ends[1].inbox.len(), if whole { 50_000 } else { 0 });
        assert!(pair.ends[1].stream().is_finished());
    }
}

#[test]
fn a_released_stream_delivers_what_was_written_and_resets_a_peer_that_goes_on() {
    let mut pair = pair();
    pair.ends[1].finish = false;
    pair.ends[0].outbox = pattern(300_000);
    pair.run_until(secs(1), |pair| pair.ends[0].outbox.is_empty());
    let now = pair.now;
    pair.ends[0].stream().release(now);
    pair.ends[1].outbox = pattern(3_000_000);
    pair.run(secs(10));
    assert_eq!(pair.ends[1].inbox, pattern(300_000));
    assert!(
        pair.ends[1]
            .events
            .iter()
            .any(|event| matches!(event, Event::Reset { code: 0, .. }))
    );
}

#[test]
fn writes_of_one_byte_are_gathered_and_not_held_back() {
    let mut pair = pair();
    pair.ends[0].outbox = pattern(5000);
    pair.ends[0].write_size = 1;
    pair.run(secs(2));
    assert_eq!(pair.ends[1].inbox, pattern(5000));
    assert!(pair.ends[0].packets < 10);
    // One at a time, each leaves at once.
    let mut pair = super::machine::pair();
    pair.ends[0].finish = false;
    pair.run(secs(1));
    for n in 0..100_u8 {
        let (now, before) = (pair.now, pair.ends[0].packets);
        pair.ends[0].stream().write(now, Bytes::copy_from_slice(&[n])).unwrap();
        pair.run(now + Duration::from_micros(100));
        assert_eq!(pair.ends[0].packets, before + 1);
    }
    pair.run(secs(3));
    assert_eq!(pair.ends[1].inbox, (0..100).collect::<Vec<u8>>());
}

#[test]
fn packets_of_another_incarnation_and_garbage_do_nothing() {
    let mut pair = pair();
    pair.ends[0].finish = false;
    pair.run(secs(1));
    let now = pair.now;
    let mut rng = Rng::from_seed([9; 32]);
    let nonce = pair.ends[0].stream().nonce();
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = (0..rng.below(60))
            .map(|_| rng.next_u64() as u8 & rng.next_u64() as u8)
            .collect();
        if bytes.len() > 5 {
            // No flag of a reset, which would be obeyed.
            bytes[0] &= 0x1f;
            let nonce = if round % 8 == 0 { nonce ^ 1 } else { nonce };
            bytes[1..5].copy_from_slice(&nonce.to_be_bytes());
        }
        pair.ends[0]
            .stream()
            .handle_packet(now, Bytes::from(bytes), round % 2 == 0);
        let _ = pair.ends[0].stream().next_deadline();
        while pair.ends[0].stream().poll_transmit(now, 0).is_some() {}
    }
    assert!(pair.ends[0].stream().invalid_packets() > 1000);
    assert!(!pair.ends[0].stream().is_ended());
}
