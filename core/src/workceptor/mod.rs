//! Units of work: lifecycle, durable records, local runners, remote units.
//!
//! [`Workceptor`] is a pure machine. Facts go in with `handle_*` and the methods named after what happened; what it wants
//! comes out of [`Workceptor::poll_output`]. Whoever owns it connects
//!
//! * clients (control sessions): [`Workceptor::handle_request`], `stdin…`, `results_drained`, `client_gone`;
//! * the disk and the runners: [`WorkOutput::Task`], [`Workceptor::handle_done`], [`Workceptor::handle_runner`];
//! * executors, to which this node submits: [`WorkOutput::OpenPeer`], `peer_…`, `route_changed`; with those that grant no
//!   work sessions the polling protocol of classic nodes is spoken;
//! * submitters, for which this node executes: `session_…`, from the upgraded connection's first byte after the reply.
//!
//! What a unit is said to be has been written before: replies and messages to other nodes follow the answer of the task
//! that recorded it. Nothing here runs twice: `Starting` is durable before a runner is asked for, and a submission that
//! is repeated under the same ID finds the unit instead of making another.
//!
//! Call [`Workceptor::handle_scan`] with what is on the disk before anything else.

mod adopt;
pub mod api;
pub mod change;
mod classic;
mod command;
mod executor;
pub mod extra;
mod finish;
pub mod id;
mod limits;
mod peer;
pub mod process;
mod queue;
mod ready;
mod received;
pub mod record;
mod remote;
mod restart;
mod results;
pub mod signing;
pub mod split;
mod spool;
pub mod state;
mod stdin;
mod submit;
mod target;
pub mod task;
mod timer;
pub mod tombstone;
mod unit;
mod update;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;

use crate::config::{Config, WorkKeys, WorkKind, WorkLimits, WorkType};
use crate::deadline::Deadline;
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::{Instant, Now};

pub use api::{
    AdoptRequest, ClientKey, PeerKey, Requester, SessionKey, Severity, SubmitRequest, TaskKey, UnitView, WorkOutput,
    WorkReply, WorkRequest,
};
pub use extra::{CommandExtra, Extra, RemoteExtra};
pub use id::UnitId;
pub use process::{ExitStatus, FoundRunner, ProcessIdentity, RunnerKind};
pub use record::{Change, ChangeKind, Record, Refused};
pub use signing::Verified;
pub use split::{SplitError, split_words};
pub use state::State;
pub use task::{RunLimits, RunnerEvent, Stored, StoredUnit, UnitError, UnitTask, UnitTaskResult};
pub use tombstone::{Owed, Tombstone};

use classic::Call;
use executor::Session;
use peer::Peer;
use results::Reader;
use target::Target;
use timer::{Timer, Timers};
use tombstone::Memory;
use unit::Unit;

/// Bytes of stdin a client may have under way: 1 MiB.
pub const STDIN_WINDOW: usize = 1 << 20;

/// Bytes of results that may be under way to a client: 1 MiB.
pub const RESULTS_WINDOW: usize = 1 << 20;

/// Bytes that may be under way on a peer's stream or a submitter's session: 1 MiB.
pub const SESSION_WINDOW: usize = 1 << 20;

/// Units of one session that are active at a time.
pub const MAX_CHANNELS: usize = 16_384;

/// Most bytes of one unit that may be under way between two nodes, in either direction: 1 MiB.
const UNIT_WINDOW: u64 = 1 << 20;

/// All units of one session together: 32 MiB, as far as [`UNIT_WINDOW_MIN`] allows.
const UNITS_WINDOW: u64 = 32 << 20;

/// Least bytes that may be under way per unit: 16 KiB.
const UNIT_WINDOW_MIN: u64 = 16 << 10;

/// Bytes read from a file, or written to one, in one go: 240 KiB, which fit into a message.
const READ_MAX: usize = 240 << 10;

/// What a task was for.
#[derive(Clone, PartialEq, Debug)]
enum Purpose {
    Create,
    WriteStdin,
    DropStdin,
    SyncStdin,
    Update {
        change: Change,
        sync: bool,
    },
    Spawn,
    Attach,
    CancelRunner,
    Remove {
        tombstone: Option<Tombstone>,
    },
    Bury,
    Results {
        client: ClientKey,
        max: usize,
    },
    SessionRead {
        session: SessionKey,
        channel: u32,
        max: usize,
    },
    SessionHash,
    CallRead {
        call: PeerKey,
        max: usize,
    },
    PeerRead {
        peer: PeerKey,
        channel: u32,
        max: usize,
    },
    WriteOutput,
    HashOutput {
        total: u64,
    },
}

