//! The node on the smol crates, all in one thread.

use async_executor::Executor;
use futures_lite::future;
use receptor_smol::{Config, End, Mesh, Options};

use super::EVENT_INTERVAL;
use crate::bell::Bell;

static EXECUTOR: Executor<'static> = Executor::new();

/// Runs a node to its end; calls `started` in between, and reloads whenever that is wanted. An error is a node that did not
/// start.
pub(super) fn run_node(
    config: Config,
    options: Options,
    wants_reload: Bell,
    started: impl FnOnce(),
) -> Result<End, String> {
    let node = async {
        let mesh = Mesh::start(config, options, |task| EXECUTOR.spawn(task).detach())
            .await
            .map_err(|error| error.to_string())?;
        started();
        let reloading = mesh.clone();
        let reloads = EXECUTOR.spawn(async move {
            loop {
                wants_reload.rung().await;
                // The log has how it went.
                let _ = reloading.reload().await;
            }
        });
        reloads.detach();
        Ok(mesh.closed().await)
    };
    // This thread also waits for the sockets, so that a wake-up is no change of threads.
    async_io::block_on(future::or(node, run_tasks()))
}

/// What `Executor::run` does, which looks at the sockets after 200 tasks only.
async fn run_tasks<T>() -> T {
    loop {
        for _ in 0..EVENT_INTERVAL {
            EXECUTOR.tick().await;
        }
        future::yield_now().await;
    }
}
