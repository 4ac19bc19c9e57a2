//! The daemon's end: starting a runner, finding one again, and following what it says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::workceptor::{FoundRunner, ProcessIdentity, Record, RunLimits, RunnerEvent, RunnerKind, UnitError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::lines::{Lines, Notice};
use super::{RunnerProgram, SOCKET, classic, limits, pump};
use crate::error_text::{path_text, spawn_text};
use crate::identity;
use crate::open_files;
use crate::process_table::{Process, pid_of};
use crate::reap::OwnChild;
use crate::remains::{Remains, Session};
use crate::store::UnitDir;
use crate::unix_path::{self, ShortPath};

/// What to write to the stream so that the runner ends its unit.
pub const CANCEL: &[u8] = b"cancel\n";

/// How long a pipe may stay open after everybody who could write to it was killed.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// How long a runner that is not our child may take from closing its connections to its end.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// A connection to a runner.
#[derive(Debug)]
pub struct RunnerConnection {
    /// Where its lines come from and [`CANCEL`] goes to; blocking. The end of the stream is the end of the runner.
    pub stream: UnixStream,
    /// Makes events of them.
    pub watch: RunnerWatch,
}

/// Follows one runner.
#[derive(Debug)]
pub struct RunnerWatch {
    dir: UnitDir,
    lines: Lines,
    finished: bool,
    /// What is left in the pipe does not continue `stdout`.
    copies: bool,
    /// Classic runners write in place and may be killed while they do: what to go back to.
    last: Option<Box<Record>>,
    runner: Runner,
}

#[derive(Debug)]
enum Runner {
    /// Our child, with the reading end of its pipe.
    Child { process: OwnChild, pipe: OwnedFd },
    /// Left by an earlier daemon.
    Found(ProcessIdentity),
}

/// What [`attach`] found.
#[derive(Debug)]
pub struct Attached {
    /// The record, read after the connection was made or refused.
    pub record: Record,
    /// Size of `stdout`.
    pub stdout_size: u64,
    /// The connection, if the runner lives.
    pub connection: Option<RunnerConnection>,
    /// Whether the machine was not started anew since, as far as is known.
    pub same_boot: bool,
}

/// Starts a runner for the unit, which starts `program` with `args`. Environment and working directory are inherited.
pub fn spawn(
    runner: &RunnerProgram,
    dir: &UnitDir,
    program: &str,
    args: &[String],
) -> Result<RunnerConnection, UnitError> {
    spawn_within(runner, dir, program, args, RunLimits::default())
}

/// The same, with limits that the runner keeps watch over.
pub fn spawn_within(
    runner: &RunnerProgram,
    dir: &UnitDir,
    program: &str,
    args: &[String],
    limits: RunLimits,
) -> Result<RunnerConnection, UnitError> {
    let socket = dir.path().join(SOCKET);
    let failed = |verb: &str, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound if !dir.path().is_dir() => UnitError::Missing,
        _ => UnitError::Io(path_text(verb, &socket, &error)),
    };
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", error)),
        _ => {}
    }
    let listener = ShortPath::new(&socket)
        .and_then(|short| UnixListener::bind(short.as_path()))
        .map_err(|error| failed("bind", error))?;
    let started = start(runner, dir, program, args, limits, listener);
    if started.is_err() {
        // Nobody listens there any more.
        let _ = fs::remove_file(&socket);
    }
    started.map_err(|error| UnitError::Io(spawn_text(&runner.path.to_string_lossy(), &error)))
}

fn start(
    runner: &RunnerProgram,
    dir: &UnitDir,
    program: &str,
    args: &[String],
    limits: RunLimits,
    listener: UnixListener,
) -> io::Result<RunnerConnection> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Larger is better but not needed: users have a limit on the sum.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, pump::BUFFER);
    let pipe = read.try_clone()?;
    let mut command = Command::new(&runner.path);
    let (version, limits) = limits::to_args(limits);
    command
        .args(&runner.first_args)
        .arg(version)
        .arg(dir.path())
        .args(limits)
        .arg(program)
        .args(args);
    open_files::tell(&mut command);
    command.stdin(OwnedFd::from(listener)).stdout(read).stderr(write);
    // Before the runner is there: one that ends at once removes the socket. The command holds the listening one.
    let stream = unix_path::connect(&dir.path().join(SOCKET))?;
    let process = OwnChild::spawn(&mut command)?;
    Ok(connection(dir, stream, Runner::Child { process, pipe }, None))
}

/// Connects to a runner left by an earlier daemon, if it lives. If it does not and has not finished its unit, everything
/// that it and its command have started is killed, which is waited for.
pub fn attach(dir: &UnitDir, runner: &FoundRunner) -> Result<Attached, UnitError> {
    let identity = &runner.identity;
    let alive = identity::is_alive(identity);
    let stream = alive.then(|| match runner.kind {
        RunnerKind::Ours => unix_path::connect(&dir.path().join(SOCKET)),
        RunnerKind::Classic => classic::follow(dir, identity),
    });
    let connection = match stream {
        Some(Ok(stream)) => {
            // Before the runner can end: afterwards it may be the last readable one.
            let last = dir
                .read()
                .ok()
                .filter(|_| runner.kind == RunnerKind::Classic)
                .map(Box::new);
            Some(connection(dir, stream, Runner::Found(identity.clone()), last))
        }
        // It has ended just now.
        Some(Err(error)) if is_no_listener(&error) => None,
        Some(Err(error)) => return Err(UnitError::Io(path_text("connect", &dir.path().join(SOCKET), &error))),
        None => None,
    };
    let mut record = dir.read()?;
    if connection.is_none() && !record.state.is_complete() && !identity::is_alive(identity) {
        Remains::new(dir.path(), &record, identity, Session::Doubtful).end();
        record = dir.read()?;
    }
    Ok(Attached {
        record,
        stdout_size: dir.stdout_size(),
        connection,
        same_boot: identity.boot_id.is_empty() || identity::is_of_this_boot(identity),
    })
}

