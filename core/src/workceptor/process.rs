//! What the operating system tells of a process.

use alloc::string::String;

/// Identifies a process for ever: a pid alone may belong to somebody else after a while or a reboot.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ProcessIdentity {
    /// The kernel's random boot ID.
    pub boot_id: String,
    /// Process ID.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// What kind of runner a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunnerKind {
    /// One of this implementation: it says what happens.
    Ours,
    /// One that a classic node has started: it only writes the record (`work.md` §8.3), and cancels when it gets SIGINT.
    Classic,
}

/// A runner left by an earlier daemon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRunner {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// What it is.
    pub kind: RunnerKind,
}

/// How a child ended: a code or a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExitStatus {
    /// Exit code, if it exited.
    pub code: Option<i32>,
    /// Signal number, if one killed it.
    pub signal: Option<i32>,
    /// Whether it left a core dump.
    pub core_dumped: bool,
}
