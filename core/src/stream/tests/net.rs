//! Two streams and what lies between them, under virtual time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::deadline::Deadline;
use crate::rng::Rng;
use crate::stream::{Config, Event, Stream};
use crate::time::{Duration, Instant};

pub(super) const HEADROOM: usize = 36;

/// What the network does to a packet. Probabilities are in thousandths.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    pub(super) delay: Duration,
    /// Up to this much is added at random, so packets overtake each other.
    pub(super) jitter: Duration,
    pub(super) loss: u64,
    pub(super) duplicate: u64,
    pub(super) corrupt: u64,
    /// Nothing passes between these times.
    pub(super) blackout: Option<(Instant, Instant)>,
    /// A bottleneck in each direction.
    pub(super) bottleneck: Option<Bottleneck>,
}

/// A queue with a drain: the relays' bounded egress.
#[derive(Clone, Debug)]
pub(super) struct Bottleneck {
    pub(super) bytes_per_second: u64,
    pub(super) queue: u64,
    /// Packets are marked when this much waits.
    pub(super) mark_above: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            blackout: None,
            bottleneck: None,
        }
    }
}

/// One end: the machine, what it still has to write, and what it has read.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stream: Option<Stream>,
    pub(super) outbox: Bytes,
    /// Bytes per write.
    pub(super) write_size: usize,
    pub(super) finish: bool,
    pub(super) reads: bool,
    pub(super) inbox: Vec<u8>,
    pub(super) events: Vec<Event>,
    /// When the bottleneck towards the other end is free.
    free_at: Instant,
    pub(super) packets: u64,
    pub(super) sent_bytes: u64,
    pub(super) delivered_bytes: u64,
}

impl End {
    fn new(stream: Option<Stream>) -> Self {
        Self {
            stream,
            outbox: Bytes::new(),
            write_size: usize::MAX,
            finish: true,
            reads: true,
            inbox: Vec::new(),
            events: Vec::new(),
            free_at: Instant::ZERO,
            packets: 0,
            sent_bytes: 0,
            delivered_bytes: 0,
        }
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().unwrap()
    }

    /// What an application does: writes what fits, reads what is there.
    fn act(&mut self, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        while let Some(event) = stream.poll_event() {
            self.events.push(event);
        }
        while !self.outbox.is_empty() {
            let part = self.outbox.slice(..self.write_size.min(self.outbox.len()));
            let Ok(written) = stream.write(now, part) else { break };
            let _ = self.outbox.split_to(written);
        }
        if self.outbox.is_empty() && self.finish {
            stream.finish();
        }
        while self.reads
            && let Some(chunk) = stream.read(now)
        {
            assert!(!chunk.is_empty());
            self.inbox.extend_from_slice(&chunk);
        }
        while let Some(event) = stream.poll_event() {
            self.events.push(event);
        }
    }
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) config: Config,
    pub(super) weather: Weather,
    pub(super) ends: [End; 2],
    /// Packets on their way, by arrival and order of sending: to which end, and whether marked.
    flying: BTreeMap<(Instant, u64), (usize, Bytes, bool)>,
    sent: u64,
    /// Digest of everything that was sent, for comparing two runs.
    pub(super) trace: u64,
}

