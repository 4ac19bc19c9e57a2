//! Tasks about units of work: the store's, and starting runners and telling them to end their unit.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use receptor_core::workceptor::{UnitError, UnitId, UnitTask, UnitTaskResult};

use crate::error_text::os_text;
use crate::runner::{self, Attached, CANCEL, RunnerConnection, RunnerProgram};
use crate::{UnitDir, UnitStore};

/// Carries out tasks about units, on the caller's thread. Shared by all threads that do.
pub struct UnitWorker {
    store: Option<Arc<UnitStore>>,
    program: Option<RunnerProgram>,
    /// Runners that are followed: where to write.
    runners: Mutex<HashMap<UnitId, UnixStream>>,
}

impl UnitWorker {
    /// For units of `store`, run by `program`; without one of them the tasks that need it fail.
    pub fn new(store: Option<Arc<UnitStore>>, program: Option<RunnerProgram>) -> Self {
        Self {
            store,
            program,
            runners: Mutex::default(),
        }
    }

    /// Carries out one task. A connection to a runner is to be followed once the result was told.
    pub fn run(&self, unit: &UnitId, deed: UnitTask) -> (UnitTaskResult, Option<RunnerConnection>) {
        let Some(store) = &self.store else {
            return (failed("this node has no data directory"), None);
        };
        match deed {
            UnitTask::Spawn { program, args, limits } => {
                let Some(runner) = &self.program else {
                    return (failed("this node has no program to run units with"), None);
                };
                match runner::spawn_within(runner, &store.unit_dir(unit), &program, &args, limits) {
                    Ok(connection) => self.connected(unit, UnitTaskResult::Spawned, Some(connection)),
                    Err(error) => (UnitTaskResult::Failed(error), None),
                }
            }
            UnitTask::Attach { runner } => match runner::attach(&store.unit_dir(unit), &runner) {
                Ok(Attached {
                    record,
                    stdout_size,
                    connection,
                    same_boot,
                }) => {
                    let result = UnitTaskResult::Attached {
                        record,
                        stdout_size,
                        alive: connection.is_some(),
                        same_boot,
                    };
                    self.connected(unit, result, connection)
                }
                Err(error) => (UnitTaskResult::Failed(error), None),
            },
            UnitTask::Cancel => (self.cancel(unit, &store.unit_dir(unit)), None),
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

    fn cancel(&self, unit: &UnitId, dir: &UnitDir) -> UnitTaskResult {
        let stream = self.lock().get(unit).and_then(|stream| stream.try_clone().ok());
        let told = match stream {
            Some(mut stream) => stream.write_all(CANCEL).map_err(|error| os_text(&error)),
            None => Err("it is not connected".to_owned()),
        };
        match told {
            Ok(()) => UnitTaskResult::Done,
            // A signal to the runner means the same; it needs a record that names it.
            Err(_) if runner::interrupt(dir) => UnitTaskResult::Done,
            Err(text) => failed(&format!("the runner of unit {unit} could not be told: {text}")),
        }
    }

    /// The runner is not followed any more.
    pub fn forget(&self, unit: &UnitId) {
        self.lock().remove(unit);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UnitId, UnixStream>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner)
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
