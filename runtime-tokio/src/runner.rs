//! Runners of units: starting them, following what they say, telling them to end their unit.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use receptor_core::workceptor::{RunnerEvent, UnitError, UnitId, UnitTask, UnitTaskResult};
use receptor_host::UnitStore;
use receptor_host::error_text::os_text;
use receptor_host::runner::{self, Attached, CANCEL, Notice, RunnerConnection, RunnerProgram, RunnerWatch};
use tokio::io::AsyncReadExt as _;

use crate::arrivals::{Arrival, Arrivals};

/// Carries out tasks about units, on the caller's thread. Shared by all threads that do.
pub(crate) struct UnitWorker {
    store: Option<Arc<UnitStore>>,
    program: Option<RunnerProgram>,
    /// Runners that are followed: where to write.
    runners: Mutex<HashMap<UnitId, UnixStream>>,
}

impl UnitWorker {
    pub(crate) fn new(store: Option<Arc<UnitStore>>, program: Option<RunnerProgram>) -> Self {
        Self {
            store,
            program,
            runners: Mutex::default(),
        }
    }

    /// Carries out one task. A connection to a runner is to be followed once the result was told.
    pub(crate) fn run(&self, unit: &UnitId, deed: UnitTask) -> (UnitTaskResult, Option<RunnerConnection>) {
        let Some(store) = &self.store else {
            return (failed("this node has no data directory"), None);
        };
        match deed {
            UnitTask::Spawn { program, args } => {
                let Some(runner) = &self.program else {
                    return (failed("this node has no program to run units with"), None);
                };
                match runner::spawn(runner, &store.unit_dir(unit), &program, &args) {
                    Ok(connection) => self.connected(unit, UnitTaskResult::Spawned, Some(connection)),
                    Err(error) => (UnitTaskResult::Failed(error), None),
                }
            }
            UnitTask::Attach { identity } => match runner::attach(&store.unit_dir(unit), &identity) {
                Ok(Attached {
                    record,
                    stdout_size,
                    connection,
                }) => {
                    let result = UnitTaskResult::Attached {
                        record,
                        stdout_size,
                        alive: connection.is_some(),
                    };
                    self.connected(unit, result, connection)
                }
                Err(error) => (UnitTaskResult::Failed(error), None),
            },
            UnitTask::Cancel => (self.cancel(unit), None),
            deed => (store.run(unit, deed), None),
        }
    }

    /// Keeps a handle to write to a runner that will be followed.
    fn connected(
        &self,
        unit: &UnitId,
        result: UnitTaskResult,
        connection: Option<RunnerConnection>,
    ) -> (UnitTaskResult, Option<RunnerConnection>) {
        let Some(connection) = connection else {
            return (result, None);
        };
        // The runner itself is there and will be followed; it only cannot be told to cancel.
        match connection
            .stream
            .set_nonblocking(true)
            .and_then(|()| connection.stream.try_clone())
        {
            Ok(stream) => drop(self.lock().insert(unit.clone(), stream)),
            Err(error) => tracing::error!("connection to the runner of unit {unit}: {}", os_text(&error)),
        }
        (result, Some(connection))
    }

    fn cancel(&self, unit: &UnitId) -> UnitTaskResult {
        let Some(mut stream) = self.lock().get(unit).and_then(|stream| stream.try_clone().ok()) else {
            return failed(&format!("no runner of unit {unit} is connected"));
        };
        match stream.write_all(CANCEL) {
            Ok(()) => UnitTaskResult::Done,
            Err(error) => failed(&format!(
                "the runner of unit {unit} could not be told: {}",
                os_text(&error)
            )),
        }
    }

    /// Passes on what a runner says, until it has ended.
    pub(crate) async fn follow(self: Arc<Self>, unit: UnitId, connection: RunnerConnection, arrivals: Arrivals) {
        let RunnerConnection { stream, mut watch } = connection;
        match tokio::net::UnixStream::from_std(stream) {
            Ok(stream) => watch = read_notices(stream, watch, &unit, &arrivals).await,
            Err(error) => tracing::error!("a runner cannot be followed: {}", os_text(&error)),
        }
        self.lock().remove(&unit);
        let last = tokio::task::spawn_blocking(move || watch.ended()).await;
        if let Ok(Some(event)) = last {
            // The driver is gone: the next daemon will find the record.
            let _ = arrivals.send(Arrival::Runner(unit, event)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UnitId, UnixStream>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end of the stream.
async fn read_notices(
    mut stream: tokio::net::UnixStream,
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
                    let read = tokio::task::spawn_blocking(move || {
                        let event = watch.event(notice);
                        (watch, event)
                    });
                    let event;
                    (watch, event) = match read.await {
                        Ok(read) => read,
                        // Dies of the same cause; the driver logs it.
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
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

fn failed(text: &str) -> UnitTaskResult {
    UnitTaskResult::Failed(UnitError::Io(text.to_owned()))
}

impl std::fmt::Debug for UnitWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnitWorker")
            .field("runners", &self.lock().len())
            .finish_non_exhaustive()
    }
}
