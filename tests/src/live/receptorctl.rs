//! The unmodified Python client, as a user runs it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{PATIENCE, python_client, script, until};

/// The client, pointed at one control socket.
#[derive(Debug)]
pub struct Receptorctl {
    bin: &'static Path,
    socket: PathBuf,
    dir: TempDir,
}

/// How one run of it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Receptorctl {
    /// `None` when the Python client cannot be had here.
    pub fn new(socket: &Path) -> Option<Self> {
        Some(Self {
            bin: python_client()?,
            socket: socket.to_owned(),
            dir: TempDir::new().expect("a temporary directory can be made"),
        })
    }

    /// Runs a command of it and waits for its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(self.bin.join("receptorctl"));
        command.arg("--socket").arg(&self.socket).args(arguments);
        self.finish(command, b"")
    }

    /// The same, with standard input.
    pub fn run_with(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = Command::new(self.bin.join("receptorctl"));
        command.arg("--socket").arg(&self.socket).args(arguments);
        self.finish(command, stdin)
    }

    /// Runs a command that must exit with 0; answers its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    }

    /// Runs a Python script that uses the client as a library; its first argument is the socket.
    pub fn python(&self, script: &Path, arguments: &[&str]) -> Ended {
        let mut command = Command::new(self.bin.join("python"));
        command.arg(script).arg(&self.socket).args(arguments);
        self.finish(command, b"")
    }

    /// Runs `connect` on a terminal, without which it refuses to start: types `line` after the greeting, and the end of
    /// input when `expected` was shown.
    pub fn connect(&self, node: &str, service: &str, line: &str, expected: &str) -> Ended {
        let mut command = Command::new(self.bin.join("python"));
        command.arg(script("in_terminal.py")).args([line, expected]);
        command
            .arg(self.bin.join("receptorctl"))
            .arg("--socket")
            .arg(&self.socket);
        command.args(["connect", node, service]);
        self.finish(command, b"")
    }

    fn finish(&self, mut command: Command, stdin: &[u8]) -> Ended {
        let run = tempfile::tempdir_in(self.dir.path()).expect("a temporary directory can be made");
        let file = |name: &str| run.path().join(name);
        fs::write(file("in"), stdin).expect("a scratch file can be written");
        let mut child = command
            .stdin(File::open(file("in")).expect("just written"))
            .stdout(File::create(file("out")).expect("a scratch file can be made"))
            .stderr(File::create(file("err")).expect("a scratch file can be made"))
            .spawn()
            .expect("the client can be started");
        let what = format!("{command:?} ends");
        let status = until(&what, PATIENCE, || {
            child
                .try_wait()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "it runs".to_owned())
        });
        let text = |name: &str| String::from_utf8_lossy(&fs::read(file(name)).unwrap_or_default()).into_owned();
        Ended {
            code: status.code(),
            stdout: text("out"),
            stderr: text("err"),
        }
    }
}
