//! One node: its table, and what the owner of its streams knows of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use receptor_core::deadline::Deadline;
use receptor_core::error::CallerError;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::rng::Rng;
use receptor_core::stream::{Arrival, Config, Event, StreamId, Table, TableConfig, TableEvent};
use receptor_core::time::{Duration, Instant};

use super::End;
use crate::source::Source;
use crate::stream::pattern;

/// Nodes there are.
pub(super) const NAMES: usize = 3;

/// Bytes before a packet.
const HEADROOM: usize = 36;

/// Bytes written per direction.
const WRITTEN_MAX: u64 = 1 << 20;

/// Limits as an input chooses them: small, so that they are met.
pub(super) fn config(source: &mut Source<'_>) -> TableConfig {
    let default = Config::default();
    let memory = [0, 256 << 10, 4 << 20];
    TableConfig {
        stream: Config {
            max_packet: source.pick(&[default.max_packet, 1024]),
            ..default
        },
        max_streams: source.pick(&[6, 1, 2, 100]),
        max_backlog: source.pick(&[2, 1, 100]),
        max_lingering: source.pick(&[2, 0, 100]),
        max_answers: source.pick(&[3, 0, 64]),
        keepalive: Duration::from_secs(15),
        receive_memory: source.pick(&memory),
        send_memory: source.pick(&memory),
    }
}

pub(super) fn name_of(node: usize) -> NameHash {
    NameHash(1 + node as u64)
}

pub(super) fn node_of(name: NameHash) -> usize {
    name.0 as usize - 1
}

pub(super) fn service(number: usize) -> ServiceName {
    super::named(number)
}

/// What all owners together know.
#[derive(Default, Debug)]
pub(super) struct Truth {
    /// By direction: the stream's nonce, and whether its dialler wrote.
    written: BTreeMap<(u32, bool), u64>,
    read: BTreeMap<(u32, bool), u64>,
    /// Streams that somebody gave up, or was told are over: bytes may be missing.
    broken: BTreeSet<u32>,
    /// Packets that no node made have been delivered: bytes may be wrong, and streams break.
    pub(super) is_tainted: bool,
}

impl Truth {
    pub(super) fn is_broken(&self, nonce: u32) -> bool {
        self.is_tainted || self.broken.contains(&nonce)
    }

    /// What was written for an end to read.
    pub(super) fn written_for(&self, end: &Ours) -> u64 {
        let direction = (end.nonce, !end.is_dialled);
        self.written.get(&direction).copied().unwrap_or_default()
    }

    pub(super) fn check(&self) {
        if !self.is_tainted {
            for (direction, &read) in &self.read {
                let written = self.written.get(direction).copied().unwrap_or_default();
                assert!(
                    read <= written,
                    "{read} bytes were read, {written} written: {direction:?}"
                );
            }
        }
    }
}

/// A stream as its owner knows it.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    pub(super) remote: usize,
    pub(super) remote_service: ServiceName,
    pub(super) local_service: ServiceName,
    pub(super) nonce: u32,
    is_dialled: bool,
    written: u64,
    pub(super) read: u64,
    is_released: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    index: usize,
    config: TableConfig,
    pub(super) table: Table,
    lives: u64,
    /// Until they are forgotten.
    ours: BTreeMap<StreamId, Ours>,
    /// IDs that mean nothing any more.
    spent: BTreeSet<StreamId>,
    listening: BTreeSet<ServiceName>,
    largest: usize,
    is_closing: bool,
}

impl Node {
    pub(super) fn new(index: usize, config: TableConfig) -> Self {
        Self {
            index,
            table: Table::new(config.clone(), Rng::from_seed([index as u8; 32])),
            config,
            lives: 1,
            ours: BTreeMap::new(),
            spent: BTreeSet::new(),
            listening: BTreeSet::new(),
            largest: 16_384,
            is_closing: false,
        }
    }

    /// The old table is gone with all that it knew.
    pub(super) fn start_anew(&mut self) {
        let mut seed = [self.index as u8; 32];
        seed[..8].copy_from_slice(&self.lives.to_be_bytes());
        let (lives, config) = (self.lives + 1, self.config.clone());
        *self = Self {
            table: Table::new(config.clone(), Rng::from_seed(seed)),
            lives,
            ..Self::new(self.index, config)
        };
    }

    pub(super) fn was_started_anew(&self) -> bool {
        self.lives > 1
    }

    pub(super) fn listen(&mut self, name: ServiceName) {
        let result = self.table.listen(name);
        assert_eq!(result.is_ok(), self.listening.insert(name));
        assert!(self.table.is_listening(name));
    }

    pub(super) fn unlisten(&mut self, now: Instant, name: ServiceName) {
        self.table.unlisten(now, name);
        self.listening.remove(&name);
        assert!(!self.table.is_listening(name));
    }

