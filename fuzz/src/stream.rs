//! Two ends of a stream over a network that loses, doubles and reorders: bytes arrive in order or not at all, and all of
//! them once the network behaves.

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::rng::Rng;
use receptor_core::stream::{Config, Event, Stream};
use receptor_core::time::{Duration, Instant};

use crate::source::Source;

/// Bytes before a packet.
const HEADROOM: usize = 36;

/// Packets under way; the oldest is lost when there would be more.
const FLYING_MAX: usize = 64;

/// Bytes written per direction.
const WRITTEN_MAX: u64 = 1 << 20;

/// One end, and what it has done.
#[derive(Debug)]
struct End {
    stream: Option<Stream>,
    written: u64,
    read: u64,
    finished: bool,
}

#[derive(Debug)]
struct Pair {
    now: Instant,
    config: Config,
    ends: [End; 2],
    /// Packets, and which end they go to.
    flying: Vec<(usize, Bytes)>,
    /// An end gave up, was told to, or was lied to: bytes may be missing.
    is_broken: bool,
    /// Packets that no end made have been delivered: bytes may be wrong.
    is_tainted: bool,
}

/// The first bytes are about the windows, then one operation after the other.
pub fn stream(input: &[u8]) {
    let mut source = Source::new(input);
    let mut pair = Pair::new(&mut source);
    while !source.is_empty() {
        pair.operation(&mut source);
        pair.check();
    }
    pair.finish();
}

impl Pair {
    fn new(source: &mut Source<'_>) -> Self {
        let default = Config::default();
        let config = Config {
            max_packet: source.pick(&[default.max_packet, 1024, 1100, 60_000]),
            recv_window_max: source.pick(&[default.recv_window_max, 1]),
            send_buffer_max: source.pick(&[default.send_buffer_max, 1000]),
            ..default
        };
        let dialler = Stream::dial(config.clone(), &mut Rng::from_seed([3; 32]), Instant::ZERO);
        let end = |stream| End {
            stream,
            written: 0,
            read: 0,
            finished: false,
        };
        Self {
            now: Instant::ZERO,
            config,
            ends: [end(Some(dialler)), end(None)],
            flying: Vec::new(),
            is_broken: false,
            is_tainted: false,
        }
    }

    fn operation(&mut self, source: &mut Source<'_>) {
        let choice = source.byte();
        let side = usize::from(choice & 1);
        match choice >> 1 & 15 {
            0 | 1 => self.write(side, source.number() % (64 << 10)),
            2 => self.end(side),
            3 => self.read(side, source.below(4)),
            4 | 5 => self.transmit(side, 1 + source.below(8)),
            6..=8 => self.deliver(source.below(FLYING_MAX), choice & 0x20 != 0),
            9 => drop(self.take(source.below(FLYING_MAX))),
            10 => self.advance(Duration::from_micros(source.number() % (1 << 36))),
            11 => drop(self.sleep()),
            12 => {
                let Some(stream) = &mut self.ends[side].stream else {
                    return;
                };
                stream.kick(self.now);
            }
            13 => self.leave(side, source),
            14 => self.transmit(side, usize::MAX),
            _ => self.inject(side, source.bytes()),
        }
    }

    fn write(&mut self, side: usize, len: u64) {
        let end = &mut self.ends[side];
        let Some(stream) = &mut end.stream else { return };
        if end.written + len <= WRITTEN_MAX
            && let Ok(taken) = stream.write(self.now, pattern(side, end.written, len))
        {
            assert!(taken as u64 <= len && (taken > 0 || len == 0));
            end.written += taken as u64;
        }
    }

    fn end(&mut self, side: usize) {
        if let Some(stream) = &mut self.ends[side].stream {
            stream.finish();
            self.ends[side].finished = true;
        }
    }

    /// Reads some chunks, or all if `chunks` is 0.
    fn read(&mut self, side: usize, chunks: usize) {
        let end = &mut self.ends[side];
        let Some(stream) = &mut end.stream else { return };
        let mut left = if chunks == 0 { usize::MAX } else { chunks };
        while left > 0
            && let Some(chunk) = stream.read(self.now)
        {
            left -= 1;
            let len = chunk.len() as u64;
            assert!(
                self.is_tainted || chunk == pattern(1 - side, end.read, len),
                "bytes from {}",
                end.read
            );
            end.read += len;
        }
    }

    fn transmit(&mut self, side: usize, most: usize) {
        let Some(stream) = &mut self.ends[side].stream else {
            return;
        };
        for _ in 0..most {
            let (wanted, is_due) = (stream.wants_transmit(), stream.next_timeout().is_due(self.now));
            let packet = stream.poll_transmit(self.now, HEADROOM);
            assert!(packet.is_some() == wanted || is_due, "{stream:?}");
            let Some(packet) = packet else { break };
            assert!(packet.len() <= HEADROOM + self.config.max_packet);
            assert!(packet.len() > HEADROOM && packet[..HEADROOM] == [0; HEADROOM]);
            if self.flying.len() == FLYING_MAX {
                self.flying.remove(0);
            }
            self.flying.push((1 - side, packet.freeze().slice(HEADROOM..)));
        }
    }

