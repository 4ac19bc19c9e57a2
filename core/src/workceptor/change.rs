//! What may happen to a record, and when.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use super::extra::Extra;
use super::process::{ExitStatus, ProcessIdentity};
use super::record::Record;
use super::state::State;

/// A change of a record.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Node: stdin is complete and a runner may be started from now on. Durable before the spawn, so that a unit never
    /// runs twice.
    Starting,
    /// Node: stdin is complete, and the unit waits until fewer others run.
    Enqueued,
    /// Runner, first of all: here I am. Refused once the node has given up or somebody has cancelled the unit; the runner
    /// then ends without starting the command.
    RunnerUp {
        /// Who it is.
        identity: ProcessIdentity,
    },
    /// Node: this process runs the unit, as was found out without the record. Classic nodes write only its process ID, and
    /// that too late.
    Identified {
        /// Who it is.
        identity: ProcessIdentity,
    },
    /// Runner: the command runs.
    Running {
        /// Process ID of the command.
        pid: u32,
    },
    /// Runner: the command could not be started.
    SpawnFailed {
        /// The classic text, e.g. `exec: "x": executable file not found in $PATH`.
        text: String,
    },
    /// Runner: the command has ended and `stdout` is complete.
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// Size of `stdout`.
        stdout_size: u64,
        /// Checksum of `stdout` (HighwayHash-64, zero key).
        checksum: u64,
        /// Whether it ended because it was told to.
        canceled: bool,
    },
    /// Runner: the command has ended because it exceeded a limit, and `stdout` is complete up to there.
    Stopped {
        /// The limit, as detail.
        detail: String,
        /// How the command ended.
        status: ExitStatus,
        /// Size of `stdout`.
        stdout_size: u64,
        /// Checksum of `stdout`.
        checksum: u64,
    },
    /// Anybody: `stdout` has grown.
    OutputSize(u64),
    /// Node: the unit shall end. It is not over yet.
    CancelRequested,
    /// Node: the unit was ended as asked, without word of a runner.
    Canceled,
    /// Node: what a classic runner writes when it is told to end (`work.md` §8.3) was meant as a cancel.
    ClassicCanceled {
        /// Size of `stdout`.
        stdout_size: u64,
    },
    /// Node: the unit failed before a runner could speak for it.
    Failed {
        /// Why.
        detail: String,
    },
    /// Node: the runner is gone without a word. `Canceled` if the unit was being cancelled, else `Failed`.
    Lost {
        /// Why.
        detail: String,
        /// Size of `stdout`.
        stdout_size: u64,
    },
    /// Submitter: the whole of stdin is here.
    StdinComplete,
    /// Submitter: the executor may hear of the unit from now on.
    Contacted,
    /// Submitter: the executor knows the unit under this ID.
    RemoteAccepted {
        /// Its ID there.
        unit: String,
    },
    /// Submitter: the executor has started the unit.
    RemoteStarted,
    /// Submitter: the executor's state. A terminal one only when all of the output is here.
    Mirror {
        /// State there.
        state: State,
        /// Detail there.
        detail: String,
        /// Bytes of output here.
        stdout_size: u64,
        /// Exit code of the command.
        exit_code: Option<i32>,
        /// Signal that killed the command.
        signal: Option<i32>,
    },
    /// Submitter: the unit was cancelled here, whatever the executor says; it is told so until it has answered.
    LocalCancelled,
    /// Submitter: the unit was released here; the local half goes when the executor has dropped its own.
    LocalReleased,
    /// Submitter: it was not started in time.
    Expired {
        /// `Work unit expired on …`.
        detail: String,
    },
}