    pub(super) fn dial(&mut self, now: Instant, to: usize, remote_service: ServiceName, local_service: ServiceName) {
        let has_room = self.table.live() < self.config.max_streams && !self.is_closing;
        match self.table.dial(now, name_of(to), remote_service, local_service) {
            Ok(id) => {
                assert!(has_room, "beyond the limit");
                self.add(id, to, remote_service, local_service, true);
            }
            Err(CallerError::Blocked(_)) => assert!(!has_room, "blocked with room"),
            Err(CallerError::Misuse(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) fn accept(&mut self, name: ServiceName, most: usize) {
        for count in 0..most {
            let Some(id) = self.table.accept(name) else { return };
            assert!(count < self.config.max_backlog, "a backlog beyond its limit");
            let remote = self.table.remote(id).expect("it was accepted");
            // What the peer calls its service is learned from the first answer.
            self.add(id, node_of(remote), name, name, false);
        }
    }

    fn add(
        &mut self,
        id: StreamId,
        remote: usize,
        remote_service: ServiceName,
        local_service: ServiceName,
        is_dialled: bool,
    ) {
        let nonce = self.table.stream(id).expect("it is new").nonce();
        let ours = Ours {
            remote,
            remote_service,
            local_service,
            nonce,
            is_dialled,
            written: 0,
            read: 0,
            is_released: false,
        };
        assert!(
            self.ours.insert(id, ours).is_none() && !self.spent.contains(&id),
            "an ID twice"
        );
    }

    /// One of the streams that were not released.
    pub(super) fn choose(&self, choice: usize) -> Option<End<'_>> {
        let count = self.ends().count();
        self.ends().nth(choice.checked_rem(count)?)
    }

    /// All streams that were not released.
    pub(super) fn ends(&self) -> impl Iterator<Item = End<'_>> {
        let ours = self.ours.iter().map(|(&id, ours)| (id, ours));
        ours.filter(|(_, ours)| !ours.is_released)
    }

    /// Does something with every stream, by a choice that finds it.
    pub(super) fn for_each(&mut self, mut act: impl FnMut(&mut Self, usize)) {
        for choice in (0..self.ends().count()).rev() {
            act(self, choice);
        }
    }

    pub(super) fn write(&mut self, now: Instant, choice: usize, len: u64, truth: &mut Truth) {
        let Some((id, ours)) = self.choose(choice) else { return };
        let (written, direction) = (ours.written, (ours.nonce, ours.is_dialled));
        if written + len > WRITTEN_MAX {
            return;
        }
        if let Ok(taken) = self.table.write(now, id, content(direction, written, len)) {
            assert!(taken as u64 <= len && (taken > 0 || len == 0));
            if let Some(ours) = self.ours.get_mut(&id) {
                ours.written += taken as u64;
            }
            *truth.written.entry(direction).or_default() += taken as u64;
        }
    }

    pub(super) fn finish(&mut self, choice: usize) {
        if let Some((id, _)) = self.choose(choice) {
            self.table.finish(id);
        }
    }

    /// Reads some chunks, or all if `chunks` is 0.
    pub(super) fn read(&mut self, now: Instant, choice: usize, chunks: usize, truth: &mut Truth) {
        let Some((id, _)) = self.choose(choice) else { return };
        let mut left = if chunks == 0 { usize::MAX } else { chunks };
        while left > 0
            && let Some(chunk) = self.table.read(now, id)
            && let Some(ours) = self.ours.get_mut(&id)
        {
            left -= 1;
            let (len, direction) = (chunk.len() as u64, (ours.nonce, !ours.is_dialled));
            assert!(
                truth.is_tainted || chunk == content(direction, ours.read, len),
                "{len} bytes from {} of {ours:?} are wrong",
                ours.read
            );
            ours.read += len;
            let read = truth.read.entry(direction).or_default();
            *read = ours.read.max(*read);
        }
    }

    pub(super) fn reset(&mut self, now: Instant, choice: usize, code: u32, truth: &mut Truth) {
        if let Some((id, ours)) = self.choose(choice) {
            truth.broken.insert(ours.nonce);
            self.table.reset(now, id, code, "é");
        }
    }

    pub(super) fn release(&mut self, now: Instant, choice: usize, truth: &mut Truth) {
        let Some((id, ours)) = self.choose(choice) else { return };
        truth.broken.insert(ours.nonce);
        if let Some(ours) = self.ours.get_mut(&id) {
            ours.is_released = true;
        }
        self.table.release(now, id);
    }

    pub(super) fn set_path(&mut self, now: Instant, to: usize, limit: usize) {
        self.largest = self.largest.max(limit);
        self.table.set_path(now, name_of(to), limit);
    }

    pub(super) fn shut_down(&mut self, now: Instant, truth: &mut Truth) {
        self.break_all(truth);
        self.is_closing = true;
        self.table.shutdown(now);
    }

    pub(super) fn break_all(&self, truth: &mut Truth) {
        truth.broken.extend(self.ours.values().map(|ours| ours.nonce));
    }

    pub(super) fn break_streams_with(&self, remote: usize, truth: &mut Truth) {
        let with = self.ours.values().filter(|ours| ours.remote == remote);
        truth.broken.extend(with.map(|ours| ours.nonce));
    }

    /// The next packet as it arrives, and where.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<(usize, Arrival)> {
        let outgoing = self.table.poll_transmit(now, HEADROOM)?;
        let packet = outgoing.packet;
        assert!(packet.len() > HEADROOM && packet[..HEADROOM] == [0; HEADROOM]);
        assert!(packet.len() <= HEADROOM + self.largest, "{} bytes", packet.len());
        let nonce = packet[HEADROOM + 1..]
            .first_chunk()
            .map(|nonce| u32::from_be_bytes(*nonce));
        for ours in self
            .ours
            .values_mut()
            .filter(|ours| Some(ours.nonce) == nonce && !ours.is_dialled)
        {
            ours.remote_service = outgoing.remote_service;
        }
        let arrival = Arrival {
            remote: name_of(self.index),
            remote_service: outgoing.local_service,
            local_service: outgoing.remote_service,
            payload: packet.freeze().slice(HEADROOM..),
            marked: false,
        };
        Some((node_of(outgoing.remote), arrival))
    }

    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        // What waits to be sent hides the timers, and need not be sent before.
        self.table.handle_timeout(now);
        for _ in 0..100 {
            match self.table.next_deadline() {
                Deadline::At(at, _) if at <= now => self.table.handle_timeout(now),
                _ => return,
            }
        }
        panic!("due for ever: {:?}", self.table.next_deadline());
    }

    pub(super) fn poll_events(&mut self, truth: &mut Truth) {
        while let Some(event) = self.table.poll_event() {
            match event {
                TableEvent::Incoming(name) => assert!(self.listening.contains(&name)),
                TableEvent::Stream(id, event) => {
                    let ours = self
                        .ours
                        .get(&id)
                        .unwrap_or_else(|| panic!("{event:?} of nobody's {id:?}"));
                    assert!(!ours.is_released, "{event:?} after release");
                    if matches!(event, Event::Reset { .. } | Event::Lost { .. }) {
                        truth.broken.insert(ours.nonce);
                    }
                }
                TableEvent::Forgotten {
                    id,
                    local_service,
                    is_dialled,
                } => {
                    let ours = self
                        .ours
                        .remove(&id)
                        .unwrap_or_else(|| panic!("nobody's {id:?} is forgotten"));
                    assert!(ours.is_released, "forgotten while it was held");
                    assert_eq!((ours.local_service, ours.is_dialled), (local_service, is_dialled));
                    assert!(self.table.stream(id).is_none());
                    self.spent.insert(id);
                }
            }
        }
    }

    /// What holds when no events wait.
    pub(super) fn check(&self) {
        let (live, held) = (self.table.live(), self.table.len());
        assert!(live <= self.config.max_streams && live <= held);
        let (receiving, sending) = self.table.memory_drawn();
        assert!(
            receiving <= self.config.receive_memory,
            "{receiving} bytes for receiving"
        );
        assert!(sending <= self.config.send_memory, "{sending} bytes for sending");
        for (id, _) in self.ends() {
            assert!(
                self.table.stream(id).is_some(),
                "{id:?} was forgotten while it was held"
            );
        }
        // Streams that are over and nobody's: only so many may wait for what their peers still ask.
        let over = held - live;
        let of_owners = self.ours.len();
        assert!(
            over <= self.config.max_lingering + of_owners,
            "{held} held, {live} live, {of_owners} of owners"
        );
        assert!(self.table.remotes().count() <= live);
    }

    pub(super) fn assert_empty(&self) {
        assert!(self.table.is_empty(), "{} streams are left", self.table.len());
        assert_eq!(self.table.memory_drawn(), (0, 0));
        assert_eq!((self.table.live(), self.table.remotes().count()), (0, 0));
        assert_eq!(self.table.next_deadline(), Deadline::Idle);
        assert!(self.ours.is_empty(), "{:?}", self.ours);
    }
}

/// Bytes that tell in which stream and direction they were written, and where.
fn content((nonce, by_dialler): (u32, bool), from: u64, len: u64) -> Bytes {
    pattern(usize::from(by_dialler), u64::from(nonce) << 24 | from, len)
}