    fn take(&mut self, choice: usize) -> Option<(usize, Bytes)> {
        let at = choice.checked_rem(self.flying.len())?;
        Some(self.flying.remove(at))
    }

    fn deliver(&mut self, choice: usize, and_keep: bool) {
        let Some((to, packet)) = self.take(choice) else { return };
        if and_keep {
            self.flying.push((to, packet.clone()));
        }
        self.arrive(to, packet);
    }

    fn arrive(&mut self, to: usize, packet: Bytes) {
        match &mut self.ends[to].stream {
            Some(stream) => stream.handle_packet(self.now, packet, false),
            None => self.ends[to].stream = Stream::accept(self.config.clone(), &packet, self.now, false),
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
        for stream in self.ends.iter_mut().filter_map(|end| end.stream.as_mut()) {
            for _ in 0..100 {
                if !stream.next_timeout().is_due(self.now) {
                    break;
                }
                stream.handle_timeout(self.now);
            }
            assert!(!stream.next_timeout().is_due(self.now), "due for ever: {stream:?}");
        }
    }

    /// Sleeps to the next deadline; `false` if there is none.
    fn sleep(&mut self) -> bool {
        let streams = self.ends.iter().filter_map(|end| end.stream.as_ref());
        match streams.fold(Deadline::Idle, |next, stream| next.min(stream.next_timeout())) {
            Deadline::At(at, _) => self.advance(at.since(self.now)),
            _ => return false,
        }
        true
    }

    fn leave(&mut self, side: usize, source: &mut Source<'_>) {
        let Some(stream) = &mut self.ends[side].stream else {
            return;
        };
        self.is_broken = true;
        match source.below(3) {
            0 => stream.reset(self.now, u32::from(source.byte()), &"é".repeat(source.below(150))),
            1 => stream.release(self.now),
            _ => stream.on_unreachable(self.now, source.pick(&["service unknown", "no route to node", "?"])),
        }
    }

    /// A packet that nobody made.
    fn inject(&mut self, side: usize, bytes: &[u8]) {
        self.is_broken = true;
        self.is_tainted = true;
        let mut packet = bytes.to_vec();
        // Strangers do not know the nonce, but peers do.
        if let Some(stream) = &self.ends[1 - side].stream
            && let Some(nonce) = packet.get_mut(1..5)
        {
            nonce.copy_from_slice(&stream.nonce().to_be_bytes());
        }
        self.arrive(side, packet.into());
    }

    fn check(&mut self) {
        for end in &mut self.ends {
            let Some(stream) = &mut end.stream else { continue };
            let is_waiting = stream.wants_transmit() || stream.has_event();
            assert_eq!(stream.next_deadline() == Deadline::Now, is_waiting);
            while let Some(event) = stream.poll_event() {
                self.is_broken |= matches!(event, Event::Reset { .. } | Event::Lost { .. });
            }
            assert!(!stream.has_event());
        }
        let [dialler, acceptor] = &self.ends;
        assert!(self.is_tainted || dialler.read <= acceptor.written && acceptor.read <= dialler.written);
    }

    /// From now on nothing is lost: all that was written arrives, and both ends come to rest.
    fn finish(mut self) {
        let limit = self.now + Duration::from_secs(600);
        for step in 0..20_000 {
            assert!(step < 19_999, "no rest: {self:?}");
            (0..2).for_each(|side| self.end(side));
            (0..2).for_each(|side| self.transmit(side, FLYING_MAX / 4));
            let quiet = self.flying.is_empty();
            while let Some((to, packet)) = self.take(0) {
                self.arrive(to, packet);
            }
            (0..2).for_each(|side| self.read(side, 0));
            self.check();
            if quiet && !(self.now < limit && self.sleep()) {
                break;
            }
        }
        let [dialler, acceptor] = &self.ends;
        if !self.is_broken && acceptor.stream.is_some() {
            assert_eq!(
                (dialler.read, acceptor.read),
                (acceptor.written, dialler.written),
                "bytes are missing: {self:?}"
            );
            assert!(
                self.ends
                    .iter()
                    .flat_map(|end| &end.stream)
                    .all(|s| s.is_finished() && s.is_ended()),
                "{self:?}"
            );
        }
    }
}

/// Bytes that tell their place and direction.
pub(crate) fn pattern(side: usize, from: u64, len: u64) -> Bytes {
    let byte = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ side as u8;
    (from..from + len).map(byte).collect::<Vec<u8>>().into()
}
