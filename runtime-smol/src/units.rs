//! Tasks about units of work, carried out on threads for what blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use receptor_core::id::TaskId;
use receptor_core::workceptor::{UnitError, UnitId, UnitTask, UnitTaskResult};
use receptor_host::adapter::{Job, UnitJobs};
use receptor_host::runner::RunnerConnection;

use crate::arrivals::{Arrival, Arrivals};
use crate::task::spawn_blocking;

/// What carries out a task, and may have found a runner to follow; blocks.
pub(crate) type Worker = Arc<dyn Fn(&UnitId, UnitTask) -> (UnitTaskResult, Option<RunnerConnection>) + Send + Sync>;

/// The tasks under way.
pub(crate) struct Units {
    worker: Worker,
    arrivals: Arrivals,
    jobs: UnitJobs,
}

/// A job that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) task: TaskId,
    pub(crate) result: UnitTaskResult,
    pub(crate) unit: UnitId,
    /// To be followed once the result was told.
    pub(crate) runner: Option<RunnerConnection>,
    /// Whether the job was a change.
    change: bool,
}

impl Units {
    pub(crate) fn new(worker: Worker, arrivals: Arrivals) -> Self {
        Self {
            worker,
            arrivals,
            jobs: UnitJobs::default(),
        }
    }

    /// Takes a task on; its answer comes as [`Arrival::UnitDone`].
    pub(crate) fn submit(&mut self, task: TaskId, unit: UnitId, deed: UnitTask) {
        self.jobs.submit(task, unit, deed);
        self.start();
    }

    /// To be called with every finished job: starts the next.
    pub(crate) fn on_finished(&mut self, finished: &Finished) {
        self.jobs.finished(&finished.unit, finished.change);
        self.start();
    }

    fn start(&mut self) {
        while let Some(job) = self.jobs.next_job() {
            let (worker, arrivals) = (Arc::clone(&self.worker), self.arrivals.clone());
            drop(spawn_blocking(move || {
                // The driver is gone: nobody needs the answer.
                let _ = arrivals.blocking_send(Arrival::UnitDone(carry_out(&worker, job)));
            }));
        }
    }
}

fn carry_out(worker: &Worker, job: Job) -> Finished {
    let Job {
        task,
        unit,
        deed,
        change,
    } = job;
    let result = catch_unwind(AssertUnwindSafe(|| worker(&unit, deed)));
    let (result, runner) = result.unwrap_or_else(|_| {
        let text = format!("a task about unit {unit} died: this is a bug");
        (UnitTaskResult::Failed(UnitError::Io(text)), None)
    });
    Finished {
        task,
        result,
        unit,
        runner,
        change,
    }
}

impl std::fmt::Debug for Units {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Units").field(&self.jobs).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::sync::mpsc;
    use crate::testing::run;
    use bytes::Bytes;

    fn unit(name: &str) -> UnitId {
        UnitId::parse(name).unwrap()
    }

    fn write(offset: u64) -> UnitTask {
        UnitTask::WriteStdin {
            offset,
            data: Bytes::new(),
        }
    }

    async fn drive(
        units: &mut Units,
        done: &mut mpsc::Receiver<Arrival>,
        count: usize,
    ) -> Vec<(TaskId, UnitTaskResult)> {
        let mut all = Vec::new();
        while all.len() < count {
            let Some(Arrival::UnitDone(finished)) = done.recv().await else {
                panic!("no answer")
            };
            units.on_finished(&finished);
            all.push((finished.task, finished.result));
        }
        all
    }

    #[test]
    fn changes_of_a_unit_keep_their_order_and_each_is_answered_once() {
        run(async {
            let seen = Arc::new(Mutex::new(BTreeMap::<UnitId, Vec<u64>>::new()));
            let busy = Arc::new(Mutex::new(BTreeMap::<UnitId, usize>::new()));
            let worker: Worker = {
                let (seen, busy) = (Arc::clone(&seen), Arc::clone(&busy));
                Arc::new(move |unit, deed| {
                    let UnitTask::WriteStdin { offset, .. } = deed else {
                        panic!()
                    };
                    *busy.lock().unwrap().entry(unit.clone()).or_default() += 1;
                    std::thread::sleep(Duration::from_micros(200));
                    assert_eq!(busy.lock().unwrap()[unit], 1, "two changes of one unit at one time");
                    seen.lock().unwrap().entry(unit.clone()).or_default().push(offset);
                    *busy.lock().unwrap().get_mut(unit).unwrap() -= 1;
                    (UnitTaskResult::Done, None)
                })
            };
            let (arrivals, mut done) = mpsc::channel(4);
            let mut units = Units::new(worker, arrivals);
            let mut id = 0;
            for round in 0..10 {
                for name in 0..40 {
                    units.submit(TaskId(id), unit(&format!("u{name}")), write(round));
                    id += 1;
                }
            }
            let mut answered: Vec<u64> = drive(&mut units, &mut done, 400)
                .await
                .into_iter()
                .map(|(task, _)| task.0)
                .collect();
            answered.sort_unstable();
            assert_eq!(answered, (0..400).collect::<Vec<_>>());
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), 40);
            assert!(seen.values().all(|offsets| offsets.iter().copied().eq(0..10)));
        });
    }

    #[test]
    fn reads_do_not_wait_for_changes() {
        run(async {
            let (gate_in, gate) = std::sync::mpsc::channel::<()>();
            let gate = Mutex::new(gate);
            let worker: Worker = Arc::new(move |_, deed| {
                if !matches!(deed, UnitTask::ReadStdin { .. }) {
                    gate.lock().unwrap().recv().unwrap();
                }
                (UnitTaskResult::Done, None)
            });
            let (arrivals, mut done) = mpsc::channel(4);
            let mut units = Units::new(worker, arrivals);
            for number in 0..40 {
                units.submit(TaskId(number), unit(&format!("u{number}")), write(0));
            }
            units.submit(TaskId(99), unit("u0"), UnitTask::ReadStdin { offset: 0, max: 1 });
            assert_eq!(drive(&mut units, &mut done, 1).await[0].0, TaskId(99));
            (0..40).for_each(|_| gate_in.send(()).unwrap());
            drive(&mut units, &mut done, 40).await;
        });
    }

    #[test]
    fn a_panic_is_an_answer_too() {
        run(async {
            let worker: Worker = Arc::new(|_, _| panic!("out of luck"));
            let (arrivals, mut done) = mpsc::channel(4);
            let mut units = Units::new(worker, arrivals);
            units.submit(TaskId(1), unit("a"), write(0));
            units.submit(TaskId(2), unit("a"), write(1));
            for (_, result) in drive(&mut units, &mut done, 2).await {
                assert!(matches!(result, UnitTaskResult::Failed(UnitError::Io(text)) if text.contains("died")));
            }
        });
    }
}
