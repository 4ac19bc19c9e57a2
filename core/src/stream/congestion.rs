//! How many bytes may be in flight: CUBIC (RFC 9438) over a model of the path, its delivery rate and its lowest round trip.
//!
//! * **Random loss is not congestion.** While fewer than 2 % of packets are lost, nothing carries a mark and the lowest
//!   round trip of the current round is near the lowest of all, no queue is filling, and the window stays.
//! * **What the path delivers is no congestion either.** Loss takes the window back to what was delivered in the last round
//!   at the lowest round trip, which empties the queue, and not below.
//! * **Slow start ends** when the delay grows (RFC 9406) or the delivery rate does not, three rounds long.
//! * **Marks are answered in proportion** (RFC 8257), because relays of ours mark before they drop.
//! * **A queue that stands is drained**, also where nobody marks it (`standing`).
//! * **A reduction that proves wrong is undone**, and silence without loss changes nothing: when a hop stalls (a TCP link
//!   retransmits, a relay restarts), nothing is reported lost until something newer arrives.
//!
//! Integers only: the core is `no_std`, and two machines must compute the same.

use crate::time::{Duration, Instant};

use super::rate::Rate;
use super::rtt::Rtt;
use super::size::BASE;
use super::standing::{Standing, Verdict};

/// Segments in flight before the first acknowledgement.
const INITIAL_SEGMENTS: u64 = 8;
/// The window never falls below this many segments of the smallest size.
const MIN_SEGMENTS: u64 = 4;
/// The window is spread over at least this many segments, which are smaller on thin paths.
const SPREAD: u64 = 8;
/// While nothing waits anywhere, the window grows by this fraction per round trip.
const FREE_GROWTH: u64 = 16;
/// The unit of growth, in bytes, or the largest segment if that is less. The same for all streams, whatever their windows,
/// or they would never become equal.
const GROWTH: u64 = 4096;
/// Fraction of the window kept after congestion, in percent (RFC 9438 §4.6).
const BETA_PERCENT: u64 = 70;
/// Share of lost packets from which loss alone is congestion, in percent.
const RANDOM_LOSS_PERCENT: u64 = 2;
/// Fewer losses than this are no statistic, unless a tenth of all packets is lost; then three are enough.
const RANDOM_LOSS_MIN: u64 = 8;
const HEAVY_LOSS_MIN: u64 = 3;
/// Packets after which the counts for the share are halved.
const LOSS_MEMORY: u64 = 2048;
/// Rounds in which the delivery rate has not grown by a quarter, after which slow start ends.
const FLAT_ROUNDS: u8 = 3;
/// Round-trip samples before slow start may end by delay (RFC 9406 §4.2).
const HYSTART_SAMPLES: u32 = 8;
/// Scale of `mark_share`.
const MARK_UNIT: u64 = 1024;

/// The congestion controller of one sending direction.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    segment: u64,
    window: u64,
    threshold: u64,
    cubic: Cubic,
    /// Losses of packets sent before this time belong to a reduction already made.
    recovery_start: Option<Instant>,
    undo: Option<Undo>,
    round: Round,
    /// Lowest round trip of the round before this one; zero if it had none.
    previous_min: Duration,
    /// Decaying counts of packets, for the share of random loss.
    acked_packets: u64,
    lost_packets: u64,
    /// Smoothed share of marked packets, of `MARK_UNIT`.
    mark_share: u64,
    rate: Rate,
    standing: Standing,
}

/// One round trip: it ends when a packet is acknowledged that was sent after it began.
#[derive(Clone, Debug)]
struct Round {
    began: Instant,
    ends_after: u64,
    bytes: u64,
    /// The window was the limit at some time.
    is_limited: bool,
    min_rtt: Duration,
    samples: u32,
    acked: u64,
    marked: u64,
}

/// The cubic function's parameters.
#[derive(Clone, Copy, Debug, Default)]
struct Cubic {
    max: u64,
    epoch: Option<Instant>,
    k_millis: u64,
    /// What Reno would have: the lower bound (RFC 9438 §4.3).
    reno: u64,
}

/// What to go back to if all packets of a reduction arrive after all.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: u64,
    threshold: u64,
    cubic: Cubic,
    lost: u64,
    arrived: u64,
}

