//! What a dead runner has left: finding all of it, and ending it.
//!
//! While a runner lives it is the reaper of all its descendants, so they are found by a walk. When it was killed they are
//! orphans of the first process, and what they were is told by other things, none of which may point to a stranger:
//!
//! * the [`MARK`] in the environment, which is inherited through every `fork`, `exec`, `setsid` and change of directory;
//! * the unit's `stdout` as standard output or error, which is how the commands of classic runners are started;
//! * the runner's session, if it is certain that it is still that runner's: because the runner is not reaped yet, or was
//!   watched until now, or because the command or somebody who bears the mark is in it;
//! * being a descendant of one of these.
//!
//! Whoever changes the session, clears the environment, and has lost its parent is not found by any of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::workceptor::{ProcessIdentity, Record};

use crate::process_table::{self, Process};

/// Environment variable that every process of a unit inherits; its value is that of [`mark`].
pub const MARK: &str = "RECEPTOR_UNIT";

/// Between two looks whether everybody who was killed is dead.
const ROUND: Duration = Duration::from_millis(5);

/// How long to look. A process that survives this hangs in the kernel and writes nothing more.
const ROUNDS: Duration = Duration::from_secs(10);

/// Value of [`MARK`] for the processes of this runner; no other runner of any boot has it.
pub fn mark(runner: &ProcessIdentity) -> String {
    format!("{}.{}.{}", runner.boot_id, runner.pid, runner.start_time)
}

/// How certain it is that the session of the runner's number is the runner's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Session {
    /// Nobody had the time to become its leader after the runner.
    Own,
    /// It may be anybody's unless somebody in it is known.
    Doubtful,
}

/// The processes of a runner that is dead.
#[derive(Debug)]
pub(crate) struct Remains {
    runner: ProcessIdentity,
    session: Session,
    /// Process ID of the command, if it is known to be of this boot.
    command: Option<u32>,
    stdout: Option<PathBuf>,
}

impl Remains {
    pub(crate) fn new(dir: &Path, record: &Record, runner: &ProcessIdentity, session: Session) -> Self {
        let command = record.extra.command().map_or(0, |extra| extra.child_pid);
        let is_of_this_boot = crate::identity::is_of_this_boot(runner);
        Self {
            runner: runner.clone(),
            session,
            command: (command != 0 && is_of_this_boot).then_some(command),
            stdout: fs::canonicalize(dir).ok().map(|dir| dir.join("stdout")),
        }
    }

    /// Of a runner of which nothing is known but its unit's directory: those that write the output, and what is below them.
    pub(crate) fn of_unknown(dir: &Path) -> Self {
        Self::new(dir, &Record::default(), &ProcessIdentity::default(), Session::Doubtful)
    }

    /// Kills everybody until nobody is left: killing takes time, and somebody may have been started meanwhile.
    pub(crate) fn end(&self) {
        let end = Instant::now() + ROUNDS;
        while let Ok(found) = self.find()
            && !found.is_empty()
            && Instant::now() < end
        {
            for process in &found {
                process.kill();
            }
            thread::sleep(ROUND);
        }
    }

    fn find(&self) -> io::Result<Vec<Process>> {
        let me = std::process::id();
        let all: Vec<Process> = process_table::all()?
            .into_iter()
            .filter(|process| process.is_running() && process.pid != me)
            .collect();
        let mark = format!("{MARK}={}", mark(&self.runner)).into_bytes();
        // If the number belongs to another process already, the session may too.
        let is_free = self.runner.pid != 0
            && Process::read(self.runner.pid).map_or(true, |process| process.start_time == self.runner.start_time);
        let in_session =
            |process: &&Process| is_free && process.session == self.runner.pid && process.pid != self.runner.pid;
        let is_known = |process: &&Process| {
            (in_session(process) && Some(process.pid) == self.command)
                || bears(process.pid, &mark)
                || self.writes_output(process.pid)
        };
        let mut found: BTreeSet<u32> = all.iter().filter(is_known).map(|process| process.pid).collect();
        let mut session = all.iter().filter(in_session).map(|process| process.pid);
        if self.session == Session::Own || session.clone().any(|pid| found.contains(&pid)) {
            found.extend(&mut session);
        }
        // Everybody below them.
        loop {
            let before = found.len();
            let children = all.iter().filter(|process| found.contains(&process.parent));
            let children: Vec<u32> = children.map(|process| process.pid).collect();
            found.extend(children);
            if found.len() == before {
                break;
            }
        }
        Ok(all.into_iter().filter(|process| found.contains(&process.pid)).collect())
    }

    fn writes_output(&self, pid: u32) -> bool {
        let Some(stdout) = &self.stdout else { return false };
        [1, 2]
            .iter()
            .any(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|target| target == *stdout))
    }
}

/// Whether a process has this in its environment. Those of other users cannot be read, nor killed.
fn bears(pid: u32, mark: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|&byte| byte == 0).any(|variable| variable == mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn remains(dir: &Path, pid: u32, session: Session) -> Remains {
        let runner = ProcessIdentity {
            start_time: 1,
            ..crate::identity::of(pid).unwrap()
        };
        Remains::new(dir, &Record::command("test", String::new()), &runner, session)
    }

    #[test]
    fn who_bears_the_mark_or_writes_the_output_is_found_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let remains = remains(dir.path(), std::process::id(), Session::Doubtful);
        assert_eq!(remains.find().unwrap(), []);
        let mut marked = Command::new("sh")
            .args(["-c", "env -u RECEPTOR_UNIT sleep 1000 & echo; wait"])
            .env(MARK, mark(&remains.runner))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        io::Read::read_exact(marked.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let mut writer = Command::new("sleep")
            .arg("1000")
            .stderr(fs::File::create(dir.path().join("stdout")).unwrap())
            .spawn()
            .unwrap();
        let mut other = Command::new("sleep")
            .arg("1000")
            .env(MARK, format!("{}0", mark(&remains.runner)))
            .spawn()
            .unwrap();
        let pids: BTreeSet<u32> = remains.find().unwrap().iter().map(|process| process.pid).collect();
        assert_eq!(pids.len(), 3, "{pids:?}");
        assert!(pids.contains(&marked.id()) && pids.contains(&writer.id()));
        remains.end();
        assert!(marked.try_wait().unwrap().is_some() && writer.try_wait().unwrap().is_some());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
