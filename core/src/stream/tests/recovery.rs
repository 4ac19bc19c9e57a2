//! Loss, reordering, outages, bottlenecks: every byte once and in order, at a sane speed.

use proptest::prelude::*;

use super::net::{Bottleneck, Pair, Weather, pattern};
use crate::stream::{Config, Event};
use crate::time::{Duration, Instant};

const fn secs(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

/// Sends `length` bytes to the acceptor and fewer back; answers how long it took.
fn transfer(seed: u8, config: Config, weather: Weather, length: usize) -> (Duration, Pair) {
    let mut pair = Pair::new(seed, config, weather);
    pair.ends[0].outbox = pattern(length);
    pair.ends[1].outbox = pattern(length / 3);
    pair.run_until(secs(3000), |pair| {
        pair.has(0, &Event::Finished) && pair.has(1, &Event::Finished)
    });
    for end in &pair.ends {
        assert!(end.events.contains(&Event::Finished), "{end:?}");
    }
    assert!(pair.ends[1].inbox == pattern(length), "seed {seed}");
    assert!(pair.ends[0].inbox == pattern(length / 3), "seed {seed}");
    (pair.now.since(Instant::ZERO), pair)
}

#[test]
fn heavy_loss_reordering_and_duplicates() {
    for loss in [0, 1, 5, 10, 20, 30] {
        for seed in 0..6 {
            let weather = Weather {
                loss: loss * 10,
                duplicate: 50,
                jitter: Duration::from_millis(u64::from(seed % 3) * 8),
                ..Weather::default()
            };
            let (took, _) = transfer(seed, Config::default(), weather, 600_000);
            assert!(took < Duration::from_secs(8 + loss * 2), "{loss} % took {took:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_the_first_bytes_does_no_harm() {
    for seed in 0..10 {
        // Flags that turn into a reset, and turned nonces, are the network's way of ending a stream: only the flags that
        // stay legal are of interest, so a run that was reset is left out.
        let weather = Weather {
            corrupt: 20,
            ..Weather::default()
        };
        let mut pair = Pair::new(seed, Config::default(), weather);
        pair.ends[0].outbox = pattern(400_000);
        pair.run(secs(300));
        let received = &pair.ends[1].inbox;
        assert!(received.len() <= 400_000);
    }
}

#[test]
fn random_loss_of_one_percent_costs_little() {
    let config = Config::default();
    let clean = transfer(3, config.clone(), Weather::default(), 8_000_000).0;
    let lossy = transfer(
        3,
        config,
        Weather {
            loss: 10,
            ..Weather::default()
        },
        20_000_000,
    )
    .0;
    assert!(lossy < clean * 2, "{clean:?} without, {lossy:?} with");
}

#[test]
fn reordering_alone_does_not_slow_down() {
    let config = Config::default();
    let clean = transfer(3, config.clone(), Weather::default(), 8_000_000).0;
    let jitter = Duration::from_millis(3);
    let (shuffled, pair) = transfer(
        3,
        config,
        Weather {
            jitter,
            ..Weather::default()
        },
        20_000_000,
    );
    assert!(shuffled < clean * 3, "{clean:?} in order, {shuffled:?} shuffled");
    assert!(
        pair.ends[1].delivered_bytes < 26_000_000,
        "{}",
        pair.ends[1].delivered_bytes
    );
}

#[test]
fn a_relay_that_is_gone_for_thirty_seconds_does_not_end_a_stream() {
    for (seed, outage) in [(1, 1), (2, 5), (3, 20), (4, 30), (5, 40)] {
        let start = Instant::from_millis(50);
        let back = start + Duration::from_secs(outage);
        let weather = Weather {
            blackout: Some((start, back)),
            ..Weather::default()
        };
        let (took, pair) = transfer(seed, Config::default(), weather, 40_000_000);
        let late = took - Duration::from_secs(outage);
        assert!(
            late < Duration::from_millis(3000),
            "{outage} s: {late:?} after the path was back"
        );
        assert!(pair.ends[0].packets < 5000);
    }
}

#[test]
fn a_kick_resumes_at_once() {
    let back = secs(20);
    let weather = Weather {
        blackout: Some((Instant::from_millis(50), back)),
        ..Weather::default()
    };
    let mut pair = Pair::new(1, Config::default(), weather);
    pair.ends[0].outbox = pattern(10_000_000);
    pair.run(back);
    let before = pair.ends[1].delivered_bytes;
    for end in &mut pair.ends {
        end.stream().kick(back);
    }
    pair.run(back + Duration::from_millis(60));
    assert!(pair.ends[1].delivered_bytes > before + 100_000);
}

/// A relay's egress: 400 MB/s, 1 MiB of queue, 100 µs of way.
fn relay(mark_above: u64) -> Weather {
    let bottleneck = Bottleneck {
        bytes_per_second: 400_000_000,
        queue: 1024 * 1024,
        mark_above,
    };
    Weather {
        delay: Duration::from_micros(100),
        bottleneck: Some(bottleneck),
        ..Weather::default()
    }
}

#[test]
fn a_drop_tail_relay_is_filled_and_not_flooded() {
    let (took, pair) = transfer(1, Config::default(), relay(u64::MAX / 2_000_000_000), 30_000_000);
    let rate = 30_000_000.0 / took.as_secs_f64();
    assert!(rate > 250_000_000.0, "{rate} bytes per second");
    let sent = pair.ends[0].sent_bytes;
    assert!(sent < 32_000_000, "{sent} bytes were sent");
}

#[test]
fn a_marking_relay_is_filled_without_loss() {
    let (took, pair) = transfer(1, Config::default(), relay(256 * 1024), 30_000_000);
    let rate = 30_000_000.0 / took.as_secs_f64();
    assert!(rate > 250_000_000.0, "{rate} bytes per second");
    let sent = pair.ends[0].sent_bytes;
    assert!(sent < 31_500_000, "{sent} bytes were sent");
}

#[test]
fn a_thin_and_long_path_is_filled() {
    let bottleneck = Bottleneck {
        bytes_per_second: 2_000_000,
        queue: 256 * 1024,
        mark_above: u64::MAX / 2_000_000_000,
    };
    let weather = Weather {
        delay: Duration::from_millis(40),
        bottleneck: Some(bottleneck),
        ..Weather::default()
    };
    let (took, pair) = transfer(1, Config::default(), weather, 8_000_000);
    assert!(took < Duration::from_secs(7), "{took:?}");
    let sent = pair.ends[0].sent_bytes;
    assert!(sent < 8_800_000, "{sent} bytes were sent");
}

#[test]
fn small_packets_for_thin_links() {
    let config = Config {
        max_packet: 1200,
        ..Config::default()
    };
    let weather = Weather {
        loss: 20,
        ..Weather::default()
    };
    transfer(1, config, weather, 1_000_000);
}

#[test]
fn equal_seeds_give_equal_traces() {
    let run = |seed| {
        let weather = Weather {
            loss: 50,
            duplicate: 20,
            jitter: Duration::from_millis(4),
            ..Weather::default()
        };
        transfer(seed, Config::default(), weather, 300_000).1.trace
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4), run(5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_weather(
        seed in any::<u8>(),
        loss in 0u64..300,
        duplicate in 0u64..200,
        jitter in 0u64..30,
        delay in 0u64..80,
        length in 0usize..200_000,
        write_size in prop_oneof![Just(1usize), 2usize..3000, Just(usize::MAX)],
        max_packet in prop_oneof![Just(1200usize), Just(16_384)],
        send_buffer_max in prop_oneof![Just(1000u64), Just(8 << 20)],
        blackout in proptest::option::of((0u64..500, 0u64..20_000)),
    ) {
        let blackout = blackout.map(|(from, for_millis)| (Instant::from_millis(from), Instant::from_millis(from + for_millis)));
        let weather = Weather {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            loss, duplicate,
            // A dial gives up after 15 s, so the outage comes after it.
            blackout: blackout.map(|(from, to)| (from + Duration::from_secs(14), to + Duration::from_secs(14))),
            ..Weather::default()
        };
        let config = Config { max_packet, send_buffer_max, ..Config::default() };
        let mut pair = Pair::new(seed, config, weather);
        let length = if write_size == 1 || send_buffer_max == 1000 { length / 20 } else { length };
        for end in &mut pair.ends {
            end.outbox = pattern(length);
            end.write_size = write_size;
        }
        pair.run_until(secs(2000), |pair| pair.has(0, &Event::Finished) && pair.has(1, &Event::Finished));
        for end in &pair.ends {
            prop_assert!(end.inbox == pattern(length), "{} of {length}", end.inbox.len());
        }
        pair.run(secs(2200));
        prop_assert!(pair.ends.iter_mut().all(|end| end.stream().is_drained()));
    }
}