/// What a client is doing.
#[derive(Clone, PartialEq, Debug)]
enum Client {
    /// Waits until its token was looked at.
    Verifying(Box<WorkRequest>),
    /// Waits for its unit to be made.
    Creating(UnitId),
    /// Sends stdin.
    Spooling(UnitId),
    /// Sends stdin that nobody wants any more; learns why at its end.
    Discarding(String),
    /// Waits for the start.
    Starting(UnitId),
    /// Waits for an end or a removal.
    Waiting(UnitId),
    /// Waits for the executor of a unit that is to be adopted.
    Adopting(UnitId),
    /// Reads output.
    Reading(Reader),
}

/// The units of one node. See the module's description.
#[derive(Debug)]
pub struct Workceptor {
    node_id: NodeId,
    types: BTreeMap<String, WorkType>,
    keys: WorkKeys,
    jobs: signing::Jobs,
    max_units: usize,
    limits: WorkLimits,
    queue: queue::Queue,
    /// TLS client configs that a submitter may name.
    tls_clients: BTreeSet<String>,
    rng: Rng,
    now: Now,
    units: BTreeMap<UnitId, Unit>,
    /// In which boot of the machine this is; empty if that is not known.
    boot_id: String,
    /// Units that are gone.
    released: Memory<Tombstone>,
    /// Units that were ended before they were here.
    barred: Memory<()>,
    tasks: BTreeMap<TaskKey, (UnitId, u64, Purpose)>,
    clients: BTreeMap<ClientKey, Client>,
    peers: BTreeMap<Target, Peer>,
    peer_nodes: BTreeMap<PeerKey, Target>,
    calls: BTreeMap<PeerKey, Call>,
    sessions: BTreeMap<SessionKey, Session>,
    timers: Timers,
    next_key: u64,
    out: VecDeque<WorkOutput>,
}

impl Workceptor {
    /// A machine without units.
    pub fn new(config: &Config, rng: Rng) -> Self {
        Self {
            node_id: config.node_id.clone(),
            types: named(&config.work_types),
            keys: config.work_keys.clone(),
            jobs: signing::Jobs::default(),
            max_units: config.limits.units,
            limits: config.work_limits.clone(),
            queue: queue::Queue::default(),
            tls_clients: config.tls.clients.clone(),
            rng,
            now: Now::default(),
            units: BTreeMap::new(),
            boot_id: String::new(),
            released: Memory::default(),
            barred: Memory::default(),
            tasks: BTreeMap::new(),
            clients: BTreeMap::new(),
            peers: BTreeMap::new(),
            peer_nodes: BTreeMap::new(),
            calls: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: Timers::default(),
            next_key: 1,
            out: VecDeque::new(),
        }
    }

    /// The TLS client configs that a submitter may name from now on.
    pub fn set_tls_clients(&mut self, names: BTreeSet<String>) {
        self.tls_clients = names;
    }

    /// Offers these work types instead, to whoever submits from now on. Says whether what is advertised has changed.
    pub fn set_types(&mut self, types: &[WorkType]) -> bool {
        let before = core::mem::replace(&mut self.types, named(types));
        !advertised(&before).eq(self.advertised_types())
    }

    /// Signs and verifies with these keys from now on.
    pub fn set_keys(&mut self, keys: WorkKeys) {
        self.keys = keys;
    }

    /// Work types to advertise, and whether each demands signatures.
    pub fn advertised_types(&self) -> impl Iterator<Item = (&str, bool)> {
        advertised(&self.types)
    }

    /// Units on this node.
    pub fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// What the machine wants next.
    pub fn poll_output(&mut self) -> Option<WorkOutput> {
        self.out.pop_front()
    }

    /// When to call [`Workceptor::handle_timeout`].
    pub fn next_deadline(&self) -> Deadline {
        if !self.out.is_empty() {
            return Deadline::Now;
        }
        self.timers
            .first()
            .map_or(Deadline::Idle, |(at, reason)| Deadline::At(at, reason))
    }

