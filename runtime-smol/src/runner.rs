//! Runners of units: following what they say.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use async_io::Async;
use futures_lite::io::AsyncReadExt as _;
use receptor_core::workceptor::{RunnerEvent, UnitId};
use receptor_host::adapter::UnitWorker;
use receptor_host::error_text::os_text;
use receptor_host::runner::{Notice, RunnerConnection, RunnerWatch};

use crate::arrivals::{Arrival, Arrivals};
use crate::task::spawn_blocking;

/// Passes on what a runner says, until it has ended.
pub(crate) async fn follow(worker: Arc<UnitWorker>, unit: UnitId, connection: RunnerConnection, arrivals: Arrivals) {
    let RunnerConnection { stream, mut watch } = connection;
    match Async::new(stream) {
        Ok(stream) => watch = read_notices(stream, watch, &unit, &arrivals).await,
        Err(error) => tracing::error!("a runner cannot be followed: {}", os_text(&error)),
    }
    worker.forget(&unit);
    let last = spawn_blocking(move || watch.ended()).await;
    if let Ok(Some(event)) = last {
        // The driver is gone: the next daemon will find the record.
        let _ = arrivals.send(Arrival::Runner(unit, event)).await;
    }
}

/// Reads to the end of the stream.
async fn read_notices(
    mut stream: Async<UnixStream>,
    mut watch: RunnerWatch,
    unit: &UnitId,
    arrivals: &Arrivals,
) -> RunnerWatch {
    let mut bytes = [0; 4096];
    loop {
        let count = match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return watch,
            Ok(count) => count,
        };
        for notice in watch.received(&bytes[..count]) {
            let event = match notice {
                Notice::Output(size) => Some(RunnerEvent::Output(size)),
                // Reads the record.
                notice => {
                    let read = spawn_blocking(move || {
                        let event = watch.event(notice);
                        (watch, event)
                    });
                    let event;
                    (watch, event) = match read.await {
                        Ok(read) => read,
                        // Dies of the same cause; the driver logs it.
                        Err(panic) => std::panic::resume_unwind(panic),
                    };
                    event
                }
            };
            if let Some(event) = event
                && arrivals.send(Arrival::Runner(unit.clone(), event)).await.is_err()
            {
                return watch;
            }
        }
    }
}