/// Names of changes, for the table and for texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// [`Change::Starting`]
    Starting,
    /// [`Change::Enqueued`]
    Enqueued,
    /// [`Change::RunnerUp`]
    RunnerUp,
    /// [`Change::Identified`]
    Identified,
    /// [`Change::Running`]
    Running,
    /// [`Change::SpawnFailed`]
    SpawnFailed,
    /// [`Change::Exited`]
    Exited,
    /// [`Change::Stopped`]
    Stopped,
    /// [`Change::OutputSize`]
    OutputSize,
    /// [`Change::CancelRequested`]
    CancelRequested,
    /// [`Change::Canceled`]
    Canceled,
    /// [`Change::ClassicCanceled`]
    ClassicCanceled,
    /// [`Change::Failed`]
    Failed,
    /// [`Change::Lost`]
    Lost,
    /// [`Change::StdinComplete`]
    StdinComplete,
    /// [`Change::Contacted`]
    Contacted,
    /// [`Change::RemoteAccepted`]
    RemoteAccepted,
    /// [`Change::RemoteStarted`]
    RemoteStarted,
    /// [`Change::Mirror`]
    Mirror,
    /// [`Change::LocalCancelled`]
    LocalCancelled,
    /// [`Change::LocalReleased`]
    LocalReleased,
    /// [`Change::Expired`]
    Expired,
}

/// Where a unit stands, finer than its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Command: nothing was started.
    Waiting,
    /// Command: a runner may have been started.
    Starting,
    /// Command: a runner is up, the command not.
    Launched,
    /// Command: the command runs.
    Running,
    /// Remote: the executor has not started it.
    Queued,
    /// Remote: the executor has started it.
    Started,
    /// Command: a classic runner has written that a signal ended it. Whether that was a cancel only who sent it knows.
    Interrupted,
    /// Any: over.
    Complete,
    /// Any: a record of others, never changed.
    Foreign,
}

/// The table: the phases in which each change is legal. Everything else is refused.
const LEGAL: &[(ChangeKind, &[Phase])] = {
    use Phase::{Complete, Interrupted, Launched, Queued, Running, Started, Starting, Waiting};
    &[
        (ChangeKind::Starting, &[Waiting]),
        (ChangeKind::Enqueued, &[Waiting]),
        (ChangeKind::RunnerUp, &[Starting]),
        (ChangeKind::Identified, &[Waiting, Launched, Running]),
        (ChangeKind::Running, &[Launched]),
        (ChangeKind::SpawnFailed, &[Launched]),
        (ChangeKind::Exited, &[Launched, Running]),
        (ChangeKind::Stopped, &[Launched, Running]),
        (ChangeKind::OutputSize, &[Launched, Running, Queued, Started]),
        (ChangeKind::CancelRequested, &[Waiting, Starting, Launched, Running]),
        (ChangeKind::Canceled, &[Waiting, Starting, Launched, Running]),
        (ChangeKind::ClassicCanceled, &[Interrupted]),
        (ChangeKind::Failed, &[Waiting, Starting, Queued, Started]),
        // A classic runner may live without a record that says so.
        (ChangeKind::Lost, &[Waiting, Starting, Launched, Running]),
        (ChangeKind::StdinComplete, &[Queued]),
        (ChangeKind::Contacted, &[Queued, Started, Complete]),
        (ChangeKind::RemoteAccepted, &[Queued]),
        (ChangeKind::RemoteStarted, &[Queued]),
        (ChangeKind::Mirror, &[Queued, Started]),
        (ChangeKind::LocalCancelled, &[Queued, Started, Complete]),
        (ChangeKind::LocalReleased, &[Queued, Started, Complete]),
        (ChangeKind::Expired, &[Queued]),
    ]
};

/// A change that came too late or makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// What was wanted.
    pub change: ChangeKind,
    /// State of the record.
    pub state: State,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "change {:?} does not fit a unit in state {}",
            self.change,
            self.state.name()
        )
    }
}

impl core::error::Error for Refused {}

impl Change {
    /// Its name.
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::Starting => ChangeKind::Starting,
            Self::Enqueued => ChangeKind::Enqueued,
            Self::RunnerUp { .. } => ChangeKind::RunnerUp,
            Self::Identified { .. } => ChangeKind::Identified,
            Self::Running { .. } => ChangeKind::Running,
            Self::SpawnFailed { .. } => ChangeKind::SpawnFailed,
            Self::Exited { .. } => ChangeKind::Exited,
            Self::Stopped { .. } => ChangeKind::Stopped,
            Self::OutputSize(_) => ChangeKind::OutputSize,
            Self::CancelRequested => ChangeKind::CancelRequested,
            Self::Canceled => ChangeKind::Canceled,
            Self::ClassicCanceled { .. } => ChangeKind::ClassicCanceled,
            Self::Failed { .. } => ChangeKind::Failed,
            Self::Lost { .. } => ChangeKind::Lost,
            Self::StdinComplete => ChangeKind::StdinComplete,
            Self::Contacted => ChangeKind::Contacted,
            Self::RemoteAccepted { .. } => ChangeKind::RemoteAccepted,
            Self::RemoteStarted => ChangeKind::RemoteStarted,
            Self::Mirror { .. } => ChangeKind::Mirror,
            Self::LocalCancelled => ChangeKind::LocalCancelled,
            Self::LocalReleased => ChangeKind::LocalReleased,
            Self::Expired { .. } => ChangeKind::Expired,
        }
    }
}

