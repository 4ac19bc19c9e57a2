//! One node, run on tokio until it ends.

use std::io::Write as _;
use std::process::ExitCode;

use receptor_host::reap;
use receptor_tokio::{End, Mesh, Options, RunnerProgram};

use crate::config::Config;
use crate::config::to_core::Machine;
use crate::logging::LevelControl;

/// Runs the node. Signals end the process at once, as they do with the classic node; a node that has to make way for an
/// older one of its name ends with success, also as there (`differences-1.5.5.md` §1).
pub fn run(config: Config, _level: LevelControl) -> ExitCode {
    if reap::is_first_process() {
        // Orphans of units fall to us in a container; zombies would use up its process numbers.
        if let Err(error) = reap::reap_orphans() {
            tracing::warn!("orphaned processes will not be reaped: {error}");
        }
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let end = runtime.block_on(async {
        let mut options = Options::default();
        options.data_dir = Some(config.node.data_dir.clone());
        options.runner = Some(RunnerProgram::default());
        let mesh = Mesh::start(config.to_core(Machine::current()), options).await?;
        tracing::info!("Initialization complete");
        Ok::<End, receptor_tokio::StartError>(mesh.closed().await)
    });
    match end {
        Ok(End::Duplicate) => {
            tracing::error!("duplicate node ID: an older node uses it in this mesh, so this one ends");
            ExitCode::SUCCESS
        }
        Ok(end) => fail(&end.to_string()),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    // To stdout, as all errors of the classic node. A reader that went away is nobody's failure.
    let _ = writeln!(std::io::stdout(), "Error: {error}");
    ExitCode::FAILURE
}
