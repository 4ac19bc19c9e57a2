//! Streams over bad roads, under virtual time. Everywhere: every byte once and in order, memory within its budget, never
//! idle with bytes to send (all checked by [`Street`] at every step).

use receptor_core::stream::TableConfig;
use receptor_core::time::Duration;
use receptor_tests::street::{Road, Street};

const MS: Duration = Duration::from_millis(1);
const MEGABITS_100: u64 = 12_500_000;

fn street(seed: u8, road: Road) -> Street {
    Street::new(seed, TableConfig::default(), road)
}

#[test]
fn loss_reordering_and_duplicates_over_short_and_long_ways() {
    for (loss, bytes, limit) in [(10, 1_500_000, 20), (50, 600_000, 40), (200, 150_000, 120)] {
        for round_trip in [1, 20, 100, 300] {
            for jitter in [Duration::ZERO, MS * round_trip / 4] {
                let mut street = street(
                    round_trip as u8,
                    Road {
                        delay: MS * round_trip / 2,
                        jitter,
                        loss,
                        duplicates: 20,
                        ..Road::default()
                    },
                );
                for _ in 0..2 {
                    street.send(bytes);
                }
                assert!(
                    street.run(Duration::from_secs(limit)),
                    "{loss} per mille, {round_trip} ms, jitter {jitter:?}: {} of {}",
                    street.total(),
                    2 * bytes
                );
            }
        }
    }
}

/// Share of the link that one stream gets in steady state, in percent.
fn share_of_link(road: Road) -> u64 {
    let mut street = street(7, road);
    street.send(u64::MAX);
    street.set_path(1364);
    street.run(Duration::from_secs(2));
    let before = street.total();
    street.run(Duration::from_secs(5));
    (street.total() - before) * 100 / (5 * MEGABITS_100)
}

#[test]
fn a_percent_of_random_loss_leaves_four_fifths_of_a_long_link() {
    let road = Road {
        delay: MS * 25,
        loss: 10,
        rate: Some(MEGABITS_100),
        queue: MS * 50,
        ..Road::default()
    };
    let share = share_of_link(road.clone());
    println!("1 % loss, drop at 50 ms: {share} % of 100 Mbit/s");
    assert!(share >= 80, "{share} %");
    let marking = Road { mark: MS * 5, ..road };
    let share = share_of_link(marking);
    println!("1 % loss, mark at 5 ms: {share} % of 100 Mbit/s");
    assert!(share >= 80, "{share} %");
}

#[test]
fn loss_that_fills_a_short_queue_is_answered() {
    let road = Road {
        delay: MS * 25,
        rate: Some(MEGABITS_100),
        queue: MS * 5,
        ..Road::default()
    };
    let mut street = street(3, road);
    street.send(u64::MAX);
    street.set_path(1364);
    street.run(Duration::from_secs(3));
    let (before, packets) = (street.total(), street.packets[0]);
    street.run(Duration::from_secs(4));
    let arrived = (street.total() - before) / 1364;
    let sent = street.packets[0] - packets;
    println!("{} of {sent} packets were of use", arrived);
    assert!(sent < arrived * 110 / 100, "{sent} sent for {arrived}");
    assert!((street.total() - before) * 100 >= 4 * MEGABITS_100 * 75);
}

/// The share of the link in percent, and the longest wait at it, second by second, of streams that begin five seconds apart.
fn shares_and_waits(road: &Road, streams: usize, seconds: usize) -> Vec<(u64, Duration)> {
    let rate = road.rate.expect("a bottleneck");
    let mut street = street(4, road.clone());
    let mut result = Vec::new();
    for second in 0..seconds {
        if second % 5 == 0 && second / 5 < streams {
            street.send(u64::MAX);
            street.set_path(16_000);
        }
        let before = street.total();
        street.longest_wait = Duration::ZERO;
        street.run(Duration::from_secs(1));
        result.push(((street.total() - before) * 100 / rate, street.longest_wait));
    }
    result
}

#[test]
fn a_deep_queue_that_nobody_marks_stays_short() {
    // 20 Mbit/s with 1.5 MB before it: a link's TCP that takes all it is given.
    let road = Road {
        delay: MS * 20,
        rate: Some(2_500_000),
        queue: MS * 600,
        ..Road::default()
    };
    let seconds = shares_and_waits(&road, 1, 40);
    println!("{seconds:?}");
    let share = seconds[2..].iter().map(|&(share, _)| share).sum::<u64>() / 38;
    assert!(share >= 90, "{share} % of the link");
    for (second, &(_, wait)) in seconds.iter().enumerate().skip(2) {
        assert!(wait <= MS * 60, "{wait:?} in second {second}");
    }
}