    /// A deadline may have come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::PeerRetry(node) => self.hurry(&node),
                Timer::PeerSlow(key) => self.peer_slow(key),
                Timer::PeerIdle(node) => self.peer_idle(&node),
                Timer::Expire(id) => self.expire(&id),
                Timer::StartReply(id) => self.start_is_slow(&id),
                Timer::Adopt(id) => self.adoption_is_slow(&id),
                Timer::RetryChange(id) => self.retry_change(&id),
                Timer::RetryOutput(id) => self.retry_output(&id),
                Timer::RetryRemove(id) => self.advance(&id),
                Timer::RetryAttach(id) => self.attach(&id),
                Timer::RetryCancel(id) => self.retry_cancel(&id),
                Timer::StdinSlow(id) => self.stdin_is_slow(&id),
                Timer::Release(id) => self.release_expired(&id),
                Timer::RetrySign(id) => self.retry_sign(&id),
                Timer::Poll(id) | Timer::RetryCall(id) => self.drive_classic(&id),
            }
        }
    }

    /// A task was carried out, or not.
    pub fn handle_done(&mut self, now: Now, key: TaskKey, result: UnitTaskResult) {
        self.now = now;
        let Some((id, serial, purpose)) = self.tasks.remove(&key) else {
            return;
        };
        // These hold a part of a session's window, whatever became of the unit.
        match purpose {
            Purpose::SessionRead { session, channel, max } => return self.session_read(session, channel, max, result),
            Purpose::PeerRead { peer, channel, max } => return self.peer_read(peer, channel, max, result),
            Purpose::CallRead { call, max } => return self.call_read(call, max, result),
            _ => {}
        }
        if self.units.get(&id).is_none_or(|unit| unit.serial != serial) {
            return;
        }
        match purpose {
            Purpose::Create => self.created(&id, result),
            Purpose::WriteStdin => self.stdin_written(&id, result),
            Purpose::SyncStdin => self.stdin_synced(&id, result),
            Purpose::Update { change, sync } => self.updated(&id, change, sync, result),
            Purpose::Spawn => self.spawned(&id, result),
            Purpose::Attach => self.attached(&id, result),
            Purpose::CancelRunner => self.runner_told(&id, &result),
            Purpose::Remove { tombstone } => self.removed(&id, tombstone, result),
            Purpose::Results { client, max } => self.results_read(client, max, result),
            Purpose::SessionHash => self.session_hashed(&id, result),
            Purpose::WriteOutput => self.output_written(&id, result),
            Purpose::HashOutput { total } => self.output_hashed(&id, total, result),
            // If it did not help, the record is tried again all the same.
            Purpose::DropStdin
            | Purpose::Bury
            | Purpose::SessionRead { .. }
            | Purpose::PeerRead { .. }
            | Purpose::CallRead { .. } => {}
        }
    }

    fn task(&mut self, id: &UnitId, purpose: Purpose, task: UnitTask) {
        let Some(unit) = self.units.get(id) else { return };
        let serial = unit.serial;
        let key = TaskKey(self.fresh_key());
        self.tasks.insert(key, (id.clone(), serial, purpose));
        self.out.push_back(WorkOutput::Task(key, id.clone(), task));
    }

    fn fresh_key(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        key
    }

    /// A unit by the ID a client gave.
    fn find(&self, text: &str) -> Option<UnitId> {
        UnitId::parse(text).filter(|id| self.units.contains_key(id))
    }

    fn reply(&mut self, client: ClientKey, reply: WorkReply) {
        self.out.push_back(WorkOutput::Reply(client, reply));
    }

    fn refuse(&mut self, client: ClientKey, text: impl Into<String>) {
        self.reply(client, WorkReply::Error(text.into()));
    }

    fn log(&mut self, severity: Severity, text: String) {
        self.out.push_back(WorkOutput::Log(severity, text));
    }

    fn after(&self, wait: crate::time::Duration) -> Instant {
        self.now.mono + wait
    }
}

/// By name; that of the built-in type is taken (`work.md` §1).
fn named(types: &[WorkType]) -> BTreeMap<String, WorkType> {
    let types = types.iter().map(|t| (t.name.clone(), t.clone()));
    types.filter(|(name, _)| name != extra::REMOTE).collect()
}

fn advertised(types: &BTreeMap<String, WorkType>) -> impl Iterator<Item = (&str, bool)> {
    let available = types
        .values()
        .filter(|t| !matches!(t.kind, WorkKind::Unavailable { .. }));
    available.map(|t| (t.name.as_str(), t.verify_signature))
}

/// What is wrong with a list of work types, in the classic words.
///
/// # Errors
/// A name that is there twice, or taken.
pub fn check_types(types: &[WorkType]) -> Result<(), String> {
    let mut seen = BTreeSet::from([extra::REMOTE]);
    for WorkType { name, .. } in types {
        if !seen.insert(name) {
            return Err(format!("work type {name} already registered"));
        }
    }
    Ok(())
}

/// The classic text that clients and classic nodes match on (`work.md` §6).
fn unknown_unit(id: &str) -> String {
    format!("unknown work unit {id}")
}

/// Bytes one unit may have under way when `active` units share a session.
fn unit_window(active: usize) -> u64 {
    (UNITS_WINDOW / (active.max(1) as u64)).clamp(UNIT_WINDOW_MIN, UNIT_WINDOW)
}

/// What an adapter says of a task that should have been answered otherwise.
fn failure(result: UnitTaskResult) -> String {
    match result {
        UnitTaskResult::Failed(UnitError::Io(text)) => text,
        UnitTaskResult::Failed(UnitError::Missing) => "the unit's directory is gone".into(),
        UnitTaskResult::Failed(UnitError::Exists) => "the unit's directory exists already".into(),
        UnitTaskResult::Failed(UnitError::Refused(record)) => format!("the unit is {} already", record.state.name()),
        other => format!("unexpected answer {other:?}"),
    }
}
