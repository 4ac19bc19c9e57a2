//! What the runner does once: descriptors, signals, the command.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::error_text::{os_text, path_text, spawn_text};
use crate::open_files;
use crate::remains::MARK;
use crate::store::UnitDir;

/// The descriptors that the daemon passes as standard input, output and error.
pub(super) struct Descriptors {
    pub(super) listener: UnixListener,
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

impl Descriptors {
    /// Takes them away from where they are: what is written there by accident must not end up in the unit's output, and
    /// the pipe must end with the command.
    pub(super) fn take() -> io::Result<Self> {
        let taken = Self {
            listener: rustix::stdio::stdin().try_clone_to_owned()?.into(),
            read: rustix::stdio::stdout().try_clone_to_owned()?,
            write: rustix::stdio::stderr().try_clone_to_owned()?,
        };
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        Ok(taken)
    }
}

/// Signals as sockets that become readable.
pub(super) struct Signals {
    /// SIGINT and SIGTERM.
    pub(super) end: UnixStream,
    /// SIGCHLD.
    pub(super) child: UnixStream,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        let (end, end_writer) = UnixStream::pair()?;
        let (child, child_writer) = UnixStream::pair()?;
        end.set_nonblocking(true)?;
        child.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGINT, end_writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, end_writer)?;
        signal_hook::low_level::pipe::register(SIGCHLD, child_writer)?;
        Ok(Self { end, child })
    }

    /// Whether something has come since the last call.
    pub(super) fn take(mut stream: &UnixStream) -> bool {
        let mut some = false;
        while matches!(stream.read(&mut [0; 64]), Ok(1..)) {
            some = true;
        }
        some
    }
}

/// Starts the command in a process group of its own, with the mark of this runner; gives its process ID.
pub(super) fn start(
    dir: &UnitDir,
    mark: &str,
    program: &OsString,
    args: Vec<OsString>,
    write: OwnedFd,
) -> Result<u32, String> {
    let stdin = dir.stdin();
    let input = File::open(&stdin).map_err(|error| path_text("open", &stdin, &error))?;
    let copy = write.try_clone().map_err(|error| os_text(&error))?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env(MARK, mark)
        .stdin(Stdio::from(input))
        .stdout(copy)
        .stderr(write)
        .process_group(0);
    open_files::forget(&mut command);
    // Reaped by number with all other descendants, so the handle is of no use.
    let child = command
        .spawn()
        .map_err(|error| spawn_text(&program.to_string_lossy(), &error))?;
    Ok(child.id())
}

/// Makes the unit's output file.
pub(super) fn create_output(dir: &UnitDir) -> Result<File, String> {
    let path = dir.stdout();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| path_text("open", &path, &error))
}
