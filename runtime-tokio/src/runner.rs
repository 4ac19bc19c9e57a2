//! Runners of units: starting them, following what they say, telling them to end their unit.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use receptor_core::workceptor::{RunnerEvent, UnitError, UnitId, UnitTask, UnitTaskResult};
use receptor_host::UnitStore;
use receptor_host::error_text::os_text;
use receptor_host::runner::{self, CANCEL, Notice, RunnerConnection, RunnerProgram, RunnerWatch};
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
        let result = match deed {
            UnitTask::Spawn { program, args } => self.spawn(store, unit, &program, &args),
            UnitTask::Attach { identity } => runner::attach(&store.unit_dir(unit), &identity).map(|found| {
                let alive = found.connection.is_some();
                let result = UnitTaskResult::Attached {
                    record: found.record,
                    stdout_size: found.stdout_size,
                    alive,
                };
                (result, found.connection)
            }),
            UnitTask::Cancel => Ok((self.cancel(unit), None)),
            deed => Ok((store.run(unit, deed), None)),
        };
        let connected = result.and_then(|(result, connection)| {
            connection
                .as_ref()
                .map_or(Ok(()), |connection| self.remember(unit, connection))?;
            Ok((result, connection))
        });
        connected.unwrap_or_else(|error| (UnitTaskResult::Failed(error), None))
    }

    fn spawn(
        &self,
        store: &UnitStore,
        unit: &UnitId,
        program: &str,
        args: &[String],
    ) -> Result<(UnitTaskResult, Option<RunnerConnection>), UnitError> {
        let Some(runner) = &self.program else {
            return Err(UnitError::Io("this node has no program to run units with".to_owned()));
        };
        let connection = runner::spawn(runner, &store.unit_dir(unit), program, args)?;
        Ok((UnitTaskResult::Spawned, Some(connection)))
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

    fn remember(&self, unit: &UnitId, connection: &RunnerConnection) -> Result<(), UnitError> {
        let io = |error: std::io::Error| UnitError::Io(format!("connection to a runner: {}", os_text(&error)));
        let stream = connection.stream.try_clone().map_err(io)?;
        stream.set_nonblocking(true).map_err(io)?;
        self.lock().insert(unit.clone(), stream);
        Ok(())
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
