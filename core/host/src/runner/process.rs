//! The runner process itself: one thread that waits for the pipe, its daemons, signals and deadlines.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use receptor_core::duration::go_duration;
use receptor_core::workceptor::{Change, ExitStatus, Record, RunLimits, UnitError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitOptions};

use super::clients::{Clients, News};
use super::escalation::{Escalation, Step};
use super::pump::Pump;
use super::setup::{Descriptors, Signals, create_output, start};
use super::{SOCKET, limits};
use crate::error_text::os_text;
use crate::open_files;
use crate::process_table::{self, pid_of};
use crate::remains;
use crate::store::UnitDir;

/// How long the pipe may stay open after the command's end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts to write a record, and between two records of the size while no daemon listens.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Exit code for arguments that make no sense.
const USAGE: u8 = 2;

/// Runs a unit to its end. `args` are version, unit directory, program, arguments; descriptors are as [`super::spawn`]
/// sets them.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(version), Some(dir)) = (args.next(), args.next()) else {
        return usage("it is started by the daemon: VERSION DIRECTORY [LIMITS --] PROGRAM ARGUMENTS…");
    };
    let Some(limits) = limits::from_args(&version, &mut args) else {
        return usage(&format!("version {} is not known", version.to_string_lossy()));
    };
    let Some(program) = args.next() else {
        return usage("no program");
    };
    match run(UnitDir::new(PathBuf::from(dir)), &program, args.collect(), limits) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unit runner: {}", os_text(&error));
            ExitCode::FAILURE
        }
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("unit runner: {text}");
    USAGE.into()
}

fn run(dir: UnitDir, program: &OsString, args: Vec<OsString>, limits: RunLimits) -> io::Result<()> {
    open_files::lower();
    // Fails only if this is the leader of a group already, then somebody has given it a session of its own.
    let _ = rustix::process::setsid();
    let signals = Signals::install()?;
    let Descriptors { listener, read, write } = Descriptors::take()?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let mut clients = Clients::new(listener)?;
    // Any number but zero turns it on.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let identity = crate::identity::of(std::process::id())?;
    let mark = remains::mark(&identity);
    // If it is refused the unit was given up meanwhile; if nothing can be written, nobody could tell that the command
    // runs. Either way it is not started, and the daemon sees that we are gone.
    let Ok(record) = dir.update(&Change::RunnerUp { identity }, false) else {
        return remove_socket(&dir);
    };
    let started = create_output(&dir).and_then(|output| Ok((start(&dir, &mark, program, args, write)?, output)));
    let (child, output) = match started {
        Ok(started) => started,
        Err(text) => {
            let recorded = record_end(&dir, &Change::SpawnFailed { text });
            remove_socket(&dir)?;
            if recorded {
                clients.farewell(News::default(), LAST_WORDS);
            }
            return Ok(());
        }
    };
    let pump = Pump::new(read, output, limits.output);
    if pump.copies() {
        clients.announce_copying();
    }
    let mut runner = Runner {
        dir,
        clients,
        signals,
        pump,
        child,
        recorded: Recorded::Not(Instant::now()),
        ended: None,
        cancel: None,
        size_recorded: (0, Instant::now()),
        limits,
        end_at: limits.time.and_then(|time| Instant::now().checked_add(time)),
        exceeded: None,
    };
    if is_cancelling(&record) {
        runner.cancel = Some(Escalation::new(Instant::now()));
    }
    while !runner.is_over() {
        runner.turn()?;
    }
    runner.finish()
}

fn is_cancelling(record: &Record) -> bool {
    record.extra.command().is_some_and(|extra| extra.cancelling)
}

/// Writes a terminal record, however long the disk is full. `false` if the unit is somebody else's or gone.
fn record_end(dir: &UnitDir, change: &Change) -> bool {
    loop {
        match dir.update(change, true) {
            Ok(_) => return true,
            Err(UnitError::Io(_)) => thread::sleep(RECORD_INTERVAL),
            Err(_) => return false,
        }
    }
}

