//! Simulated runners: processes that outlive their daemon, and the programs they know.
//!
//! `cat` copies its payload; `produce N` writes N bytes, 64 KiB each millisecond; `sleep MS` waits and writes nothing;
//! `fail CODE` exits with that code. Anything else is not found.

use receptor_core::id::TaskId;
use receptor_core::node::io::{Input, TaskResult};
use receptor_core::time::{Duration, Instant};
use receptor_core::workceptor::{Change, ExitStatus, ProcessIdentity, RunnerEvent, UnitId, UnitTaskResult};

use super::disk::checksum;
use super::{Happening, NodeIndex, World};

/// One runner and its child.
#[derive(Debug)]
pub(super) struct Runner {
    identity: ProcessIdentity,
    program: Program,
    canceled: bool,
}

#[derive(Debug)]
enum Program {
    NotFound(String),
    Cat,
    Produce { left: usize },
    Sleep { until: Instant },
    Fail { code: i32 },
}

/// Bytes that `produce` writes in one go.
const PIECE: usize = 64 << 10;

impl World {
    pub(super) fn spawn(&mut self, node: NodeIndex, task: TaskId, unit: &UnitId, program: &str, args: &[String]) {
        self.trace.note(self.now, node, "spawn", args.len());
        let number = |index: usize| args.get(index).and_then(|a| a.parse::<u64>().ok()).unwrap_or(0);
        let program = match program {
            "cat" => Program::Cat,
            "produce" => Program::Produce {
                left: number(0) as usize,
            },
            "sleep" => Program::Sleep {
                until: self.now + Duration::from_millis(number(0)),
            },
            "fail" => Program::Fail { code: number(0) as i32 },
            other => Program::NotFound(other.to_owned()),
        };
        let host = &mut self.hosts[node];
        host.spawned += 1;
        let pid = 1000 + host.spawned as u32;
        let identity = ProcessIdentity {
            boot_id: format!("boot-{}", host.boots),
            pid,
            start_time: self.now.as_nanos() / 10_000_000,
        };
        assert!(!host.runners.contains_key(unit), "two runners for unit {unit}");
        host.runners.insert(
            unit.clone(),
            Runner {
                identity,
                program,
                canceled: false,
            },
        );
        self.done(node, task, Duration::from_millis(1), UnitTaskResult::Spawned);
        self.tick_runner(node, unit, Duration::from_millis(2));
    }

    pub(super) fn attach(&mut self, node: NodeIndex, task: TaskId, unit: &UnitId, identity: &ProcessIdentity) {
        let host = &self.hosts[node];
        let alive = host
            .runners
            .get(unit)
            .is_some_and(|runner| runner.identity == *identity);
        let result = match host.disk.unit(unit) {
            Some(dir) => match dir.record.clone() {
                Some(record) => UnitTaskResult::Attached {
                    record,
                    stdout_size: dir.stdout.len() as u64,
                    alive,
                    same_boot: true,
                },
                None => UnitTaskResult::Failed(receptor_core::workceptor::UnitError::Missing),
            },
            None => UnitTaskResult::Failed(receptor_core::workceptor::UnitError::Missing),
        };
        self.done(node, task, Duration::from_millis(1), result);
    }

    pub(super) fn cancel_runner(&mut self, node: NodeIndex, task: TaskId, unit: &UnitId) {
        if let Some(runner) = self.hosts[node].runners.get_mut(unit) {
            runner.canceled = true;
            self.tick_runner(node, unit, Duration::from_millis(1));
        }
        self.done(node, task, Duration::from_millis(1), UnitTaskResult::Done);
    }

    fn done(&mut self, node: NodeIndex, task: TaskId, after: Duration, result: UnitTaskResult) {
        let result = TaskResult::Unit(result);
        self.schedule(self.now + after, node, Happening::Task { node, task, result });
    }

    /// Runners belong to no life of the daemon: their ticks are scheduled under a life that never ends.
    fn tick_runner(&mut self, node: NodeIndex, unit: &UnitId, after: Duration) {
        let event = RunnerEvent::Output(0);
        self.schedule(
            self.now + after,
            node,
            Happening::Runner {
                node,
                unit: unit.clone(),
                event,
            },
        );
    }