/// What one acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes newly acknowledged, with their packets.
    pub(super) bytes: u64,
    pub(super) packets: u64,
    /// Bytes in flight before.
    pub(super) in_flight: u64,
    /// Largest number acknowledged, and the next number to be used.
    pub(super) largest: u64,
    pub(super) next: u64,
    /// Round-trip time, if it gave a sample.
    pub(super) sample: Option<Duration>,
    /// Packets that were called lost and have arrived.
    pub(super) spurious: u64,
    /// Packets newly reported as marked.
    pub(super) marked: u64,
}

impl Congestion {
    pub(super) const fn new(segment: u64) -> Self {
        Self {
            segment,
            window: INITIAL_SEGMENTS * segment,
            threshold: u64::MAX,
            cubic: Cubic {
                max: 0,
                epoch: None,
                k_millis: 0,
                reno: 0,
            },
            recovery_start: None,
            undo: None,
            round: Round {
                began: Instant::ZERO,
                ends_after: 0,
                bytes: 0,
                is_limited: false,
                min_rtt: Duration::MAX,
                samples: 0,
                acked: 0,
                marked: 0,
            },
            previous_min: Duration::ZERO,
            acked_packets: 0,
            lost_packets: 0,
            mark_share: 0,
            rate: Rate::new(),
            standing: Standing::new(),
        }
    }

