//! One node, run until it ends, on the runtime that is built in.

#[cfg(all(feature = "smol", not(feature = "tokio")))]
mod on_smol;
#[cfg(feature = "tokio")]
mod on_tokio;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use receptor_host::adapter::{End, Options, Tls};
use receptor_host::reap;
use receptor_host::runner::RunnerProgram;

#[cfg(all(feature = "smol", not(feature = "tokio")))]
use self::on_smol::run_node;
#[cfg(feature = "tokio")]
use self::on_tokio::run_node;
use crate::config::Config;
use crate::config::to_core::Machine;
use crate::expiry;
use crate::reload::Source;
use crate::tls_watch::TlsWatch;

#[cfg(not(any(feature = "tokio", feature = "smol")))]
compile_error!("choose a runtime: feature `tokio` (the default) or `smol`");

/// Tasks run between two looks at the sockets. A task of a busy stream moves up to 256 KiB in a turn, and a frame that came
/// meanwhile waits for all of these turns: with tokio's 61 a ping beside a stream at full speed took ten times as long, and
/// the stream was not faster for it.
const EVENT_INTERVAL: u32 = 4;

/// Runs the node. Signals end the process at once, as they do with the classic node; a node that has to make way for an
/// older one of its name ends with success, also as there (`differences-1.5.5.md` §1).
pub fn run(config: Config, mut source: Option<Source>) -> ExitCode {
    if reap::is_first_process() {
        // Orphans of units fall to us in a container; zombies would use up its process numbers.
        if let Err(error) = reap::reap_orphans() {
            tracing::warn!("orphaned processes will not be reaped: {error}");
        }
    }
    // Certificates are judged before anything is opened.
    let tls = match config.tls.load(&config.node.id) {
        Ok(configs) => configs,
        Err(error) => return fail(&error),
    };
    for warning in tls.warnings() {
        tracing::warn!("{warning}");
    }
    let mut options = Options::default();
    expiry::watch(&config.tls);
    options.tls = Arc::new(Tls::new(tls));
    options.data_dir = Some(config.node.data_dir.clone());
    options.runner = Some(RunnerProgram::default());
    // Lives as long as the node runs.
    let watch = TlsWatch::new(config.node.id.clone(), config.tls.clone(), Arc::clone(&options.tls)).map(Arc::new);
    match (&watch, &mut source) {
        (Ok(watch), Some(source)) => source.set_watch(Arc::clone(watch)),
        (Ok(_), None) => {}
        (Err(error), _) => tracing::warn!("changes of TLS files will not be noticed: {error}"),
    }
    options.config_source = source.map(|source| Arc::new(source) as _);
    let started = || tracing::info!("Initialization complete");
    match run_node(config.to_core(Machine::current()), options, started) {
        Ok(End::Duplicate) => {
            tracing::error!("duplicate node ID: an older node uses it in this mesh, so this one ends");
            ExitCode::SUCCESS
        }
        Ok(end) => fail(&end.to_string()),
        Err(error) => fail(&error),
    }
}

fn fail(error: &str) -> ExitCode {
    // To stdout, as all errors of the classic node. A reader that went away is nobody's failure.
    let _ = writeln!(std::io::stdout(), "Error: {error}");
    ExitCode::FAILURE
}
