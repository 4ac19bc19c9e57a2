//! The directory of one test, and the processes that were started from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Environment variable by which every process of a test is found again, runners and their children included.
pub(super) const MARK: &str = "RECEPTOR_TEST_SCRATCH";

/// A temporary directory. When its last user is gone, all processes started from it are killed and it is removed.
#[derive(Clone, Debug)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner(TempDir);

/// A living process of a test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its ID.
    pub pid: u32,
    /// Its arguments, joined by blanks.
    pub command_line: String,
}

impl Scratch {
    /// A new one, with a path short enough for socket files.
    #[allow(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("receptor-live-").tempdir();
        Self(Arc::new(Inner(dir.expect("a temporary directory can be made"))))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.0.path()
    }

    /// A path below it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file below it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).expect("a scratch file can be written");
        path
    }

    /// What makes a process one of this directory's, as an argument for `env`.
    pub fn mark(&self) -> String {
        format!("{MARK}={}", self.path().display())
    }

    /// Every living process that inherited the mark of this directory: daemons, runners, and what they run.
    pub fn processes(&self) -> Vec<Process> {
        processes_of(self.path())
    }
}

fn processes_of(dir: &Path) -> Vec<Process> {
    let mark = format!("{MARK}={}", dir.display());
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).ok()?;
            environment
                .split(|&byte| byte == 0)
                .find(|&item| item == mark.as_bytes())?;
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            Some(Process {
                pid,
                command_line: arguments.trim_end().to_owned(),
            })
        })
        .collect()
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Twice, since a process may have forked while the first list was made.
        for _ in 0..2 {
            for process in processes_of(self.0.path()) {
                if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }
}
