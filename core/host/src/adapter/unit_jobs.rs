//! Tasks about units of work, as jobs for blocking threads.
//!
//! Tasks that change one unit run one after another in their order; units run side by side, and so do the reads. Both
//! kinds are bounded apart from each other, so that a read never waits behind a row of syncs.

use std::collections::{HashMap, VecDeque};

use receptor_core::id::TaskId;
use receptor_core::workceptor::{UnitId, UnitTask};

/// Units changed at one time.
const CHANGES: usize = 16;

/// Reads at one time.
const READS: usize = 8;

/// Queues of tasks. Their number is bounded by the node, which waits for every answer.
#[derive(Default)]
pub struct UnitJobs {
    /// A unit with a queue has a task running or stands in `ready`.
    changes: HashMap<UnitId, VecDeque<(TaskId, UnitTask)>>,
    /// Units whose next change waits for a thread.
    ready: VecDeque<UnitId>,
    changing: usize,
    reads: VecDeque<(TaskId, UnitId, UnitTask)>,
    reading: usize,
}

/// A task to be carried out now.
#[derive(Debug)]
pub struct Job {
    /// The task.
    pub task: TaskId,
    /// The unit it is about.
    pub unit: UnitId,
    /// What to do.
    pub deed: UnitTask,
    /// Whether it may change the unit.
    pub change: bool,
}

impl UnitJobs {
    /// Takes a task on.
    pub fn submit(&mut self, task: TaskId, unit: UnitId, deed: UnitTask) {
        if is_read(&deed) {
            self.reads.push_back((task, unit, deed));
        } else {
            let queue = self.changes.entry(unit.clone()).or_insert_with(|| {
                self.ready.push_back(unit);
                VecDeque::new()
            });
            queue.push_back((task, deed));
        }
    }

    /// The next job to start; to be called until there is none, after each of the other two.
    pub fn next_job(&mut self) -> Option<Job> {
        if self.reading < READS
            && let Some((task, unit, deed)) = self.reads.pop_front()
        {
            self.reading += 1;
            return Some(Job {
                task,
                unit,
                deed,
                change: false,
            });
        }
        while self.changing < CHANGES
            && let Some(unit) = self.ready.pop_front()
        {
            let Some((task, deed)) = self.changes.get_mut(&unit).and_then(VecDeque::pop_front) else {
                continue;
            };
            self.changing += 1;
            return Some(Job {
                task,
                unit,
                deed,
                change: true,
            });
        }
        None
    }

    /// A job of this unit has ended.
    pub fn finished(&mut self, unit: &UnitId, change: bool) {
        if change {
            self.changing -= 1;
            match self.changes.get(unit) {
                Some(queue) if !queue.is_empty() => self.ready.push_back(unit.clone()),
                _ => drop(self.changes.remove(unit)),
            }
        } else {
            self.reading -= 1;
        }
    }
}

fn is_read(deed: &UnitTask) -> bool {
    matches!(
        deed,
        UnitTask::ReadStdin { .. } | UnitTask::ReadOutput { .. } | UnitTask::HashOutput { .. }
    )
}

impl std::fmt::Debug for UnitJobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnitJobs")
            .field("changing", &self.changing)
            .field("units_waiting", &self.ready.len())
            .field("reading", &self.reading)
            .field("reads_waiting", &self.reads.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(name: &str) -> UnitId {
        UnitId::parse(name).unwrap()
    }

    fn write() -> UnitTask {
        UnitTask::WriteStdin {
            offset: 0,
            data: Bytes::new(),
        }
    }

    fn started(jobs: &mut UnitJobs) -> Vec<Job> {
        std::iter::from_fn(|| jobs.next_job()).collect()
    }

    #[test]
    fn changes_of_a_unit_go_one_by_one_in_order_and_units_take_turns() {
        let mut jobs = UnitJobs::default();
        for id in 0..100 {
            jobs.submit(TaskId(id), unit(&format!("u{}", id % 25)), write());
        }
        let mut running = started(&mut jobs);
        assert_eq!(running.len(), CHANGES);
        let mut order = Vec::new();
        while let Some(job) = running.pop() {
            assert!(job.change && running.iter().all(|other| other.unit != job.unit));
            order.push((job.unit.clone(), job.task));
            jobs.finished(&job.unit, job.change);
            running.extend(started(&mut jobs));
        }
        assert_eq!(order.len(), 100);
        order.sort_by_key(|(unit, _)| unit.clone());
        assert!(order.windows(2).all(|two| two[0].0 != two[1].0 || two[0].1 < two[1].1));
        assert!(jobs.changes.is_empty() && jobs.ready.is_empty() && jobs.changing == 0);
    }

    #[test]
    fn reads_do_not_wait_for_changes() {
        let mut jobs = UnitJobs::default();
        for id in 0..40 {
            jobs.submit(TaskId(id), unit(&format!("u{id}")), write());
        }
        assert_eq!(started(&mut jobs).len(), CHANGES);
        for id in 40..60 {
            jobs.submit(TaskId(id), unit("u0"), UnitTask::ReadStdin { offset: 0, max: 1 });
        }
        let reads = started(&mut jobs);
        assert_eq!(reads.len(), READS);
        assert!(reads.iter().all(|job| !job.change));
        jobs.finished(&reads[0].unit, false);
        assert_eq!(started(&mut jobs)[0].task, TaskId(48));
    }
}
