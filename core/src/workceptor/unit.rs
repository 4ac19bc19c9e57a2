//! One unit in the table.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::api::{ClientKey, SessionKey, UnitView};
use super::change::{Change, Phase, phase};
use super::extra::Extra;
use super::process::{FoundRunner, RunnerKind};
use super::record::Record;
use super::remote::Remote;
use super::spool::Spool;
use super::state::State;
use crate::time::Wall;

/// A unit as the machine knows it.
#[derive(Debug)]
pub(super) struct Unit {
    /// Tells units with one ID, one after the other, apart.
    pub(super) serial: u64,
    /// The record as announced: what it says has been written.
    pub(super) record: Record,
    /// Bytes of `stdout` that can be read here; ahead of the record while the unit runs.
    pub(super) output: u64,
    pub(super) stage: Stage,
    /// Stdin while it comes in.
    pub(super) spool: Option<Spool>,
    /// Command units: how far the start is.
    pub(super) run: Run,
    /// Command units: the runner that was found when the node started.
    pub(super) runner: Option<FoundRunner>,
    /// Remote units.
    pub(super) remote: Option<Box<Remote>>,
    /// Somebody wants it to end.
    pub(super) cancelling: bool,
    /// Somebody wants it gone.
    pub(super) release: Option<Removal>,
    /// Who is to be told when it has started.
    pub(super) starter: Option<ClientKey>,
    /// Who is to be told when it has ended or gone.
    pub(super) waiters: Vec<Waiter>,
    /// Clients that read its output.
    pub(super) readers: BTreeSet<ClientKey>,
    /// Channels of submitters that want its status and output.
    pub(super) channels: BTreeSet<(SessionKey, u32)>,
    /// Length and checksum of the whole output, once needed and known.
    pub(super) digest: Digest,
    /// Changes that could not be written and must be, in order, one of each kind.
    pub(super) unwritten: Vec<(Change, bool)>,
    /// Failed attempts in a row.
    pub(super) tries: u32,
    /// When it was first seen to be over.
    pub(super) seen_over: Option<Wall>,
}

/// Where the directory stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Being made; nobody knows the unit yet. With a generated ID another one is tried if it is taken.
    Creating { generated: bool },
    /// Runs elsewhere, if at all: its executor is being asked. Nothing is here, nobody knows it here.
    Adopting,
    /// There.
    Live,
    /// Being removed.
    Removing,
}

/// How far the start of a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Run {
    /// Stdin is not complete.
    Waiting,
    /// Stdin is complete, and there is no free place.
    Queued,
    /// `Starting` is being written.
    Recording,
    /// A runner is being started.
    Spawning,
    /// Looking for a runner left by an earlier process of this node.
    Attaching,
    /// There is a runner.
    Up { cancel_told: bool },
    /// There is none and will be none; a terminal state is being written or is written.
    Over,
}

/// The removal somebody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Removal {
    pub(super) force: bool,
    pub(super) tries: u32,
}

/// Length and checksum of a finished unit's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Digest {
    Unknown,
    Computing,
    Known { total: u64, checksum: u64 },
}

/// Who asked for an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// A client, with the ID as it gave it.
    Client(ClientKey, String),
    /// A submitter, on its channel.
    Channel(SessionKey, u32),
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Cancel,
    Release,
}

/// A request that is answered later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) asker: Asker,
    pub(super) verb: Verb,
}

