//! Following a runner of a classic node (`work.md` §8.3), which writes the record and says nothing.
//!
//! A thread stands between it and the daemon and says what a runner of ours would: see the module's protocol. It looks when
//! the unit's directory changes or the runner ends; only where the system has no more watches does it look four times a
//! second.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::workceptor::{ProcessIdentity, State};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{PidfdFlags, Signal};

use super::lines::Lines;
use crate::process_table::{Process, pid_of};
use crate::remains::{Remains, Session};
use crate::store::UnitDir;

/// Between two looks where nothing wakes us; as often as the runner itself looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Between a change and the look at it, for changes come in crowds.
const GATHER: Duration = Duration::from_millis(5);

/// How long the runner has for a cancel: it gives its command 10 s.
const CANCEL_LIMIT: Duration = Duration::from_secs(15);

/// Between two kills of a runner that did not.
const KILL_AGAIN: Duration = Duration::from_secs(1);

struct Follower {
    dir: UnitDir,
    identity: ProcessIdentity,
    daemon: UnixStream,
    /// Becomes readable when the runner ends.
    end: Option<OwnedFd>,
    /// Becomes readable when something changes in the directory.
    changes: Option<OwnedFd>,
    told_running: bool,
    told_size: u64,
    input: Lines,
    /// By when a cancelled runner must have ended.
    cancelled: Option<Instant>,
}

/// Starts to follow; gives the daemon's end. The thread ends with the runner or when the daemon's end is closed.
pub(super) fn follow(dir: &UnitDir, identity: &ProcessIdentity) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let end = pid_of(identity.pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut follower = Follower {
        dir: dir.clone(),
        identity: identity.clone(),
        daemon: theirs,
        end,
        changes: watch(dir).ok(),
        told_running: false,
        told_size: 0,
        input: Lines::default(),
        cancelled: None,
    };
    thread::Builder::new()
        .name("classic runner".into())
        // The daemon is gone, or sees the end of the stream.
        .spawn(move || drop(follower.run()))?;
    Ok(ours)
}

fn watch(dir: &UnitDir) -> io::Result<OwnedFd> {
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &changes,
        dir.path(),
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
    )?;
    Ok(changes)
}

impl Follower {
    fn run(&mut self) -> io::Result<()> {
        while crate::identity::is_alive(&self.identity) {
            self.tell()?;
            self.wait()?;
            if self.hear()? {
                self.signal(Signal::INT);
                self.cancelled.get_or_insert_with(|| Instant::now() + CANCEL_LIMIT);
            }
            if self.cancelled.is_some_and(|end| Instant::now() >= end) {
                self.signal(Signal::KILL);
                self.cancelled = Some(Instant::now() + KILL_AGAIN);
            }
        }
        if self.cancelled.is_some()
            && let Ok(record) = self.dir.read()
        {
            // It has ended its command only, not what that has started.
            Remains::new(self.dir.path(), &record, &self.identity, Session::Own).end();
        }
        self.tell()?;
        if self.dir.read().is_ok_and(|record| record.state.is_complete()) {
            self.daemon.write_all(b"finished\n")?;
        }
        Ok(())
    }

    /// Says what is new.
    fn tell(&mut self) -> io::Result<()> {
        if !self.told_running && self.dir.read().is_ok_and(|record| record.state == State::Running) {
            self.told_running = true;
            self.daemon.write_all(b"running\n")?;
        }
        let size = self.dir.stdout_size();
        if size != self.told_size {
            self.told_size = size;
            self.daemon.write_all(format!("output {size}\n").as_bytes())?;
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let is_pushed = self.end.is_some() && self.changes.is_some();
        let limits = [
            self.cancelled.map(|end| end.saturating_duration_since(Instant::now())),
            (!is_pushed).then_some(INTERVAL),
        ];
        let timeout = limits.into_iter().flatten().min();
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        let mut interests = vec![PollFd::new(&self.daemon, PollFlags::IN)];
        let pushed = self.end.iter().chain(&self.changes);
        interests.extend(pushed.map(|descriptor| PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)));
        match rustix::event::poll(&mut interests, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(changes) = &self.changes {
            let mut bytes = [0; 4096];
            if rustix::io::read(changes, &mut bytes).is_ok() {
                thread::sleep(GATHER);
                while rustix::io::read(changes, &mut bytes).is_ok_and(|read| read > 0) {}
            }
        }
        Ok(())
    }

    /// Whether the daemon wants the unit cancelled. Fails if it has gone.
    fn hear(&mut self) -> io::Result<bool> {
        let mut cancel = false;
        let mut bytes = [0; 64];
        let mut poll = [PollFd::new(&self.daemon, PollFlags::IN)];
        let some = rustix::event::poll(&mut poll, Some(&Timespec::default()));
        if some.is_ok_and(|ready| ready > 0) {
            let read = self.daemon.read(&mut bytes)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.input.feed(&bytes[..read], |line| cancel |= line == b"cancel");
        }
        Ok(cancel)
    }

    fn signal(&self, signal: Signal) {
        if let Ok(process) = Process::read(self.identity.pid)
            && process.start_time == self.identity.start_time
        {
            process.signal(signal);
        }
    }
}