/// Tells the runner that the record names to end its unit without a connection to it: by SIGINT. `false` if there is no
/// such runner.
pub fn interrupt(dir: &UnitDir) -> bool {
    let runner = dir.read().ok().and_then(|record| record.extra.command()?.runner());
    runner.is_some_and(|identity| {
        identity::is_alive(&identity)
            && Process::read(identity.pid).is_ok_and(|process| {
                let is_same = process.start_time == identity.start_time;
                if is_same {
                    process.signal(Signal::INT);
                }
                is_same
            })
    })
}

fn is_no_listener(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn connection(dir: &UnitDir, stream: UnixStream, runner: Runner, last: Option<Box<Record>>) -> RunnerConnection {
    let watch = RunnerWatch {
        dir: dir.clone(),
        lines: Lines::default(),
        finished: false,
        copies: false,
        last,
        runner,
    };
    RunnerConnection { stream, watch }
}

impl RunnerConnection {
    /// Follows the runner to its end on this thread. The last event is `Finished` or `Lost`, unless the unit's directory
    /// is gone.
    pub fn follow(self, mut on_event: impl FnMut(RunnerEvent)) {
        let Self { mut stream, mut watch } = self;
        let mut bytes = [0; 4096];
        loop {
            match stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    for notice in watch.received(&bytes[..read]) {
                        watch.event(notice).into_iter().for_each(&mut on_event);
                    }
                }
            }
        }
        watch.ended().into_iter().for_each(on_event);
    }
}

impl RunnerWatch {
    /// Takes bytes from the stream, in any slicing. Does not block. Of several sizes only the last is kept.
    pub fn received(&mut self, bytes: &[u8]) -> Vec<Notice> {
        let mut notices: Vec<Notice> = Vec::new();
        self.lines.feed(bytes, |line| {
            let Some(notice) = Notice::parse(line) else { return };
            self.copies |= notice == Notice::Copying;
            if let (Some(Notice::Output(last)), Notice::Output(size)) = (notices.last_mut(), notice) {
                *last = size;
            } else {
                notices.push(notice);
            }
        });
        notices
    }

    /// Makes the event for the core of a notice: blocks to read the record, except for `Output`. `None` if it cannot be
    /// read; [`RunnerWatch::ended`] will tell.
    pub fn event(&mut self, notice: Notice) -> Option<RunnerEvent> {
        match notice {
            Notice::Output(size) => Some(RunnerEvent::Output(size)),
            Notice::Copying => None,
            Notice::Running => {
                let record = self.dir.read().ok()?;
                if let Some(last) = &mut self.last {
                    last.as_mut().clone_from(&record);
                }
                // It may have ended since, which the runner will say itself.
                (!record.state.is_complete()).then_some(RunnerEvent::Running(record))
            }
            Notice::Finished => {
                let record = self.dir.read().ok()?;
                self.finished = true;
                Some(RunnerEvent::Finished(record))
            }
        }
    }

    /// Concludes after the stream's end; blocks. The runner is reaped. If it has not finished its unit, everything that it
    /// and its command have started is killed, which is waited for, and what is left in the pipe is written to `stdout`.
    /// `None` if `Finished` was said before or the unit's directory is gone.
    pub fn ended(mut self) -> Option<RunnerEvent> {
        let runner = match &self.runner {
            Runner::Child { process, .. } => {
                if let Some(pid) = pid_of(process.id()) {
                    // As long as it is a zombie its number, and its session's, cannot be anybody else's.
                    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
                }
                identity::of(process.id()).ok()
            }
            Runner::Found(identity) => {
                let end = Instant::now() + LAST_BREATH;
                while identity::is_alive(identity) && Instant::now() < end {
                    thread::sleep(Duration::from_millis(2));
                }
                Some(identity.clone())
            }
        };
        if let Some(last) = &self.last {
            // Nothing else can be done if it fails, and the unit says so.
            let _ = self.dir.restore(last);
        }
        if let (Ok(record), Some(runner)) = (self.dir.read(), runner)
            && !record.state.is_complete()
        {
            self.clean_up(&record, &runner);
        }
        if let Runner::Child { process, .. } = &mut self.runner {
            // The record says how the unit ended; how the runner did is of no interest.
            let _ = process.wait();
        }
        let record = self.dir.read().ok()?;
        match (record.state.is_complete(), self.finished) {
            (true, true) => None,
            (true, false) => Some(RunnerEvent::Finished(record)),
            (false, _) => Some(RunnerEvent::Lost {
                record,
                stdout_size: self.dir.stdout_size(),
            }),
        }
    }

    fn clean_up(&self, record: &Record, runner: &ProcessIdentity) {
        Remains::new(self.dir.path(), record, runner, Session::Own).end();
        if let Runner::Child { pipe, .. } = &self.runner
            && !self.copies
        {
            // What cannot be saved is missing from a unit that failed anyway.
            let _ = self.save_output(pipe);
        }
    }

    fn save_output(&self, pipe: &OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(pipe, true)?;
        let mut file = OpenOptions::new().append(true).open(self.dir.stdout())?;
        let mut pipe = File::from(pipe.try_clone()?);
        let end = Instant::now() + LAST_OUTPUT;
        let mut bytes = vec![0; 64 << 10];
        loop {
            match pipe.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(read) => file.write_all(&bytes[..read])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(());
                    }
                    let timeout = Timespec::try_from(left).unwrap_or_default();
                    rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&timeout))?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