    /// What the path has delivered lately at its best, in bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.rate.highest()
    }

    /// Whether the window doubles from round to round.
    pub(super) const fn is_in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// Size of a segment that suits the window: many streams on a thin path must not send in lumps.
    pub(super) fn segment(&self) -> u64 {
        (self.window / SPREAD).max(BASE as u64).min(self.segment)
    }

    fn least(&self) -> u64 {
        MIN_SEGMENTS * self.segment.min(BASE as u64)
    }

    /// Bytes that may be in flight.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    /// The peer takes smaller packets than we would send.
    pub(super) fn set_segment(&mut self, segment: u64) {
        self.segment = segment;
    }

    /// Packets were acknowledged.
    pub(super) fn on_progress(&mut self, now: Instant, progress: Progress, rtt: &Rtt) {
        self.acked_packets += progress.packets;
        self.round.acked += progress.packets;
        self.round.marked += progress.marked;
        self.round.bytes += progress.bytes;
        if progress.spurious > 0 {
            self.on_spurious(progress.spurious);
        }
        if let Some(sample) = progress.sample {
            self.round.min_rtt = self.round.min_rtt.min(sample);
            self.round.samples += 1;
            self.standing.on_sample(now, sample);
        }
        // A window that was not used says nothing about the path.
        if progress.in_flight * 2 >= self.window {
            self.round.is_limited = true;
            self.grow(now, progress.bytes, rtt);
        }
        if progress.largest >= self.round.ends_after {
            self.end_round(now, progress.next, rtt);
        }
    }

    /// `count` packets are lost, the last of them sent at `sent`.
    pub(super) fn on_lost(&mut self, now: Instant, count: u64, sent: Instant, rtt: &Rtt) {
        self.lost_packets += count;
        if self.recovery_start.is_some_and(|start| sent <= start) {
            if let Some(undo) = &mut self.undo {
                undo.lost += count;
            }
            return;
        }
        if !(self.is_queueing(rtt) || self.is_heavy()) {
            return;
        }
        self.recovery_start = Some(now);
        self.give_up_draining();
        self.remember(count);
        let before = self.window;
        self.reduce(BETA_PERCENT, 100);
        let delivered = u128::from(self.rate.last) * rtt.min().as_nanos() / 1_000_000_000;
        self.window = self
            .window
            .max(before.min(u64::try_from(delivered).unwrap_or(u64::MAX)));
        self.threshold = self.window;
        // The next round has to show it again.
        self.rate.last -= self.rate.last / 8;
    }

    /// Everything in flight was lost, and probes in vain went before: the path may be another one now.
    pub(super) fn on_blackout(&mut self, now: Instant) {
        self.give_up_draining();
        if self.undo.is_none() {
            self.remember(1);
        }
        self.recovery_start = Some(now);
        self.threshold = self.threshold.min(self.window * BETA_PERCENT / 100).max(self.least());
        self.window = self.window.min(INITIAL_SEGMENTS * self.segment);
        self.cubic.epoch = None;
    }

    /// Nothing was in flight for longer than a probe timeout: half of the window is out of date (RFC 7661).
    pub(super) fn on_idle(&mut self) {
        self.give_up_draining();
        let initial = INITIAL_SEGMENTS * self.segment;
        if self.window > initial {
            self.threshold = self.threshold.min(self.window * 3 / 4);
            self.window = initial.max(self.window / 2);
            self.cubic.epoch = None;
        }
    }

    fn grow(&mut self, now: Instant, bytes: u64, rtt: &Rtt) {
        if self.standing.is_draining() {
            return;
        }
        if self.window < self.threshold {
            self.window += bytes;
            // RFC 9406 says at least 4 ms, but the queues of a local mesh overflow before that.
            let least = (rtt.min() * 2).clamp(Duration::from_millis(1), Duration::from_millis(4));
            let allowance = (rtt.min() / 8).clamp(least, Duration::from_millis(16));
            if self.round.samples >= HYSTART_SAMPLES && self.round.min_rtt >= rtt.min() + allowance {
                self.threshold = self.window;
            }
            return;
        }
        if self.standing.is_enough() {
            self.cubic.epoch = None;
            return;
        }
        let before = self.window;
        let segment = self.segment.min(GROWTH);
        let cubic = &mut self.cubic;
        let epoch = *cubic.epoch.get_or_insert_with(|| {
            cubic.max = cubic.max.max(self.window);
            cubic.reno = self.window;
            // K = ∛((max − window) / (0.4 segments)) in seconds (RFC 9438 §4.2).
            let segments_milli = (cubic.max - self.window) * 1000 / segment;
            cubic.k_millis = cube_root(segments_milli.saturating_mul(2_500_000));
            now
        });
        let elapsed = (now.since(epoch) + rtt.smoothed()).as_millis().min(1_000_000) as i128;
        let distance = elapsed - i128::from(cubic.k_millis);
        let delta = distance.pow(3) * i128::from(segment) * 4 / 10 / 1_000_000_000;
        let target = u64::try_from(i128::from(cubic.max) + delta).unwrap_or(0);
        let target = target.clamp(self.window, self.window + self.window / 2);
        // 0.53 = 3 (1 − β) / (1 + β) (RFC 9438 §4.3).
        cubic.reno += 53 * segment * bytes / (100 * self.window);
        self.window +=
            u64::try_from(u128::from(target - self.window) * u128::from(bytes) / u128::from(self.window)).unwrap_or(0);
        self.window = self.window.max(cubic.reno);
        if self.is_path_free(rtt) {
            self.window = self.window.max(before + bytes / FREE_GROWTH);
        }
    }

    /// Nothing waited anywhere in the last round: the window is what limits, and can grow faster than by the cubic function.
    fn is_path_free(&self, rtt: &Rtt) -> bool {
        let allowance = (rtt.min() / 16).max(Duration::from_micros(200));
        self.previous_min > Duration::ZERO
            && self.previous_min <= rtt.min() + allowance
            && self.round.marked == 0
            && self.mark_share < MARK_UNIT / 64
            && !self.is_heavy()
    }

    fn end_round(&mut self, now: Instant, next: u64, rtt: &Rtt) {
        // Rounds are not shorter than the lowest round trip: what was acknowledged at once was not delivered at once.
        let took = now.since(self.round.began).max(rtt.min()).as_nanos().max(1);
        let sample = u128::from(self.round.bytes) * 1_000_000_000 / took;
        let is_limited = self.round.is_limited && !self.standing.is_draining();
        self.rate
            .on_round(u64::try_from(sample).unwrap_or(u64::MAX / 8), is_limited);
        if self.is_in_slow_start() && self.rate.flat_rounds >= FLAT_ROUNDS {
            self.threshold = self.window;
        }
        let share = self.round.marked.min(self.round.acked) * MARK_UNIT / self.round.acked.max(1);
        self.mark_share = (self.mark_share * 15 + share) / 16;
        if self.round.marked > 0 {
            self.mark_share = self.mark_share.max(1);
            self.recovery_start = Some(now);
            self.give_up_draining();
            self.reduce(MARK_UNIT * 2 - self.mark_share.min(MARK_UNIT), MARK_UNIT * 2);
        }
        self.empty_queue(now);
        if self.acked_packets + self.lost_packets > LOSS_MEMORY {
            self.acked_packets /= 2;
            self.lost_packets /= 2;
        }
        self.previous_min = if self.round.samples > 0 {
            self.round.min_rtt
        } else {
            Duration::ZERO
        };
        self.round = Round {
            began: now,
            ends_after: next,
            bytes: 0,
            is_limited: false,
            min_rtt: Duration::MAX,
            samples: 0,
            acked: 0,
            marked: 0,
        };
    }

    /// Drains a queue that stands, or goes on after that.
    fn empty_queue(&mut self, now: Instant) {
        let round = &self.round;
        match self
            .standing
            .on_round(now, round.min_rtt, round.samples, round.is_limited)
        {
            Verdict::Nothing => {}
            Verdict::Drain => {
                self.standing.drain_from(self.window);
                let half = self.held(self.standing.base() / 2);
                self.window = self.window.min(half).max(self.least());
            }
            Verdict::Resume { window, within } => {
                self.window = window.min(self.held(within)).max(self.least());
                self.threshold = self.threshold.min(self.window);
                self.cubic = Cubic::default();
            }
        }
    }

    /// What the path delivers in this time.
    fn held(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate.highest()) * time.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Another rule sets the window now, from what it was.
    fn give_up_draining(&mut self) {
        if let Some(window) = self.standing.give_up() {
            self.window = window;
        }
    }

    /// So much is lost that it is no accident.
    const fn is_heavy(&self) -> bool {
        let (lost, all) = (self.lost_packets, self.lost_packets + self.acked_packets);
        (lost >= RANDOM_LOSS_MIN && lost * 100 >= RANDOM_LOSS_PERCENT * all)
            || (lost >= HEAVY_LOSS_MIN && lost * 10 >= all)
    }

    /// A queue is filling on the way, or a relay says so of many packets. A few marks are an answer of their own: what is
    /// lost among them may be lost at random.
    fn is_queueing(&self, rtt: &Rtt) -> bool {
        let allowance = (rtt.min() / 4).max(Duration::from_millis(1));
        let lowest = if self.round.samples > 0 {
            self.round.min_rtt
        } else {
            self.previous_min
        };
        lowest > rtt.min() + allowance || self.mark_share > MARK_UNIT / 4
    }

    fn reduce(&mut self, numerator: u64, denominator: u64) {
        // Fast convergence (RFC 9438 §4.7).
        let shrinking = self.window < self.cubic.max;
        self.cubic.max = if shrinking {
            self.window * (100 + BETA_PERCENT) / 200
        } else {
            self.window
        };
        self.cubic.epoch = None;
        self.window = (self.window * numerator / denominator).max(self.least());
        self.threshold = self.window;
    }

    fn remember(&mut self, lost: u64) {
        let (window, threshold, cubic) = (self.window, self.threshold, self.cubic);
        self.undo = Some(Undo {
            window,
            threshold,
            cubic,
            lost,
            arrived: 0,
        });
    }

    fn on_spurious(&mut self, count: u64) {
        self.lost_packets = self.lost_packets.saturating_sub(count);
        let Some(undo) = &mut self.undo else { return };
        undo.arrived += count;
        if undo.arrived >= undo.lost {
            self.window = self.window.max(undo.window);
            self.threshold = self.threshold.max(undo.threshold);
            self.cubic = undo.cubic;
            self.undo = None;
        }
    }
}

