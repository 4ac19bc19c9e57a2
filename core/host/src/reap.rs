//! Children: which are ours, and the orphans that fall to us where we are process 1 of a container.
//!
//! The standard library waits for children by number, so a wait for *any* child would steal the status it waits for, and
//! a later wait could then hit another process of the same number. Therefore our own children are noted here, and the
//! reaper takes only zombies that are not noted, each by its number. Spawning and noting happen under one lock, which the
//! reaper holds while it looks and takes. Children that an embedding program starts by itself are not noted: such a
//! program must not call [`reap_orphans`].

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::WaitOptions;
use signal_hook::consts::SIGCHLD;

use crate::process_table::{self, pid_of};

/// Process IDs of children that somebody here waits for. Children belong to the process, so this does too.
static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A child that the reaper leaves alone for as long as this lives.
#[derive(Debug)]
pub struct OwnChild(Child);

impl OwnChild {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut ours = ours();
        let child = command.spawn()?;
        ours.insert(child.id());
        Ok(Self(child))
    }

    /// Process ID.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        ours().remove(&self.0.id());
    }
}

fn ours() -> MutexGuard<'static, BTreeSet<u32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether orphans of the whole machine or container fall to this process.
pub fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Starts a thread that reaps every ended child that is no [`OwnChild`]. Call it once, where [`is_first_process`].
pub fn reap_orphans() -> io::Result<()> {
    let (mut wake, waker) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGCHLD, waker)?;
    thread::Builder::new().name("reaper".into()).spawn(move || {
        loop {
            reap_ended();
            match wake.read(&mut [0; 64]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The handler holds the other end for ever, so this does not happen; without it there is nothing to do.
                Ok(0) | Err(_) => return,
            }
        }
    })?;
    Ok(())
}

fn reap_ended() {
    let ours = ours();
    for child in process_table::children(std::process::id()).unwrap_or_default() {
        if child.is_running() || ours.contains(&child.pid) {
            continue;
        }
        if let Some(pid) = pid_of(child.pid) {
            // The only other result is that it is not ours to reap after all.
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    /// In a process of its own: the tests beside it start children that are not noted.
    #[test]
    fn orphans_are_reaped_and_own_children_are_not() {
        const ALONE: &str = "RECEPTOR_TEST_REAPER_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = "reap::tests::orphans_are_reaped_and_own_children_are_not";
            let mut test = Command::new(std::env::current_exe().unwrap());
            let status = test
                .args(["--exact", name])
                .env(ALONE, "1")
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        rustix::process::set_child_subreaper(pid_of(1)).unwrap();
        reap_orphans().unwrap();
        let mut own = OwnChild::spawn(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        let mut parent =
            OwnChild::spawn(Command::new("sh").args(["-c", "for i in 1 2 3; do sleep 0.1 & done"])).unwrap();
        assert!(parent.wait().unwrap().success());
        drop(parent);
        let children = || process_table::children(std::process::id()).unwrap();
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end && children().iter().any(|child| child.pid != own.id()) {
            thread::sleep(Duration::from_millis(10));
        }
        let left: Vec<_> = children().iter().map(|child| child.pid).collect();
        assert_eq!(left, [own.id()]);
        assert_eq!(own.wait().unwrap().code(), Some(7));
    }
}