impl Unit {
    pub(super) fn new(serial: u64, record: Record, stage: Stage) -> Self {
        Self {
            serial,
            output: record.stdout_size,
            record,
            stage,
            spool: None,
            run: Run::Waiting,
            runner: None,
            remote: None,
            cancelling: false,
            release: None,
            starter: None,
            waiters: Vec::new(),
            readers: BTreeSet::new(),
            channels: BTreeSet::new(),
            digest: Digest::Unknown,
            unwritten: Vec::new(),
            tries: 0,
            seen_over: None,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.record.state.is_complete()
    }

    /// Whether it may be spoken of.
    pub(super) fn is_shown(&self) -> bool {
        !matches!(self.stage, Stage::Creating { .. } | Stage::Adopting)
    }

    /// Whether this node runs it.
    pub(super) fn is_command(&self) -> bool {
        matches!(self.record.extra, Extra::Command(_))
    }

    /// Whether the same submission made it: that of the same node, as far as its record still tells. A classic node that had
    /// the directory in between has written the record anew without what it does not know.
    pub(super) fn was_submitted_by(&self, from: &str, work_type: &str) -> bool {
        let is_same = match &self.record.extra {
            Extra::Command(extra) if extra.submitter.is_empty() => extra.pid != 0 && !extra.starting,
            Extra::Command(extra) => extra.submitter == from,
            Extra::Other(Value::Null) => self.is_complete(),
            Extra::Other(_) | Extra::Remote(_) => false,
        };
        is_same && self.record.work_type == work_type
    }

    /// Whether another node submitted it.
    pub(super) fn is_submitted(&self) -> bool {
        self.record
            .extra
            .command()
            .is_some_and(|extra| !extra.submitter.is_empty())
    }

    /// Whether a classic node has started its runner.
    pub(super) fn is_classic(&self) -> bool {
        self.runner
            .as_ref()
            .is_some_and(|runner| runner.kind == RunnerKind::Classic)
    }

    /// Whether the machine only shows and removes it.
    pub(super) fn is_foreign(&self) -> bool {
        phase(&self.record) == Phase::Foreign || (self.remote.is_none() && !self.is_command())
    }

    /// Whether a submitter may be told that it started.
    pub(super) fn has_started(&self) -> bool {
        matches!(self.run, Run::Up { .. }) || self.record.extra.command().is_some_and(|extra| extra.pid != 0)
    }

    /// Whether its command may have run, here or elsewhere.
    pub(super) fn has_run(&self) -> bool {
        match (&self.record.extra, &self.remote) {
            (Extra::Command(extra), _) => extra.starting || extra.pid != 0,
            (_, Some(remote)) => remote.submitted,
            _ => true,
        }
    }

    /// Takes a record that was written, unless it is older than what is known: answers of the disk and words of a
    /// runner may overtake each other. Whether anything changed.
    pub(super) fn adopt(&mut self, record: Record) -> bool {
        if rank(&record) < rank(&self.record) || (self.is_complete() && record.state != self.record.state) {
            return false;
        }
        let is_part = record.extra.remote().is_some_and(|extra| extra.output_from > 0);
        if record.state.is_complete() && (self.remote.is_none() || is_part) {
            // Exact at the end; what a survivor of the command writes later does not count (`work.md` §8.3).
            self.output = record.stdout_size;
        } else {
            self.output = self.output.max(record.stdout_size);
        }
        let changed = self.record != record;
        self.record = record;
        changed
    }

    /// What status answers show (`work.md` §6.1). `registered` says whether its work type is offered here.
    pub(super) fn view(&self, registered: bool) -> UnitView {
        let extra = if registered || self.remote.is_some() {
            self.record.shown_extra()
        } else {
            Value::from("Unknown WorkType")
        };
        UnitView {
            state: self.record.state,
            detail: self.record.detail.clone(),
            stdout_size: self.output.max(self.record.stdout_size),
            work_type: self.record.work_type.clone(),
            extra,
        }
    }
}

/// Orders the records of one unit's life.
fn rank(record: &Record) -> u8 {
    match phase(record) {
        Phase::Foreign => 0,
        Phase::Waiting | Phase::Queued => 1,
        Phase::Starting => 2,
        Phase::Launched => 3,
        Phase::Started if record.state == State::Pending => 3,
        Phase::Running | Phase::Started => 4,
        Phase::Interrupted | Phase::Complete => 5,
    }
}