    /// Lets a runner take its next step; its word reaches the daemon only if one is there.
    pub(super) fn runner_event(&mut self, node: NodeIndex, _life: u64, unit: UnitId, _: RunnerEvent) {
        let now = self.now;
        let host = &mut self.hosts[node];
        let Some(mut runner) = host.runners.remove(&unit) else {
            return;
        };
        let mut events = Vec::new();
        if host.disk.unit(&unit).is_none() {
            return; // Released under it.
        }
        let record_is_fresh = host
            .disk
            .unit(&unit)
            .and_then(|d| d.record.as_ref())
            .is_some_and(|r| r.extra.command().is_some_and(|c| c.boot_id.is_empty()));
        if record_is_fresh {
            let up = Change::RunnerUp {
                identity: runner.identity.clone(),
            };
            if !host.runner_update(&unit, up, false) {
                return; // The daemon gave up on us: end without having started anything.
            }
            let started = match &runner.program {
                Program::NotFound(name) => {
                    let text = format!("exec: {name:?}: executable file not found in $PATH");
                    host.runner_update(&unit, Change::SpawnFailed { text }, true);
                    events.push(RunnerEvent::Finished(host.record(&unit)));
                    false
                }
                _ => {
                    host.runner_update(
                        &unit,
                        Change::Running {
                            pid: runner.identity.pid + 1,
                        },
                        false,
                    );
                    events.push(RunnerEvent::Running(host.record(&unit)));
                    true
                }
            };
            if !started {
                self.tell(node, &unit, events);
                return;
            }
        }
        let mut exit = None;
        let mut again = Duration::from_millis(1);
        if runner.canceled {
            exit = Some(ExitStatus {
                signal: Some(2),
                ..ExitStatus::default()
            });
        } else {
            match &mut runner.program {
                Program::NotFound(_) => {}
                Program::Cat => {
                    let stdin = host.disk.unit(&unit).map_or(Vec::new(), |d| d.stdin.clone());
                    events.push(RunnerEvent::Output(host.disk.write_output(&unit, &stdin)));
                    exit = Some(ExitStatus {
                        code: Some(0),
                        ..ExitStatus::default()
                    });
                }
                Program::Produce { left } => {
                    let size = PIECE.min(*left);
                    let start = host.disk.unit(&unit).map_or(0, |d| d.stdout.len());
                    let piece: Vec<u8> = (start..start + size).map(|i| (i % 251) as u8).collect();
                    events.push(RunnerEvent::Output(host.disk.write_output(&unit, &piece)));
                    *left -= size;
                    if *left == 0 {
                        exit = Some(ExitStatus {
                            code: Some(0),
                            ..ExitStatus::default()
                        });
                    }
                }
                Program::Sleep { until } => {
                    if *until <= now {
                        exit = Some(ExitStatus {
                            code: Some(0),
                            ..ExitStatus::default()
                        });
                    } else {
                        again = until.since(now);
                    }
                }
                Program::Fail { code } => {
                    exit = Some(ExitStatus {
                        code: Some(*code),
                        ..ExitStatus::default()
                    })
                }
            }
        }
        if let Some(status) = exit {
            let stdout = host.disk.unit(&unit).map_or(Vec::new(), |d| d.stdout.clone());
            let (stdout_size, checksum) = (stdout.len() as u64, checksum(&stdout));
            host.runner_update(
                &unit,
                Change::Exited {
                    status,
                    stdout_size,
                    checksum,
                    canceled: runner.canceled,
                },
                true,
            );
            events.push(RunnerEvent::Finished(host.record(&unit)));
        } else {
            host.runners.insert(unit.clone(), runner);
            self.tick_runner(node, &unit, again);
        }
        self.tell(node, &unit, events);
    }

    fn tell(&mut self, node: NodeIndex, unit: &UnitId, events: Vec<RunnerEvent>) {
        for event in events {
            if self.hosts[node].is_up() {
                self.trace.note(self.now, node, "runner", 0);
                self.input(node, Input::Runner(unit.clone(), event));
            }
        }
    }
}
