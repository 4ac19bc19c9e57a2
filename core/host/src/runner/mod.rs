//! The unit runner: a small process that outlives the daemon and owns one unit's command.
//!
//! The daemon [`spawn`]s the runner and hands it three descriptors: a listening socket (`runner.sock` in the unit's
//! directory), and both ends of the pipe that will be the command's output. The runner opens a session of its own, puts
//! itself into the record, starts the command, pumps the pipe into `stdout`, and writes how the command ended. All of
//! that it does with or without a daemon. A daemon that was started anew [`attach`]es.
//!
//! # Protocol
//!
//! Lines of ASCII text, both ways, over `runner.sock`. The runner begins with `receptor-runner 1`, and ` copy` behind it
//! if bytes of the output pass through its own memory (see below), then says `running` when the command runs and the record says so, `output N` when `stdout` has grown to `N` bytes (only the newest of
//! several sizes), and `finished` when the terminal record is durable; it ends then. The daemon may say `cancel`. Unknown
//! lines are skipped. A daemon that does not read is told less, and holds nothing up.
//!
//! # The output
//!
//! The runner moves it from the pipe into `stdout` by `splice`, so that at every moment each byte is in one of the two. The
//! daemon holds the pipe as well: if the runner is killed, it writes the pipe's rest behind what is in the file. File
//! systems that do not know `splice` get copies; what a killed runner had in its memory is lost then, and the daemon leaves
//! the rest alone, for an output that breaks off is better than one with a hole.
//!
//! # The end of a command
//!
//! A command has ended when its process has, as in classic nodes. Processes it leaves behind may keep the pipe open; the
//! runner waits 2 s for them to close it, takes what is in the pipe, and closes it.
//!
//! # Cancel
//!
//! SIGINT to the command; SIGTERM to its process group after 5 s or when the command has ended and left others behind;
//! SIGKILL to every descendant 5 s after that. The runner is the reaper of all of them, so a process that detaches itself
//! is still found. A cancelled unit is over when no descendant runs. SIGINT and SIGTERM to the runner itself mean cancel:
//! that is how classic daemons do it.
//!
//! # A killed runner
//!
//! The daemon that follows it, or the next one that looks for it, kills everything the runner and its command have started
//! before it says that the unit is over: see [`remains`](crate::remains) for how they are known.
//!
//! # Runners of classic nodes
//!
//! A directory that a classic node has left may have a runner of its that still runs. It is found by its command line, and
//! a thread of the daemon follows it and says for it what is said above. It is cancelled by SIGINT, as classic daemons do.
//!
//! # Limits
//!
//! A runner may be told how much output its command may write and how long it may run (version 2 of its arguments). It keeps
//! watch over that itself, so that it holds without a daemon, and ends the command as a cancel does. What was written up to the
//! limit is kept, and the record says which limit it was.
//!
//! # A full disk
//!
//! While `stdout` cannot be written the runner stops reading the pipe, so that the command is held up, and tries again
//! each second. Nothing is lost unless the unit is cancelled meanwhile.

mod classic;
mod clients;
mod connection;
mod escalation;
pub(crate) mod found;
mod limits;
mod lines;
mod process;
mod pump;
mod setup;

use std::ffi::OsString;
use std::path::PathBuf;

pub use connection::{Attached, CANCEL, RunnerConnection, RunnerWatch, attach, interrupt, spawn, spawn_within};
pub use lines::Notice;
pub use process::main;

/// The first argument that makes the daemon's program a runner.
pub const RUNNER_ARGUMENT: &str = "unit-runner";

/// Version of arguments and protocol.
const VERSION: &str = "1";

/// Version of arguments with limits in them; the protocol is the same.
const LIMITS_VERSION: &str = "2";

/// Before the program, behind the limits.
const END_OF_LIMITS: &str = "--";

/// Name of the socket in the unit's directory.
const SOCKET: &str = "runner.sock";

/// The program that calls [`main`] with the arguments after `first_args`.
#[derive(Clone, Debug)]
pub struct RunnerProgram {
    /// Its path.
    pub path: PathBuf,
    /// Arguments that make it a runner.
    pub first_args: Vec<OsString>,
}

impl Default for RunnerProgram {
    /// The running program itself, even if its file was replaced meanwhile, with [`RUNNER_ARGUMENT`].
    fn default() -> Self {
        Self {
            path: "/proc/self/exe".into(),
            first_args: vec![RUNNER_ARGUMENT.into()],
        }
    }
}
