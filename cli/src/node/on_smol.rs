//! The node on the smol crates, all in one thread.

use async_executor::Executor;
use receptor_smol::{Config, End, Mesh, Options};

static EXECUTOR: Executor<'static> = Executor::new();

/// Runs a node to its end; calls `started` in between. An error is a node that did not start.
pub(super) fn run_node(config: Config, options: Options, started: impl FnOnce()) -> Result<End, String> {
    // This thread also waits for the sockets, so that a wake-up is no change of threads.
    async_io::block_on(EXECUTOR.run(async {
        let mesh = Mesh::start(config, options, |task| EXECUTOR.spawn(task).detach())
            .await
            .map_err(|error| error.to_string())?;
        started();
        Ok(mesh.closed().await)
    }))
}
