//! Finding the runners that live, whoever started them.
//!
//! A classic daemon knows its runner by a process ID in the record, which may be missing (it died before it wrote it), stale
//! (the machine was started anew), or all that is left of our own runner's identity (it has written the record anew without
//! the keys it does not know). The command line tells the unit's directory in any case.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use receptor_core::workceptor::{FoundRunner, RunnerKind};

use super::{LIMITS_VERSION, RUNNER_ARGUMENT, VERSION};
use crate::identity;
use crate::process_table::{self, Process};

/// The program of a runner that does nothing else.
const RUNNER_PROGRAM: &str = "receptor-unit-runner";

/// The program of a classic python worker.
const PYTHON_WORKER: &str = "receptor-python-worker";

/// All runners that live, by the unit's directory without symbolic links.
pub(crate) fn living() -> BTreeMap<PathBuf, FoundRunner> {
    let all = process_table::all().unwrap_or_default();
    all.iter().filter_map(runner).collect()
}

fn runner(process: &Process) -> Option<(PathBuf, FoundRunner)> {
    // Every runner leads a session; who is about to become a command still has the command line of its parent.
    if process.session != process.pid || !process.is_running() {
        return None;
    }
    let line = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
    let arguments: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    let (dir, kind) = unit(&arguments)?;
    let identity = identity::of(process.pid).ok()?;
    // Relative paths are so from where the runner was started.
    let start = fs::read_link(format!("/proc/{}/cwd", process.pid)).ok()?;
    let dir = fs::canonicalize(start.join(dir)).ok()?;
    (identity.start_time == process.start_time).then_some((dir, FoundRunner { identity, kind }))
}

/// The unit's directory as the command line has it.
fn unit<'a>(arguments: &[&'a [u8]]) -> Option<(&'a Path, RunnerKind)> {
    let ours = match arguments {
        [_, first, version, dir, ..] if *first == RUNNER_ARGUMENT.as_bytes() => Some((version, dir)),
        [program, version, dir, ..] if file_name(program) == RUNNER_PROGRAM.as_bytes() => Some((version, dir)),
        _ => None,
    };
    if let Some((version, dir)) = ours {
        let is_known = [VERSION, LIMITS_VERSION]
            .iter()
            .any(|known| known.as_bytes() == *version);
        return is_known.then_some((path(dir), RunnerKind::Ours));
    }
    // `work.md` §8.2.
    if let Some(at) = arguments.iter().position(|argument| *argument == b"--command-runner") {
        let dir = arguments[at..]
            .iter()
            .find_map(|argument| argument.strip_prefix(b"unitdir="))?;
        return Some((path(dir), RunnerKind::Classic));
    }
    // `work.md` §9; an interpreter may come first.
    let at = arguments
        .iter()
        .position(|argument| file_name(argument) == PYTHON_WORKER.as_bytes())?;
    Some((path(arguments.get(at + 2)?), RunnerKind::Classic))
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn file_name(argument: &[u8]) -> &[u8] {
    argument.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_of(line: &str) -> Option<(&Path, RunnerKind)> {
        unit(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines_tell_the_directory() {
        let ours = Some((Path::new("/d/n/u"), RunnerKind::Ours));
        let classic = Some((Path::new("/d/n/u"), RunnerKind::Classic));
        assert_eq!(unit_of("/proc/self/exe unit-runner 1 /d/n/u cat"), ours);
        assert_eq!(
            unit_of("/proc/self/exe unit-runner 2 /d/n/u output-limit=7 -- cat"),
            ours
        );
        assert_eq!(unit_of("/x/receptor-unit-runner 1 /d/n/u cat"), ours);
        let go = "receptor --node id=worker --log-level info --command-runner command=sh params=-c unitdir=/d/n/u";
        assert_eq!(unit_of(go), classic);
        let relative = unit_of("receptor --command-runner command=sh params= unitdir=d/n/u");
        assert_eq!(relative, Some((Path::new("d/n/u"), RunnerKind::Classic)));
        let python = "/usr/bin/python3 /usr/bin/receptor-python-worker plugin:function /d/n/u {}";
        assert_eq!(unit_of(python), classic);
        for other in [
            "",
            "cat",
            "cat unitdir=/d/n/u",
            "receptor unit-runner",
            "receptor unit-runner 3 /d/n/u cat",
            "receptor --command-runner command=sh",
            "receptor-python-worker plugin:function",
        ] {
            assert_eq!(unit_of(other), None, "{other}");
        }
    }
}
