//! Calls in any order, with outputs undrained and time running late: what is read is always a prefix of what was written,
//! and when the chaos is over everything arrives.

use alloc::vec::Vec;

use bytes::Bytes;

use super::net::pattern;
use crate::deadline::Deadline;
use crate::rng::Rng;
use crate::stream::{Config, Stream};
use crate::time::{Duration, Instant};

struct Side {
    stream: Option<Stream>,
    written: usize,
    read: Vec<u8>,
    inbox: Vec<Bytes>,
}

struct Chaos {
    rng: Rng,
    now: Instant,
    sides: [Side; 2],
    bytes: Bytes,
    config: Config,
}

impl Chaos {
    fn new(seed: u8) -> Self {
        let mut rng = Rng::from_seed([seed; 32]);
        let config = Config {
            max_packet: 1024,
            ..Config::default()
        };
        let dialler = Stream::dial(config.clone(), &mut rng, Instant::ZERO);
        let side = |stream| Side {
            stream,
            written: 0,
            read: Vec::new(),
            inbox: Vec::new(),
        };
        Self {
            rng,
            now: Instant::ZERO,
            sides: [side(Some(dialler)), side(None)],
            bytes: pattern(300_000),
            config,
        }
    }

    fn deliver(&mut self, to: usize, packet: Bytes) {
        match &mut self.sides[to].stream {
            Some(stream) => stream.handle_packet(self.now, packet, false),
            stream => *stream = Stream::accept(self.config.clone(), &packet, self.now, false),
        }
    }

    fn transmit(&mut self, from: usize) -> bool {
        let packet = self.sides[from]
            .stream
            .as_mut()
            .and_then(|stream| stream.poll_transmit(self.now, 0));
        let Some(packet) = packet else { return false };
        self.sides[1 - from].inbox.push(packet.freeze());
        true
    }

    fn read(&mut self, index: usize) {
        let side = &mut self.sides[index];
        if let Some(chunk) = side.stream.as_mut().and_then(|stream| stream.read(self.now)) {
            side.read.extend_from_slice(&chunk);
            assert_eq!(side.read, self.bytes[..side.read.len()]);
        }
    }

    fn step(&mut self, violent: bool) {
        let index = self.rng.below(2) as usize;
        let draw = self.rng.below(100);
        match draw {
            0..20 => {
                self.transmit(index);
            }
            20..45 if !self.sides[index].inbox.is_empty() => {
                let at = self.rng.below(self.sides[index].inbox.len() as u64) as usize;
                let packet = self.sides[index].inbox[at].clone();
                if self.rng.below(4) > 0 {
                    self.sides[index].inbox.swap_remove(at);
                }
                self.deliver(index, packet);
            }
            45..48 if !self.sides[index].inbox.is_empty() => {
                self.sides[index].inbox.swap_remove(0);
            }
            48..60 => {
                let length = self.rng.below(3000) as usize;
                let side = &mut self.sides[index];
                let part = self
                    .bytes
                    .slice(side.written..self.bytes.len().min(side.written + length));
                if let Some(stream) = &mut side.stream {
                    side.written += stream.write(self.now, part).unwrap_or(0);
                }
            }
            60..75 => self.read(index),
            75..90 => {
                self.now = self.now + Duration::from_micros(self.rng.below(20_000));
                if let Some(stream) = &mut self.sides[index].stream {
                    stream.handle_timeout(self.now);
                    assert!(!stream.next_timeout().is_due(self.now));
                }
            }
            90..92 => {
                if let Some(stream) = &mut self.sides[index].stream {
                    stream.kick(self.now);
                }
            }
            92..94 => {
                let _ = self.sides[index].stream.as_mut().and_then(Stream::poll_event);
            }
            94 if violent && self.rng.below(8) == 0 => {
                let now = self.now;
                match (&mut self.sides[index].stream, self.rng.below(4)) {
                    (Some(stream), 0) => stream.reset(now, 999, "enough"),
                    (Some(stream), 1) => stream.release(now),
                    (Some(stream), 2) => stream.finish(),
                    (Some(stream), _) => stream.on_unreachable(now, "message expired"),
                    (None, _) => {}
                }
            }
            _ => {}
        }
    }

    /// Nothing is lost any more; until both ends sleep for good.
    fn heal(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for index in 0..2 {
                for packet in core::mem::take(&mut self.sides[index].inbox) {
                    self.deliver(index, packet);
                    moved = true;
                }
                if let Some(stream) = &mut self.sides[index].stream {
                    while stream.poll_event().is_some() {}
                    stream.finish();
                }
                let before = self.sides[index].read.len();
                self.read(index);
                moved |= self.transmit(index) || self.sides[index].read.len() > before;
            }
            if moved {
                continue;
            }
            let streams = || self.sides.iter().filter_map(|side| side.stream.as_ref());
            match streams().map(Stream::next_deadline).fold(Deadline::Idle, Deadline::min) {
                Deadline::Now => panic!("nothing moves, yet {:?}", streams().collect::<Vec<_>>()),
                Deadline::At(at, _) => {
                    self.now = self.now.max(at);
                    for side in &mut self.sides {
                        if let Some(stream) = &mut side.stream {
                            stream.handle_timeout(self.now);
                        }
                    }
                }
                Deadline::Idle => return,
            }
        }
        panic!("never at rest: {:?}", self.sides[0].stream);
    }
}

#[test]
fn after_gentle_chaos_everything_arrives() {
    for seed in 0..30 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..3000 {
            chaos.step(false);
        }
        chaos.heal();
        for index in 0..2 {
            assert_eq!(
                chaos.sides[index].read.len(),
                chaos.sides[1 - index].written,
                "seed {seed}"
            );
            assert!(chaos.sides[index].stream.as_ref().is_none_or(Stream::is_drained));
        }
    }
}

#[test]
fn after_violent_chaos_everything_is_at_rest() {
    for seed in 0..100 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..1500 {
            chaos.step(true);
        }
        chaos.heal();
        for side in &chaos.sides {
            assert!(
                side.stream.as_ref().is_none_or(Stream::is_drained),
                "seed {seed}: {:?}",
                side.stream
            );
        }
    }
}