pub(super) fn phase(record: &Record) -> Phase {
    match (&record.extra, record.state) {
        (_, State::Unknown(_)) => Phase::Foreign,
        (Extra::Command(_), _) if is_classic_kill(record) => Phase::Interrupted,
        (Extra::Command(_) | Extra::Remote(_), state) if state.is_complete() => Phase::Complete,
        (Extra::Command(_), State::Running) => Phase::Running,
        (Extra::Command(extra), _) if extra.pid != 0 => Phase::Launched,
        (Extra::Command(extra), _) if extra.starting => Phase::Starting,
        (Extra::Command(_), _) => Phase::Waiting,
        (Extra::Remote(extra), State::Running) if !extra.remote_started => Phase::Started,
        (Extra::Remote(extra), _) if extra.remote_started => Phase::Started,
        (Extra::Remote(_), _) => Phase::Queued,
        (Extra::Other(_), _) => Phase::Foreign,
    }
}

fn is_legal(kind: ChangeKind, phase: Phase) -> bool {
    LEGAL
        .iter()
        .any(|(row, phases)| *row == kind && phases.contains(&phase))
}

pub(super) fn apply(record: &mut Record, change: &Change) -> Result<(), Refused> {
    let refused = Refused {
        change: change.kind(),
        state: record.state,
    };
    let phase = phase(record);
    if !is_legal(change.kind(), phase) {
        return Err(refused);
    }
    let cancelling = record.extra.command().is_some_and(|extra| extra.cancelling);
    let is_remote = record.extra.remote().is_some();
    match change {
        // Whoever starts it would only have to end it again.
        Change::Starting | Change::Enqueued | Change::RunnerUp { .. } if cancelling => return Err(refused),
        Change::Mirror { state, .. } if *state == State::Pending && record.state == State::Running => {
            return Err(refused);
        }
        Change::Mirror {
            state: State::Unknown(_),
            ..
        } => return Err(refused),
        Change::ClassicCanceled { stdout_size } => {
            record.stdout_size = *stdout_size;
            cancel(record);
        }
        Change::OutputSize(size) => record.stdout_size = record.stdout_size.max(*size),
        Change::Exited {
            status,
            stdout_size,
            canceled,
            ..
        } => {
            record.stdout_size = *stdout_size;
            (record.state, record.detail) = ending(*status, *canceled);
        }
        Change::Stopped {
            detail, stdout_size, ..
        } => {
            record.stdout_size = *stdout_size;
            fail(record, detail);
        }
        Change::SpawnFailed { text } => fail(record, text),
        Change::Failed { detail } | Change::Expired { detail } => fail(record, detail),
        Change::Lost { detail, stdout_size } => {
            record.stdout_size = *stdout_size;
            if cancelling {
                cancel(record);
            } else {
                fail(record, detail);
            }
        }
        Change::Canceled => cancel(record),
        Change::Starting => record.detail = "Launching command runner".into(),
        Change::Enqueued => record.detail = "Waiting for a free place".into(),
        Change::RunnerUp { .. } => record.detail = "Not started yet".into(),
        Change::Running { pid } => {
            record.state = State::Running;
            record.detail = format!("Running: PID {pid}");
        }
        Change::StdinComplete => record.detail = "Starting Worker".into(),
        Change::Mirror {
            state,
            detail,
            stdout_size,
            ..
        } => {
            record.state = *state;
            record.detail.clone_from(detail);
            record.stdout_size = *stdout_size;
        }
        Change::LocalCancelled if phase == Phase::Queued => {
            record.stdout_size = 0;
            fail(record, "Locally Cancelled");
        }
        Change::CancelRequested
        | Change::Identified { .. }
        | Change::Contacted
        | Change::RemoteAccepted { .. }
        | Change::RemoteStarted
        | Change::LocalCancelled
        | Change::LocalReleased => {}
    }
    debug_assert_eq!(
        is_remote,
        record.extra.remote().is_some(),
        "no change turns one kind of unit into another"
    );
    match &mut record.extra {
        Extra::Command(extra) => match change {
            Change::Starting => extra.starting = true,
            Change::Enqueued => extra.stdin_complete = true,
            Change::RunnerUp { identity } | Change::Identified { identity } => {
                extra.pid = identity.pid;
                extra.boot_id.clone_from(&identity.boot_id);
                extra.start_time = identity.start_time;
            }
            Change::Running { pid } => extra.child_pid = *pid,
            Change::Exited { status, checksum, .. } | Change::Stopped { status, checksum, .. } => {
                extra.exit_code = status.code;
                extra.signal = status.signal;
                extra.checksum = Some(*checksum);
            }
            Change::CancelRequested => extra.cancelling = true,
            _ => {}
        },
        Extra::Remote(extra) => match change {
            Change::StdinComplete => extra.stdin_complete = true,
            Change::Contacted => extra.contacted = true,
            Change::RemoteAccepted { unit } => extra.remote_unit_id.clone_from(unit),
            Change::RemoteStarted => extra.remote_started = true,
            Change::Mirror {
                state,
                exit_code,
                signal,
                ..
            } => {
                extra.remote_started |= *state != State::Pending;
                extra.exit_code = *exit_code;
                extra.signal = *signal;
            }
            Change::LocalCancelled => extra.local_cancelled = true,
            Change::LocalReleased => {
                extra.local_cancelled = true;
                extra.local_released = true;
            }
            _ => {}
        },
        Extra::Other(_) => {}
    }
    Ok(())
}