fn remove_socket(dir: &UnitDir) -> io::Result<()> {
    match fs::remove_file(dir.path().join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the record says that the command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// Not yet; try at this time.
    Not(Instant),
    Yes,
    /// The unit is somebody else's or gone: end the command, record nothing.
    Never,
}

struct Runner {
    dir: UnitDir,
    clients: Clients,
    signals: Signals,
    pump: Pump,
    child: u32,
    recorded: Recorded,
    ended: Option<Ended>,
    cancel: Option<Escalation>,
    /// Last size in the record by our hand, and when the next may be written.
    size_recorded: (u64, Instant),
    limits: RunLimits,
    /// When the command has run for long enough.
    end_at: Option<Instant>,
    /// The limit for which it is being ended.
    exceeded: Option<String>,
}

struct Ended {
    status: ExitStatus,
    canceled: bool,
    /// When the pipe's end is given up.
    patience: Instant,
}

impl Runner {
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let now = Instant::now();
        let told = self.clients.serve();
        if told | Signals::take(&self.signals.end) {
            self.cancel(now);
        }
        Signals::take(&self.signals.child);
        self.reap(now);
        self.pump.turn(now);
        self.check_limits(now);
        self.escalate(now);
        self.record_progress(now);
        if self.ended.as_ref().is_some_and(|ended| now >= ended.patience) && !self.pump.is_held_up() {
            self.pump.take_rest();
        }
        self.clients.tell(self.news());
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let timeout = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|left| Timespec::try_from(left).unwrap_or_default());
        let mut interests: Vec<PollFd<'_>> = self
            .clients
            .interests()
            .chain([
                (self.signals.end.as_fd(), PollFlags::IN),
                (self.signals.child.as_fd(), PollFlags::IN),
            ])
            .chain(self.pump.wants().map(|pipe| (pipe, PollFlags::IN)))
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        match rustix::event::poll(&mut interests, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let record = match self.recorded {
            Recorded::Not(at) => Some(at),
            Recorded::Yes if self.size_is_due() => Some(self.size_recorded.1),
            _ => None,
        };
        let patience = self
            .ended
            .as_ref()
            .map(|ended| ended.patience)
            .filter(|_| !self.pump.is_held_up());
        let cancel = self.cancel.as_ref().map(Escalation::deadline);
        let limit = self.end_at.filter(|_| self.ended.is_none() && self.cancel.is_none());
        [record, patience, cancel, limit, self.pump.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn news(&self) -> News {
        News {
            running: self.recorded == Recorded::Yes,
            size: self.pump.written(),
        }
    }

    fn cancel(&mut self, now: Instant) {
        match &mut self.ended {
            // Too late for the command, but what it left behind need not be waited for.
            Some(ended) if !ended.canceled => ended.patience = ended.patience.min(now),
            _ => {
                self.cancel.get_or_insert_with(|| Escalation::new(now));
            }
        }
    }

    /// Begins to end a command that exceeds a limit, unless that has begun for another reason.
    fn check_limits(&mut self, now: Instant) {
        if self.ended.is_some() || self.cancel.is_some() {
            return;
        }
        let time = self.limits.time.filter(|_| self.end_at.is_some_and(|at| now >= at));
        let output = self.limits.output.filter(|_| self.pump.exceeds_limit());
        self.exceeded = match (output, time) {
            (Some(bytes), _) => Some(format!("output limit of {bytes} bytes reached")),
            (None, Some(time)) => {
                let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
                Some(format!("time limit of {} reached", go_duration(nanos)))
            }
            (None, None) => return,
        };
        self.cancel(now);
    }

    /// Reaps every ended descendant that is our child by birth or by adoption.
    fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if Some(pid) != pid_of(self.child) || self.ended.is_some() {
                continue;
            }
            let status = std::process::ExitStatus::from_raw(status.as_raw());
            let status = ExitStatus {
                code: status.code(),
                signal: status.signal(),
                core_dumped: status.core_dumped(),
            };
            self.ended = Some(Ended {
                status,
                canceled: self.cancel.is_some(),
                patience: now + PATIENCE,
            });
        }
    }

    fn escalate(&mut self, now: Instant) {
        let command_runs = self.ended.is_none();
        let Some(cancel) = &mut self.cancel else { return };
        while let Some(step) = cancel.due(now, command_runs) {
            // Failures mean that nobody is there any more.
            match step {
                Step::Interrupt if command_runs => {
                    let _ = pid_of(self.child).map(|pid| rustix::process::kill_process(pid, Signal::INT));
                }
                Step::Interrupt => {}
                Step::Terminate => {
                    // The command's number stands for its group only while somebody is in it.
                    if process_table::group_has_members(self.child) {
                        let _ = pid_of(self.child).map(|pid| rustix::process::kill_process_group(pid, Signal::TERM));
                    }
                }
                Step::Kill => {
                    let _ = process_table::kill_descendants(std::process::id());
                    break;
                }
            }
        }
    }

    /// Records that the command runs, and while nobody else does it the size of the output, for classic daemons.
    fn record_progress(&mut self, now: Instant) {
        match self.recorded {
            Recorded::Not(at) if now >= at => {
                self.recorded = match self.dir.update(&Change::Running { pid: self.child }, false) {
                    Ok(record) => {
                        if is_cancelling(&record) {
                            self.cancel(now);
                        }
                        Recorded::Yes
                    }
                    Err(UnitError::Io(_)) => Recorded::Not(now + RECORD_INTERVAL),
                    Err(_) => {
                        self.cancel(now);
                        Recorded::Never
                    }
                };
            }
            Recorded::Yes if self.size_is_due() && now >= self.size_recorded.1 => {
                let size = self.pump.written();
                // Only a hint; the next or the last record says it again.
                let _ = self.dir.update(&Change::OutputSize(size), false);
                self.size_recorded = (size, now + RECORD_INTERVAL);
            }
            _ => {}
        }
    }

    fn size_is_due(&self) -> bool {
        self.clients.is_empty() && self.pump.written() != self.size_recorded.0
    }

    fn is_over(&mut self) -> bool {
        let Some(ended) = &self.ended else { return false };
        let Some(cancel) = self.cancel.as_ref().filter(|_| ended.canceled) else {
            return self.pump.is_done();
        };
        let alone = process_table::descendants(std::process::id()).map_or(true, |found| found.is_empty());
        if !alone && !cancel.is_exhausted(Instant::now()) {
            return false;
        }
        if self.pump.is_held_up() {
            // Nobody wants it, and a full disk must not keep a unit from being cancelled.
            self.pump.abandon();
        }
        self.pump.is_done()
    }

    fn finish(mut self) -> io::Result<()> {
        let Some(ended) = self.ended.take() else { return Ok(()) };
        let news = self.news();
        let (status, stdout_size, checksum) = (ended.status, self.pump.written(), self.pump.checksum());
        // A command that ended by itself while the last of its output was looked at has exceeded the limit all the same.
        let exceeded = self.exceeded.take().or_else(|| {
            let bytes = self
                .limits
                .output
                .filter(|_| self.pump.exceeds_limit() && !ended.canceled)?;
            Some(format!("output limit of {bytes} bytes reached"))
        });
        let exited = match exceeded {
            Some(detail) => Change::Stopped {
                detail,
                status,
                stdout_size,
                checksum,
            },
            None => Change::Exited {
                status,
                stdout_size,
                checksum,
                canceled: ended.canceled,
            },
        };
        let recorded = self.recorded != Recorded::Never && record_end(&self.dir, &exited);
        // Before the last words: after them the directory may be removed.
        remove_socket(&self.dir)?;
        if recorded {
            self.clients.farewell(news, LAST_WORDS);
        }
        Ok(())
    }
}
