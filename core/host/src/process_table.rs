//! The processes of this machine as `/proc` shows them.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal};

/// One line of the process table, from `/proc/PID/stat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Process ID.
    pub pid: u32,
    /// State letter; `Z` is a zombie.
    pub state: u8,
    /// Parent's process ID.
    pub parent: u32,
    /// Process group ID.
    pub group: u32,
    /// Session ID.
    pub session: u32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Process {
    /// Reads one process.
    pub fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(pid, &text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be understood")))
    }

    /// The name (field 2) may hold blanks and parentheses, so fields are counted from the last parenthesis.
    fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|&byte| byte == b')')?;
        let fields: Vec<&str> = str::from_utf8(&stat[end + 1..])
            .ok()?
            .split_ascii_whitespace()
            .collect();
        Some(Self {
            pid,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still executes, that is, is neither a zombie nor being removed.
    pub fn is_running(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Ends it.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to this very process: not to another that has got its number meanwhile.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = pid_of(self.pid) else { return };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => {
                if Self::read(self.pid).is_ok_and(|now| now.start_time == self.start_time) {
                    let _ = rustix::process::pidfd_send_signal(handle, signal);
                }
            }
            // Kernels and sandboxes without pidfds.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                let _ = rustix::process::kill_process(pid, signal);
            }
            Err(_) => {}
        }
    }
}

/// The kernel's type for a process ID; `None` for zero and for what is out of range.
pub(crate) fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// All processes that can be read.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Process::read(pid).ok()).collect())
}

/// The children of `parent`, zombies included.
pub fn children(parent: u32) -> io::Result<Vec<Process>> {
    Ok(all()?.into_iter().filter(|process| process.parent == parent).collect())
}

/// Every running descendant of `ancestor`, at any depth.
pub fn descendants(ancestor: u32) -> io::Result<Vec<Process>> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for process in all()? {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            next.push(process.pid);
            if process.is_running() {
                found.push(process);
            }
        }
    }
    Ok(found)
}

/// Sends SIGKILL to every descendant of `ancestor`; says how many there were.
pub fn kill_descendants(ancestor: u32) -> io::Result<usize> {
    let found = descendants(ancestor)?;
    for process in &found {
        process.kill();
    }
    Ok(found.len())
}

/// Whether a process group has a running member.
pub(crate) fn group_has_members(group: u32) -> bool {
    all().is_ok_and(|all| all.iter().any(|process| process.group == group && process.is_running()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn names_with_blanks_and_parentheses_do_not_confuse() {
        let stat = b"42 (a) R (b c) S 7 8 9 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let process = Process::parse(42, stat).unwrap();
        let expected = Process {
            pid: 42,
            state: b'S',
            parent: 7,
            group: 8,
            session: 9,
            start_time: 12345,
        };
        assert_eq!(process, expected);
        for bad in [&b""[..], b"42 (x", b"42 (x) S 1 2", b"42 (x) S a b c d"] {
            assert_eq!(Process::parse(42, bad), None);
        }
    }

    #[test]
    fn grandchildren_are_found_and_killed() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let found = descendants(shell.id()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].parent, shell.id());
        assert_eq!(kill_descendants(shell.id()).unwrap(), 1);
        shell.wait().unwrap();
    }
}