/// Whether this is how a classic runner, or python worker, records that a signal told it to end.
fn is_classic_kill(record: &Record) -> bool {
    record.state == State::Failed && (record.detail == "Killed" || record.detail.starts_with("Killed by signal "))
}

fn fail(record: &mut Record, detail: &str) {
    record.state = State::Failed;
    record.detail = detail.into();
}

fn cancel(record: &mut Record) {
    record.state = State::Canceled;
    record.detail = "Canceled".into();
}

/// Terminal state and detail in Go's words.
fn ending(status: ExitStatus, canceled: bool) -> (State, String) {
    if canceled {
        return (State::Canceled, "Canceled".into());
    }
    let mut detail = match (status.code, status.signal) {
        (_, Some(signal)) => format!("signal: {}", signal_name(signal)),
        (Some(code), None) => format!("exit status {code}"),
        (None, None) => "exit status unknown".to_string(),
    };
    if status.core_dumped {
        detail.push_str(" (core dumped)");
    }
    let state = if status.code == Some(0) && status.signal.is_none() {
        State::Succeeded
    } else {
        State::Failed
    };
    (state, detail)
}

/// Go's names of the Linux signals.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "hangup",
        "interrupt",
        "quit",
        "illegal instruction",
        "trace/breakpoint trap",
        "aborted",
        "bus error",
        "floating point exception",
        "killed",
        "user defined signal 1",
        "segmentation fault",
        "user defined signal 2",
        "broken pipe",
        "alarm clock",
        "terminated",
        "stack fault",
        "child exited",
        "continued",
        "stopped (signal)",
        "stopped",
        "stopped (tty input)",
        "stopped (tty output)",
        "urgent I/O condition",
        "CPU time limit exceeded",
        "file size limit exceeded",
        "virtual timer expired",
        "profiling timer expired",
        "window changed",
        "I/O possible",
        "power failure",
        "bad system call",
    ];
    let index = usize::try_from(signal).unwrap_or(0).wrapping_sub(1);
    NAMES
        .get(index)
        .map_or_else(|| format!("signal {signal}"), |name| (*name).into())
}

#[cfg(test)]
mod tests;
