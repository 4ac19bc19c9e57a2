//! Running a node.

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::{Config, Host};
use crate::logging;
use crate::reload::Source;

/// Starts logging and runs a node by `node` until it ends, which gives the exit code.
///
/// A configuration without a backend ends at once, as it does in the classic node (`config.md` §5, step 6).
///
/// `args` are the arguments the configuration came from; they are read again by `reload`.
pub fn run(
    program: &str,
    args: Vec<String>,
    config: Config,
    node: impl FnOnce(Config, Option<Source>) -> ExitCode,
) -> ExitCode {
    let control = logging::start(config.log_level, config.trace);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.backends.is_empty() {
        tracing::warn!("Nothing to do - no backends are running.");
        let _ = writeln!(std::io::stdout(), "Run {program} --help for command line instructions.");
        return ExitCode::FAILURE;
    }
    let source = Source::new(args, Host::current(), &config, control);
    node(config, source)
}