/// The integer part of the cube root.
fn cube_root(value: u64) -> u64 {
    let mut root = 0_u64;
    for bit in (0..=21).rev() {
        let candidate = root | 1 << bit;
        if candidate.checked_pow(3).is_some_and(|cube| cube <= value) {
            root = candidate;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16_384;

    fn rtt(millis: u64) -> Rtt {
        let mut rtt = Rtt::new();
        rtt.update(Instant::ZERO, Duration::from_millis(millis), Duration::ZERO);
        rtt
    }

    /// One full window acknowledged, a packet at a time, all with the same round trip.
    fn round(congestion: &mut Congestion, now: Instant, number: &mut u64, rtt: &Rtt, sample: Duration) {
        let packets = congestion.window() / SEGMENT;
        let end = *number + packets;
        for largest in *number..end {
            let in_flight = congestion.window();
            let sample = Some(sample);
            let progress = Progress {
                bytes: SEGMENT,
                packets: 1,
                in_flight,
                largest,
                next: end,
                sample,
                ..Progress::default()
            };
            congestion.on_progress(now, progress, rtt);
        }
        *number = end;
    }

    #[test]
    fn cube_roots() {
        for value in [0, 1, 7, 8, 26, 27, 1_000_000, u64::MAX] {
            let root = cube_root(value);
            assert!(root.pow(3) <= value && (root + 1).checked_pow(3).is_none_or(|cube| cube > value));
        }
    }

    #[test]
    fn slow_start_doubles_and_ends_when_the_delay_grows() {
        let (mut congestion, mut number, rtt) = (Congestion::new(SEGMENT), 0, rtt(20));
        let near = Duration::from_millis(20);
        round(&mut congestion, Instant::ZERO, &mut number, &rtt, near);
        assert_eq!(congestion.window(), 16 * SEGMENT);
        round(
            &mut congestion,
            Instant::ZERO,
            &mut number,
            &rtt,
            Duration::from_millis(30),
        );
        assert!(congestion.window() < 32 * SEGMENT && congestion.threshold <= congestion.window());
    }

    #[test]
    fn rare_loss_without_delay_keeps_the_window_and_frequent_loss_does_not() {
        let (mut congestion, mut number, rtt) = (Congestion::new(SEGMENT), 0, rtt(20));
        let near = Duration::from_millis(20);
        for _ in 0..4 {
            round(&mut congestion, Instant::ZERO, &mut number, &rtt, near);
        }
        let before = congestion.window();
        congestion.on_lost(Instant::from_millis(1), 1, Instant::from_millis(1), &rtt);
        assert_eq!(congestion.window(), before);
        congestion.on_lost(Instant::from_millis(2), 20, Instant::from_millis(2), &rtt);
        let delivered = congestion.window();
        assert!(
            delivered >= before / 2 && delivered <= before,
            "{delivered} of {before}"
        );
        congestion.on_lost(Instant::from_millis(3), 20, Instant::from_millis(1), &rtt);
        assert_eq!(congestion.window(), delivered, "one reduction per round trip");
        for at in 4..200 {
            congestion.on_lost(Instant::from_millis(at), 20, Instant::from_millis(at), &rtt);
        }
        assert_eq!(congestion.window(), MIN_SEGMENTS * BASE as u64);
    }

    #[test]
    fn a_wrong_reduction_is_undone() {
        let (mut congestion, mut number, rtt) = (Congestion::new(SEGMENT), 0, rtt(20));
        round(
            &mut congestion,
            Instant::ZERO,
            &mut number,
            &rtt,
            Duration::from_millis(20),
        );
        let before = congestion.window();
        congestion.on_lost(Instant::from_millis(1), 10, Instant::from_millis(1), &rtt);
        assert!(congestion.window() < before);
        let progress = Progress {
            packets: 10,
            spurious: 10,
            ..Progress::default()
        };
        congestion.on_progress(Instant::from_millis(2), progress, &rtt);
        assert!(congestion.window() >= before);
    }

    #[test]
    fn cubic_reaches_the_old_window_again_and_passes_it() {
        let (mut congestion, mut number, rtt) = (Congestion::new(SEGMENT), 0, rtt(20));
        let near = Duration::from_millis(20);
        for _ in 0..6 {
            round(&mut congestion, Instant::ZERO, &mut number, &rtt, near);
        }
        let before = congestion.window();
        congestion.on_lost(Instant::from_millis(1), 200, Instant::from_millis(1), &rtt);
        let mut at = 0;
        while congestion.window() <= before {
            at += 20;
            assert!(at < 20_000, "window {} of {before}", congestion.window());
            round(&mut congestion, Instant::from_millis(at), &mut number, &rtt, near);
        }
        assert!(at > 100);
    }

    #[test]
    fn marks_are_answered_in_proportion() {
        let (mut congestion, rtt) = (Congestion::new(SEGMENT), rtt(20));
        let before = congestion.window();
        let progress = Progress {
            packets: 16,
            marked: 1,
            largest: 16,
            next: 32,
            ..Progress::default()
        };
        congestion.on_progress(Instant::ZERO, progress, &rtt);
        let few = before - congestion.window();
        assert!(few > 0 && few < before / 20, "{few} of {before}");
        for largest in 32..200 {
            let progress = Progress {
                packets: 1,
                marked: 1,
                largest,
                next: largest + 1,
                ..Progress::default()
            };
            congestion.on_progress(Instant::ZERO, progress, &rtt);
        }
        assert_eq!(congestion.window(), MIN_SEGMENTS * BASE as u64);
    }
}
