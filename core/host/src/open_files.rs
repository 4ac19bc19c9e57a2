//! How many files, sockets among them, this process may have open at one time.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Tells a unit's runner the limit that its command shall have.
const VARIABLE: &str = "RECEPTOR_OPEN_FILES";

/// The soft limit before it was raised; `None` is no limit.
static BEFORE: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit to the hard one and gives the new one; `None` is no limit. For the start of a daemon.
///
/// The soft limit is 1,024 for the sake of programs that call `select`, as commands of units may: those get it back.
///
/// # Errors
/// The system refuses; then it stays as it was.
pub fn raise() -> std::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(limit.current);
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised)?;
    BEFORE.get_or_init(|| limit.current);
    Ok(limit.maximum)
}

/// Has a runner give its command the limit from before.
pub(crate) fn tell(runner: &mut Command) {
    match BEFORE.get() {
        Some(Some(limit)) => runner.env(VARIABLE, limit.to_string()),
        _ => runner.env_remove(VARIABLE),
    };
}

/// In the runner: lowers the limit to what was told. The runner itself needs a dozen.
pub(crate) fn lower() {
    if let Some(limit) = std::env::var_os(VARIABLE).as_deref().and_then(parse) {
        let limits = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: Some(limit),
            ..limits
        };
        // Above the hard limit: somebody has set the variable by hand, or has lowered that.
        let _ = setrlimit(Resource::Nofile, lowered);
    }
}

/// Keeps this between daemon and runner.
pub(crate) fn forget(command: &mut Command) {
    command.env_remove(VARIABLE);
}

fn parse(text: &OsStr) -> Option<u64> {
    text.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn the_limit_is_raised_and_told_as_it_was() {
        let before = getrlimit(Resource::Nofile);
        assert_eq!(raise().unwrap(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
        assert_eq!(raise().unwrap(), before.maximum);
        let mut command = Command::new("true");
        tell(&mut command);
        let told: Vec<(&OsStr, Option<&OsStr>)> = command.get_envs().collect();
        let expected = before.current.filter(|_| before.current != before.maximum);
        let expected = expected.map(|limit| OsString::from(limit.to_string()));
        assert_eq!(told, [(OsStr::new(VARIABLE), expected.as_deref())]);
        forget(&mut command);
        assert_eq!(command.get_envs().collect::<Vec<_>>(), [(OsStr::new(VARIABLE), None)]);
    }
}
