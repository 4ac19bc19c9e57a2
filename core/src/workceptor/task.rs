//! What units ask of the outside world, and its answers.
//!
//! Mutating tasks of one unit (`Create` … `Remove`, `Spawn`) are carried out one after another in the order in which they
//! were emitted; tasks of different units, and the reads, run concurrently. Each task is answered exactly once.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::id::UnitId;
use super::process::FoundRunner;
use super::record::{Change, Record};
use super::tombstone::Tombstone;
use crate::time::Duration;

/// A task about one unit's directory or runner.
#[derive(Clone, PartialEq, Debug)]
pub enum UnitTask {
    /// Make the directory with a first record. Fails with [`UnitError::Exists`] if it is there.
    Create {
        /// The first record.
        record: Record,
        /// Whether it is durable when answered. Otherwise it is with the first barrier; until then a crash of the machine may
        /// leave nothing of it.
        sync: bool,
    },
    /// Write `data` at `offset` of `stdin`; not synced.
    WriteStdin {
        /// Byte offset.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Cut `stdin` to nothing: nobody will read it, and a record may need the room.
    DropStdin,
    /// Apply a change to the record under the unit's lock: read, [`Record::apply`], write anew, rename. With `sync`,
    /// `stdin` and `stdout` (if they exist) and then the record are durable when answered.
    Update {
        /// The change.
        change: Change,
        /// Whether this is a barrier.
        sync: bool,
    },
    /// A barrier behind changes that were made without: `stdin`, `stdout` (if they exist) and the record are durable when
    /// answered.
    Sync,
    /// Read up to `max` bytes of `stdin` at `offset`; fewer at the end of the file.
    ReadStdin {
        /// Byte offset.
        offset: u64,
        /// Most bytes wanted.
        max: usize,
    },
    /// Read up to `max` bytes of `stdout` at `offset`; fewer at the end of the file, none if there is no file.
    ReadOutput {
        /// Byte offset.
        offset: u64,
        /// Most bytes wanted.
        max: usize,
    },
    /// Write `data` at `offset` of `stdout`, creating the file; not synced.
    WriteOutput {
        /// Byte offset.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// Checksum (HighwayHash-64 with the zero key) of the first `len` bytes of `stdout`, with its real size.
    HashOutput {
        /// Bytes to hash.
        len: u64,
    },
    /// Start a runner for the unit in a session of its own. The runner splits nothing: `args` are the arguments.
    Spawn {
        /// Program, looked up in `PATH` if it has no slash.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// What it must not exceed, told to the runner: it holds with or without a daemon.
        limits: RunLimits,
    },
    /// Connect to a runner left by an earlier daemon. Answered with [`UnitTaskResult::Attached`], which says whether it
    /// lives. If it does not and has left the unit unfinished, every process of the unit has been killed.
    Attach {
        /// Who it is: as found when the node started, else as recorded. Process ID 0 if nothing is known but that there
        /// was one.
        runner: FoundRunner,
    },
    /// Tell the runner to end the unit: SIGINT to the child, after 5 s SIGTERM to its group, after 10 s SIGKILL to every
    /// descendant. Answered when told; the end comes as [`RunnerEvent::Finished`].
    Cancel,
    /// Remove the directory with all that is in it; durable when answered. The tombstone is kept from before that on (it
    /// comes back in [`Stored::released`]), durably if something is owed. A disk that cannot keep it removes all the same.
    Remove {
        /// What is left of the unit; `None` if there is nothing to be remembered.
        tombstone: Option<Tombstone>,
    },
    /// Keep this tombstone in place of the unit's last one; not synced. The unit's directory is gone.
    Bury {
        /// What is left of the unit.
        tombstone: Tombstone,
    },
}

/// What a command must not exceed. `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RunLimits {
    /// Bytes of output.
    pub output: Option<u64>,
    /// Time from its start on.
    pub time: Option<Duration>,
}

/// Why a task failed.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum UnitError {
    /// The unit's directory exists already.
    Exists,
    /// The unit's directory is gone.
    Missing,
    /// The change does not fit the record's state on disk (another writer was first); carries the record as it is.
    Refused(Record),
    /// Anything the operating system said, with the path.
    Io(String),
}

/// The answer to a [`UnitTask`].
#[derive(Clone, PartialEq, Debug)]
pub enum UnitTaskResult {
    /// Done (`Create`, `WriteStdin`, `DropStdin`, `Sync`, `WriteOutput`, `Cancel`, `Remove`, `Bury`).
    Done,
    /// The record as it now is (`Update`).
    Record(Record),
    /// Bytes read; shorter than asked at the end of the file.
    Data(Bytes),
    /// `HashOutput`.
    Hash {
        /// The checksum.
        checksum: u64,
        /// Size of `stdout` on disk.
        size: u64,
    },
    /// `Spawn`: the runner process exists; it records its own identity before it starts the child.
    Spawned,
    /// `Attach`: the record as it is now, and whether the runner is connected.
    Attached {
        /// Read after the connection was made or refused, so nothing is missed in between.
        record: Record,
        /// Size of `stdout` on disk.
        stdout_size: u64,
        /// Whether [`RunnerEvent`]s will follow.
        alive: bool,
        /// `false` if the runner is known to have lived before the machine was started anew.
        same_boot: bool,
    },
    /// It failed.
    Failed(UnitError),
}

/// What a runner tells its daemon.
#[derive(Clone, PartialEq, Debug)]
pub enum RunnerEvent {
    /// The child runs; the record says so.
    Running(Record),
    /// `stdout` has grown to this many bytes.
    Output(u64),
    /// The child has ended, `stdout` is complete and the terminal record is durable.
    Finished(Record),
    /// The runner is gone without having written a terminal record; here is the record it left, and the size of `stdout`.
    Lost {
        /// Last record on disk.
        record: Record,
        /// Size of `stdout`.
        stdout_size: u64,
    },
}

/// What is found on disk at start.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Stored {
    /// Units.
    pub units: Vec<StoredUnit>,
    /// Tombstones, the oldest first; the last one of each unit counts.
    pub released: Vec<Tombstone>,
    /// The kernel's random boot ID; empty if it is not known.
    pub boot_id: String,
}

/// One unit found on disk at start.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredUnit {
    /// Name of its directory.
    pub id: UnitId,
    /// Its record, or why it cannot be read.
    pub record: Result<Record, String>,
    /// Size of `stdin`.
    pub stdin_size: u64,
    /// Size of `stdout`.
    pub stdout_size: u64,
    /// The process that runs it now, if there is one, whatever the record says.
    pub runner: Option<FoundRunner>,
}
