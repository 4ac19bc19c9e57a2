//! What the operating system tells of a process.

use alloc::string::String;

/// Identifies a process for ever: a pid alone may belong to somebody else after a while or a reboot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessIdentity {
    /// The kernel's random boot ID.
    pub boot_id: String,
    /// Process ID.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
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