#[test]
fn streams_that_come_later_keep_a_deep_queue_short_too() {
    let road = Road {
        delay: MS * 20,
        rate: Some(2_500_000),
        queue: MS * 600,
        ..Road::default()
    };
    let seconds = shares_and_waits(&road, 4, 60);
    println!("{seconds:?}");
    for (second, &(share, wait)) in seconds.iter().enumerate().skip(20) {
        assert!(share >= 80, "{share} % in second {second}");
        assert!(wait <= MS * 200, "{wait:?} in second {second}");
    }
}

#[test]
fn a_route_that_changes_every_second() {
    let mut street = street(5, Road::default());
    street.send(40_000_000);
    let mut seconds = 0;
    loop {
        seconds += 1;
        // Shorter than before: what is sent now overtakes what was.
        street.road = Road {
            delay: MS * [10, 60, 2, 30][seconds % 4],
            loss: 5,
            rate: Some([2, 8, 4][seconds % 3] * 1_000_000),
            ..Road::default()
        };
        if seconds % 2 == 0 {
            street.kick();
        }
        if street.run(Duration::from_secs(1)) {
            break;
        }
        assert!(seconds < 30, "{} bytes after 30 s", street.total());
    }
    println!("40 MB over a route that changes every second: {seconds} s");
}

/// What each of 64 streams gets of a link in five seconds.
fn shares(is_fair: bool) -> Vec<u64> {
    let road = Road {
        delay: MS * 20,
        rate: Some(MEGABITS_100),
        queue: MS * 100,
        mark: MS * 5,
        is_fair,
        ..Road::default()
    };
    let mut street = street(9, road);
    for _ in 0..64 {
        street.send(u64::MAX);
    }
    street.run(Duration::from_secs(4));
    let before: Vec<u64> = street.sinks.iter().map(|sink| sink.read).collect();
    street.run(Duration::from_secs(5));
    let read = street.sinks.iter().map(|sink| sink.read);
    let shares: Vec<u64> = read.zip(before).map(|(read, before)| read - before).collect();
    let (least, most, sum) = (shares.iter().min(), shares.iter().max(), shares.iter().sum::<u64>());
    println!(
        "64 streams, fair: {is_fair}: {least:?} to {most:?} bytes, {} on average",
        sum / 64
    );
    assert!(sum * 100 >= 5 * MEGABITS_100 * 85, "{sum}");
    shares
}

#[test]
fn sixty_four_streams_share_a_relay_of_ours_alike() {
    let shares = shares(true);
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(least * 100 >= most * 80, "{least} to {most}");
}

#[test]
fn sixty_four_streams_share_a_queue_without_turns() {
    let shares = shares(false);
    let mean = shares.iter().sum::<u64>() / 64;
    assert!(shares.iter().all(|&share| share * 3 >= mean && share <= mean * 3));
}

#[test]
fn memory_stays_within_its_budget_and_is_used() {
    let config = TableConfig {
        receive_memory: 4 << 20,
        send_memory: 4 << 20,
        ..TableConfig::default()
    };
    let road = Road {
        delay: MS * 50,
        loss: 10,
        ..Road::default()
    };
    let mut street = Street::new(2, config, road);
    for _ in 0..20 {
        street.send(2_000_000);
    }
    assert!(street.run(Duration::from_secs(60)));
    assert!(
        street.memory_peak.0 > 1 << 20 && street.memory_peak.1 > 1 << 20,
        "{:?}",
        street.memory_peak
    );
}

#[test]
fn packets_that_are_too_large_for_the_road_are_given_up_and_tried_again_later() {
    let road = Road {
        rate: Some(4_000_000),
        ..Road::default()
    };
    let mut street = street(4, road);
    street.send(u64::MAX);
    street.run(MS * 200);
    street.road.largest = 1400;
    street.run(Duration::from_secs(4));
    let before = street.total();
    street.run(Duration::from_secs(1));
    let small = street.total() - before;
    assert!(small > 500_000, "{small} bytes in a second");
    street.road.largest = usize::MAX;
    street.run(Duration::from_secs(15));
    let (before, packets) = (street.total(), street.packets[0]);
    street.run(Duration::from_secs(1));
    let size = (street.total() - before) / (street.packets[0] - packets);
    // An eighth of a window that holds a short queue.
    assert!(size > 5_000, "packets of {size} bytes");
}
