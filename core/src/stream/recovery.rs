//! What is in flight, and what is lost: RFC 9002 §6 with every transmission under a number of its own.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::time::{Duration, Instant};

use super::acks::MAX_ACK_DELAY;
use super::congestion::Progress;
use super::packet::Ack;
use super::ranges::RangeSet;
use super::rtt::Rtt;
use super::send::SendBuffer;
use super::size::SegmentSize;

/// Packets that must be acknowledged behind one before it counts as lost (RFC 9002 §6.1.1).
const THRESHOLD: u64 = 3;
/// Proofs of reordering that make it more patient. Each quadruples the threshold and doubles what is added to the round trip before a
/// packet is overdue, from an eighth to the whole round trip and more (in the manner of RFC 8985).
const PATIENCE_MAX: u32 = 4;
/// Most packets followed at a time; a window of 8 MiB in packets of 1,200 bytes is 7,000.
pub(super) const MAX_TRACKED: usize = 8192;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fate {
    #[default]
    InFlight,
    Acked,
    Lost,
}

/// One numbered packet.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// Offset of the stream bytes it carried, and how many these were.
    pub(super) start: u64,
    pub(super) length: u32,
    /// Its size for the congestion window.
    pub(super) size: u32,
    /// It carried the end of the stream.
    pub(super) fin: bool,
    /// It told the peer that the peer's end of the stream has arrived.
    pub(super) confirms_end: bool,
    /// It was sent because nothing was heard.
    pub(super) is_probe: bool,
    /// It tries whether larger packets pass: its loss says nothing else.
    pub(super) is_trial: bool,
    pub(super) fate: Fate,
}

impl Sent {
    const fn range(&self) -> Range<u64> {
        self.start..self.start + self.length as u64
    }
}

/// Numbered packets whose fate is open, and those lost so recently that they may still turn up.
#[derive(Debug)]
pub(super) struct Recovery {
    sent: VecDeque<Sent>,
    /// Number of the first of them.
    floor: u64,
    /// No packet below is in flight.
    lowest: u64,
    /// Numbers acknowledged, from the floor on.
    acked: RangeSet,
    in_flight: u64,
    flying: u32,
    patience: u32,
    largest_acked: Option<u64>,
    /// When the next packet becomes overdue.
    loss_time: Option<Instant>,
    last_sent: Instant,
    marked: u64,
}

/// What is measured of the way to the peer.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) rtt: Rtt,
    pub(super) size: SegmentSize,
}

/// What an acknowledgement or the passing of time told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    pub(super) progress: Progress,
    /// Packets newly lost, and when the last of them was sent.
    pub(super) lost: u64,
    pub(super) last_lost_sent: Instant,
    /// Bytes of the send buffer that became free.
    pub(super) freed: u64,
    /// The peer knows that its end of the stream has arrived.
    pub(super) confirmed_end: bool,
    /// What became of a packet that tried a larger size.
    pub(super) trial: Option<bool>,
}

impl Recovery {
    pub(super) const fn new() -> Self {
        Self {
            sent: VecDeque::new(),
            floor: 0,
            lowest: 0,
            acked: RangeSet::new(),
            in_flight: 0,
            flying: 0,
            patience: 0,
            largest_acked: None,
            loss_time: None,
            last_sent: Instant::ZERO,
            marked: 0,
        }
    }

    /// The number of the next packet.
    pub(super) fn next(&self) -> u64 {
        self.floor + self.sent.len() as u64
    }

    /// The lowest number whose acknowledgement still means something.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// Bytes in flight.
    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether any packet awaits its acknowledgement.
    pub(super) const fn is_waiting(&self) -> bool {
        self.flying > 0
    }

