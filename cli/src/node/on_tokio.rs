//! The node on tokio, all in one thread.

use receptor_tokio::{Config, End, Mesh, Options};
use tokio::runtime::Builder;

use super::EVENT_INTERVAL;
use crate::bell::Bell;

/// Runs a node to its end; calls `started` in between, and reloads whenever that is wanted. An error is a node that did not
/// start.
pub(super) fn run_node(
    config: Config,
    options: Options,
    wants_reload: Bell,
    started: impl FnOnce(),
) -> Result<End, String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    runtime.block_on(async {
        let mesh = Mesh::start(config, options).await.map_err(|error| error.to_string())?;
        started();
        let reloading = mesh.clone();
        tokio::spawn(async move {
            loop {
                wants_reload.rung().await;
                // The log has how it went.
                let _ = reloading.reload().await;
            }
        });
        Ok(mesh.closed().await)
    })
}
