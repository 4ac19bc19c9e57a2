//! One node, run until it ends, on the runtime that is built in.

#[cfg(all(feature = "smol", not(feature = "tokio")))]
mod on_smol;
#[cfg(feature = "tokio")]
mod on_tokio;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use receptor_host::adapter::{End, Options, Tls};
use receptor_host::error_text::os_text;
use receptor_host::file_watch::FileWatch;
use receptor_host::runner::RunnerProgram;
use receptor_host::{open_files, reap};

#[cfg(all(feature = "smol", not(feature = "tokio")))]
use self::on_smol::run_node;
#[cfg(feature = "tokio")]
use self::on_tokio::run_node;
use crate::bell::Bell;
use crate::config::Config;
use crate::config::to_core::Machine;
use crate::expiry::ExpiryWatch;
use crate::reload::Source;
use crate::tls_watch::TlsWatch;

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
    // Every link, client and stream of a service is a file.
    if let Err(error) = open_files::raise() {
        tracing::warn!("the limit of open files cannot be raised: {error}");
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
    let expiry = Arc::new(ExpiryWatch::new(&config.tls));
    options.tls = Arc::new(Tls::new(tls));
    options.data_dir = Some(config.node.data_dir.clone());
    options.runner = Some(RunnerProgram::default());
    // Lives as long as the node runs.
    let watch = TlsWatch::new(
        config.node.id.clone(),
        config.tls.clone(),
        Arc::clone(&options.tls),
        Arc::clone(&expiry),
    );
    let watch = watch.map(Arc::new);
    match (&watch, &mut source) {
        (Ok(watch), Some(source)) => source.set_watch(Arc::clone(watch)),
        (Ok(_), None) => {}
        (Err(error), _) => tracing::warn!("changes of TLS files will not be noticed: {error}"),
    }
    let wants_reload = Bell::default();
    let mut file_watch = None;
    if let Some(source) = &mut source {
        source.set_expiry(expiry);
        file_watch = source.watched_file().and_then(|file| watch_file(file, &wants_reload));
    }
    options.config_source = source.map(|source| Arc::new(source) as _);
    let started = || tracing::info!("Initialization complete");
    let ended = run_node(config.to_core(Machine::current()), options, wants_reload, started);
    drop(file_watch);
    match ended {
        Ok(End::Duplicate) => {
            tracing::error!("duplicate node ID: an older node uses it in this mesh, so this one ends");
            ExitCode::SUCCESS
        }
        Ok(end) => fail(&end.to_string()),
        Err(error) => fail(&error),
    }
}

/// Asks for a reload whenever the file has changed.
fn watch_file(file: &Path, wants_reload: &Bell) -> Option<FileWatch> {
    let bell = wants_reload.clone();
    let watch = FileWatch::new(move || bell.ring());
    let failed = |why: &str| tracing::warn!("changes of {} will not be noticed: {why}", file.display());
    match watch {
        Ok(watch) if watch.set([file]).is_empty() => Some(watch),
        Ok(_) => {
            failed("its directory cannot be watched");
            None
        }
        Err(error) => {
            failed(&os_text(&error));
            None
        }
    }
}

fn fail(error: &str) -> ExitCode {
    // To stdout, as all errors of the classic node. A reader that went away is nobody's failure.
    let _ = writeln!(std::io::stdout(), "Error: {error}");
    ExitCode::FAILURE
}