    /// Whether no more packets can be followed.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= MAX_TRACKED
    }

    /// When the last numbered packet was sent.
    pub(super) const fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// When to look for overdue packets.
    pub(super) const fn loss_time(&self) -> Option<Instant> {
        self.loss_time
    }

    /// A packet went out under the number [`Self::next`].
    pub(super) fn on_sent(&mut self, sent: Sent) {
        self.in_flight += u64::from(sent.size);
        self.flying += 1;
        self.last_sent = sent.at;
        self.sent.push_back(sent);
    }

    /// Takes an acknowledgement; `None` if it names packets that were never sent.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        path: &mut Path,
        send: &mut SendBuffer,
    ) -> Option<News> {
        let largest = ack.largest();
        if largest >= self.next() {
            return None;
        }
        let mut news = News::default();
        news.progress.in_flight = self.in_flight;
        news.progress.largest = largest;
        news.progress.next = self.next();
        news.progress.marked = ack.marked.saturating_sub(self.marked);
        self.marked = self.marked.max(ack.marked);
        for (start, end) in ack.ranges() {
            if end < self.floor {
                break;
            }
            let mut at = start.max(self.floor);
            while at <= end {
                // Most of what an acknowledgement says was said before.
                let Some(gap) = self.acked.missing(at..end + 1).next() else {
                    break;
                };
                at = gap.end;
                for number in gap.clone() {
                    self.acknowledge(number, path, send, &mut news);
                }
                if gap.end == largest + 1 {
                    let sample = now.since(self.sent[(largest - self.floor) as usize].at);
                    let delay = Duration::from_micros(ack.delay_us).min(MAX_ACK_DELAY);
                    path.rtt.update(now, sample, delay);
                    news.progress.sample = Some(sample);
                }
                self.acked.insert(gap);
            }
        }
        if news.progress.spurious > 0 {
            self.patience = PATIENCE_MAX.min(self.patience + 1);
        }
        self.largest_acked = self.largest_acked.max(Some(largest));
        self.detect_lost(now, path, send, &mut news);
        Some(news)
    }

    /// Time has passed [`Self::loss_time`].
    pub(super) fn on_loss_time(&mut self, now: Instant, path: &mut Path, send: &mut SendBuffer) -> News {
        let mut news = News::default();
        self.detect_lost(now, path, send, &mut news);
        news
    }

    /// Forgets everything in flight; the stream is over.
    pub(super) fn clear(&mut self) {
        *self = Self {
            floor: self.next(),
            lowest: self.next(),
            last_sent: self.last_sent,
            ..Self::new()
        };
    }

    /// Gives memory back that is not needed.
    pub(super) fn trim(&mut self) {
        if self.sent.capacity() > 4 {
            self.sent.shrink_to(4);
        }
        self.acked.trim_memory();
    }

    fn acknowledge(&mut self, number: u64, path: &mut Path, send: &mut SendBuffer, news: &mut News) {
        let sent = &mut self.sent[(number - self.floor) as usize];
        match sent.fate {
            Fate::Acked => return,
            Fate::InFlight => {
                self.in_flight -= u64::from(sent.size);
                self.flying -= 1;
            }
            Fate::Lost => news.progress.spurious += 1,
        }
        sent.fate = Fate::Acked;
        news.progress.bytes += u64::from(sent.size);
        news.progress.packets += 1;
        news.confirmed_end |= sent.confirms_end;
        path.size.on_acked(number, sent.size, sent.is_probe);
        if sent.is_trial {
            news.trial = Some(true);
        }
        news.freed += send.on_acked(sent.range(), sent.fin);
    }

    fn detect_lost(&mut self, now: Instant, path: &mut Path, send: &mut SendBuffer, news: &mut News) {
        self.loss_time = None;
        let Some(largest) = self.largest_acked else {
            return;
        };
        let delay = path.rtt.loss_delay(self.patience);
        let threshold = THRESHOLD << (2 * self.patience);
        let first = self.lowest.max(self.floor);
        let mut lowest = None;
        let unsettled = self.sent.iter_mut().skip((first - self.floor) as usize);
        for (number, sent) in (first..largest).zip(unsettled) {
            if sent.fate != Fate::InFlight {
                continue;
            }
            let overdue = sent.at + delay;
            if number + threshold <= largest || overdue <= now {
                sent.fate = Fate::Lost;
                self.in_flight -= u64::from(sent.size);
                self.flying -= 1;
                send.on_lost(sent.range(), sent.fin);
                if sent.is_trial {
                    news.trial = Some(false);
                } else {
                    news.lost += 1;
                    news.last_lost_sent = sent.at;
                    path.size.on_lost(number, sent.size);
                }
            } else {
                // Later ones were sent later, and are overdue later.
                self.loss_time = Some(overdue);
                lowest = Some(number);
                break;
            }
        }
        self.lowest = lowest.unwrap_or_else(|| largest.max(first));
        self.forget(now, delay);
    }

    /// Drops packets whose fate is settled from the front. A lost one is kept for two round trips more: an
    /// acknowledgement that still comes proves that it was merely late.
    fn forget(&mut self, now: Instant, delay: Duration) {
        while let Some(sent) = self.sent.front() {
            let settled = match sent.fate {
                Fate::InFlight => false,
                Fate::Acked => true,
                Fate::Lost => sent.at + delay * 3 <= now || self.sent.len() > MAX_TRACKED / 2,
            };
            if !settled {
                break;
            }
            self.sent.pop_front();
            self.floor += 1;
        }
        self.acked.trim_below(self.floor);
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::stream::packet::{AckOut, Packet, Writer};

    struct Bench {
        recovery: Recovery,
        path: Path,
        send: SendBuffer,
    }

    impl Bench {
        /// `count` packets of ten bytes, a millisecond apart.
        fn new(count: u64) -> Self {
            let mut bench = Self {
                recovery: Recovery::new(),
                path: Path {
                    rtt: Rtt::new(),
                    size: SegmentSize::new(1024),
                },
                send: SendBuffer::default(),
            };
            bench.send.push(Bytes::from(alloc::vec![7; 10 * count as usize]));
            for n in 0..count {
                let (start, end) = (n * 10, n * 10 + 10);
                bench.send.emit(start..end, &mut BytesMut::new());
                let at = Instant::from_millis(n);
                bench.recovery.on_sent(Sent {
                    at,
                    start,
                    length: 10,
                    size: 10,
                    ..Sent::default()
                });
            }
            bench
        }

        fn ack(&mut self, at: u64, numbers: &[u64]) -> Option<News> {
            let mut received = RangeSet::default();
            for &number in numbers {
                received.insert(number..number + 1);
            }
            let mut buffer = BytesMut::new();
            let mut writer = Writer::new(&mut buffer, 0, 0);
            writer.ack(AckOut {
                received: &received,
                delay_us: 0,
                window: 0,
                marked: 0,
                limit: 32,
            });
            let packet = writer.finish();
            let ack = Packet::parse(&packet)?.ack?;
            self.recovery
                .on_ack(Instant::from_millis(at), &ack, &mut self.path, &mut self.send)
        }
    }

    #[test]
    fn three_later_packets_make_a_loss_and_a_late_one_undoes_it() {
        let mut bench = Bench::new(10);
        let news = bench.ack(20, &[1, 2]).unwrap();
        assert_eq!((news.lost, news.progress.packets), (0, 2));
        assert!(bench.recovery.loss_time().is_some());
        let news = bench.ack(20, &[3]).unwrap();
        assert_eq!((news.lost, bench.send.next_segment(0)), (1, Some(0..10)));
        let news = bench.ack(21, &[0]).unwrap();
        assert_eq!(
            (news.progress.spurious, news.freed, bench.send.next_segment(0)),
            (1, 40, None)
        );
        assert_eq!(bench.recovery.patience, 1);
        assert_eq!((bench.recovery.floor(), bench.recovery.in_flight()), (4, 60));
    }

    #[test]
    fn time_makes_a_loss() {
        let mut bench = Bench::new(2);
        assert_eq!(bench.ack(20, &[1]).unwrap().lost, 0);
        let at = bench.recovery.loss_time().unwrap();
        let news = bench.recovery.on_loss_time(at, &mut bench.path, &mut bench.send);
        assert_eq!(news.lost, 1);
        assert_eq!(bench.recovery.loss_time(), None);
        assert!(!bench.recovery.is_waiting());
    }

    #[test]
    fn what_was_said_before_counts_once() {
        let mut bench = Bench::new(10);
        assert_eq!(bench.ack(20, &[1, 2, 5]).unwrap().progress.packets, 3);
        let again = bench.ack(21, &[0, 1, 2, 5, 6]).unwrap();
        assert_eq!((again.progress.packets, again.freed), (2, 30));
        let again = bench.ack(22, &[0, 1, 2, 5, 6]).unwrap();
        assert_eq!((again.progress.packets, again.progress.sample), (0, None));
    }

    #[test]
    fn numbers_never_sent_are_refused() {
        assert!(Bench::new(2).ack(5, &[2]).is_none());
    }
}