impl Pair {
    pub(super) fn new(seed: u8, config: Config, weather: Weather) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let dialler = Stream::dial(config.clone(), &mut rng, Instant::ZERO);
        let ends = [End::new(Some(dialler)), End::new(None)];
        Self {
            now: Instant::ZERO,
            rng,
            config,
            weather,
            ends,
            flying: BTreeMap::new(),
            sent: 0,
            trace: 0,
        }
    }

    /// Runs until nothing is left to wait for or `limit` is reached; sleeps exactly to the reported deadlines.
    pub(super) fn run(&mut self, limit: Instant) {
        self.run_until(limit, |_| false);
    }

    pub(super) fn run_until(&mut self, limit: Instant, mut done: impl FnMut(&Self) -> bool) {
        let mut idle_rounds = 0;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            let mut next = Deadline::Idle;
            for end in &self.ends {
                if let Some(stream) = &end.stream {
                    let deadline = stream.next_deadline();
                    assert_ne!(deadline, Deadline::Now, "everything was drained: {stream:?}");
                    next = next.min(deadline);
                }
            }
            let arrival = self.flying.first_key_value().map(|(&(at, _), _)| at);
            let at = match next.min(Deadline::at(arrival, "arrival")) {
                Deadline::At(at, _) => at,
                Deadline::Now | Deadline::Idle => return,
            };
            if at > limit {
                self.now = limit;
                return;
            }
            idle_rounds = if at > self.now { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < 1000, "time stands still at {at:?}: {:?}", self.ends);
            self.now = self.now.max(at);
            self.deliver();
            for end in &mut self.ends {
                if let Some(stream) = &mut end.stream
                    && stream.next_timeout().is_due(self.now)
                {
                    stream.handle_timeout(self.now);
                    assert!(
                        !stream.next_timeout().is_due(self.now),
                        "{:?}: {stream:?}",
                        stream.next_timeout()
                    );
                }
            }
        }
    }

    /// Lets both ends act until neither has anything to send.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for index in 0..2 {
                self.ends[index].act(self.now);
                while let Some(stream) = &mut self.ends[index].stream {
                    assert_eq!(
                        stream.wants_transmit(),
                        stream.next_deadline() == Deadline::Now || stream.has_event()
                    );
                    let Some(packet) = stream.poll_transmit(self.now, HEADROOM) else {
                        break;
                    };
                    quiet = false;
                    self.send(index, &packet);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn send(&mut self, from: usize, packet: &BytesMut) {
        assert!(
            packet.len() <= HEADROOM + self.config.max_packet,
            "{} bytes",
            packet.len()
        );
        assert_eq!(packet[..HEADROOM], [0; HEADROOM]);
        self.ends[from].packets += 1;
        self.ends[from].sent_bytes += (packet.len() - HEADROOM) as u64;
        for &byte in packet.iter().skip(HEADROOM).take(64) {
            self.trace = self.trace.wrapping_mul(31).wrapping_add(u64::from(byte));
        }
        self.trace = self.trace.wrapping_mul(31).wrapping_add(self.now.as_nanos());
        let is_dark = self
            .weather
            .blackout
            .is_some_and(|(from, to)| from <= self.now && self.now < to);
        if is_dark || self.rng.below(1000) < self.weather.loss {
            return;
        }
        let (mut leaves, mut marked) = (self.now, false);
        if let Some(bottleneck) = &self.weather.bottleneck {
            let nanos = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / bottleneck.bytes_per_second);
            let free_at = &mut self.ends[from].free_at;
            let waiting = free_at.since(self.now);
            if waiting > nanos(bottleneck.queue) {
                return;
            }
            marked = waiting > nanos(bottleneck.mark_above);
            *free_at = (*free_at).max(self.now) + nanos(packet.len() as u64);
            leaves = *free_at;
        }
        let copies = 1 + u64::from(self.rng.below(1000) < self.weather.duplicate);
        for _ in 0..copies {
            let jitter = Duration::from_nanos(self.rng.below(self.weather.jitter.as_nanos() as u64 + 1));
            let mut bytes = packet[HEADROOM..].to_vec();
            if self.rng.below(1000) < self.weather.corrupt {
                // Only before the payload: the datagrams themselves have no checksum against this.
                let at = self.rng.below(bytes.len().min(5) as u64) as usize;
                bytes[at] ^= 1 << self.rng.below(8);
            }
            self.sent += 1;
            let key = (leaves + self.weather.delay + jitter, self.sent);
            self.flying.insert(key, (1 - from, Bytes::from(bytes), marked));
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, packet, marked) = entry.remove();
            let end = &mut self.ends[to];
            end.delivered_bytes += packet.len() as u64;
            match &mut end.stream {
                Some(stream) => stream.handle_packet(self.now, packet, marked),
                None => end.stream = Stream::accept(self.config.clone(), &packet, self.now, marked),
            }
        }
    }

    pub(super) fn has(&self, end: usize, event: &Event) -> bool {
        self.ends[end].events.contains(event)
    }
}

/// Bytes that repeat late enough to notice displacement.
pub(super) fn pattern(length: usize) -> Bytes {
    let byte = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    Bytes::from((0..length as u64).map(byte).collect::<Vec<u8>>())
}
