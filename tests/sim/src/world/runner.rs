//! Simulated runners: processes that outlive their daemon, and the programs they know.
//!
//! `cat` copies its payload; `produce N` writes N bytes, 64 KiB each millisecond; `sleep MS` waits and writes nothing;
//! `fail CODE` exits with that code. Anything else is not found.

use receptor_core::id::TaskId;
use receptor_core::node::io::{Input, TaskResult};
use receptor_core::time::{Duration, Instant};
use receptor_core::workceptor::{
    Change, ExitStatus, FoundRunner, ProcessIdentity, RunnerEvent, RunnerKind, UnitId, UnitTaskResult,
};

use super::disk::checksum;
use super::observed::Observed;
use super::{Happening, NodeIndex, World};

/// One runner and its child.
#[derive(Debug)]
pub(super) struct Runner {
    identity: ProcessIdentity,
    program: Program,
    canceled: bool,
    /// The life of the daemon that is connected.
    heard_by: u64,
    args: Vec<String>,
}

#[derive(Debug)]
enum Program {
    NotFound(String),
    Cat,
    Produce { left: usize },
    Sleep { until: Instant },
    Fail { code: i32 },
}

fn boot_id(boots: u64) -> String {
    format!("boot-{boots}")
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
            boot_id: boot_id(host.boots),
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
                heard_by: host.life,
                args: args.to_vec(),
            },
        );
        self.done(node, task, Duration::from_millis(1), UnitTaskResult::Spawned);
        self.tick_runner(node, unit, Duration::from_millis(2));
    }

    pub(super) fn attach(&mut self, node: NodeIndex, task: TaskId, unit: &UnitId, identity: &ProcessIdentity) {
        let host = &mut self.hosts[node];
        let life = host.life;
        let runner = host.runners.get_mut(unit).filter(|runner| runner.identity == *identity);
        let alive = runner.is_some();
        if let Some(runner) = runner {
            runner.heard_by = life;
        }
        let same_boot = identity.boot_id.is_empty() || identity.boot_id == boot_id(host.boots);
        let result = match host.disk.unit(unit) {
            Some(dir) => match dir.record.clone() {
                Some(record) => UnitTaskResult::Attached {
                    record,
                    stdout_size: dir.stdout.len() as u64,
                    alive,
                    same_boot,
                },
                None => UnitTaskResult::Failed(receptor_core::workceptor::UnitError::Missing),
            },
            None => UnitTaskResult::Failed(receptor_core::workceptor::UnitError::Missing),
        };
        self.input(node, Input::Done(task, TaskResult::Unit(result)));
    }

    /// Which process runs a unit, as the table of processes shows it.
    pub(super) fn running(host: &super::Host, unit: &UnitId) -> Option<FoundRunner> {
        let runner = host.runners.get(unit)?;
        Some(FoundRunner {
            identity: runner.identity.clone(),
            kind: RunnerKind::Ours,
        })
    }

    /// Kills a runner, with its child, before it can say a word. `false` if none runs.
    pub fn kill_runner(&mut self, node: NodeIndex, which: u64) -> bool {
        let host = &mut self.hosts[node];
        if host.runners.is_empty() {
            return false;
        }
        let which = which as usize % host.runners.len();
        let Some(unit) = host.runners.keys().nth(which).cloned() else {
            return false;
        };
        let Some(runner) = host.runners.remove(&unit) else {
            return false;
        };
        self.trace.line(self.now, node, format_args!("runner of {unit} killed"));
        if let Some(dir) = self.hosts[node].disk.unit(&unit)
            && let Some(record) = dir.record.clone()
        {
            let stdout_size = dir.stdout.len() as u64;
            self.tell(
                node,
                &unit,
                runner.heard_by,
                vec![RunnerEvent::Lost { record, stdout_size }],
            );
        }
        true
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
        let pid = self.hosts[node]
            .runners
            .get(unit)
            .map_or(0, |runner| runner.identity.pid);
        let unit = unit.clone();
        self.schedule(self.now + after, node, Happening::Runner { node, unit, pid });
    }

    /// Lets a runner take its next step; its word reaches the daemon only if one is there.
    pub(super) fn runner_event(&mut self, node: NodeIndex, unit: UnitId, pid: u32) {
        let now = self.now;
        let host = &mut self.hosts[node];
        if host.runners.get(&unit).is_none_or(|runner| runner.identity.pid != pid) {
            return; // Of one that is gone.
        }
        let Some(mut runner) = host.runners.remove(&unit) else {
            return;
        };
        let heard_by = runner.heard_by;
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
            if !self.runner_update(node, &unit, up, false) {
                return; // The daemon gave up on us: end without having started anything.
            }
            let started = match &runner.program {
                Program::NotFound(name) => {
                    let text = format!("exec: {name:?}: executable file not found in $PATH");
                    self.runner_update(node, &unit, Change::SpawnFailed { text }, true);
                    events.push(RunnerEvent::Finished(self.hosts[node].record(&unit)));
                    false
                }
                _ => {
                    self.runner_update(
                        node,
                        &unit,
                        Change::Running {
                            pid: runner.identity.pid + 1,
                        },
                        false,
                    );
                    self.observe(|| Observed::Spawned {
                        node,
                        unit: unit.clone(),
                        args: runner.args.clone(),
                    });
                    events.push(RunnerEvent::Running(self.hosts[node].record(&unit)));
                    true
                }
            };
            if !started {
                self.tell(node, &unit, heard_by, events);
                return;
            }
        }
        let host = &mut self.hosts[node];
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
            let stdout = host.disk.unit(&unit).map_or(&[][..], |d| &d.stdout);
            let (stdout_size, checksum) = (stdout.len() as u64, checksum(stdout));
            self.runner_update(
                node,
                &unit,
                Change::Exited {
                    status,
                    stdout_size,
                    checksum,
                    canceled: runner.canceled,
                },
                true,
            );
            events.push(RunnerEvent::Finished(self.hosts[node].record(&unit)));
        } else {
            host.runners.insert(unit.clone(), runner);
            self.tick_runner(node, &unit, again);
        }
        self.tell(node, &unit, heard_by, events);
    }

    /// A word of a runner reaches the daemon that is connected to it, and no other.
    fn tell(&mut self, node: NodeIndex, unit: &UnitId, heard_by: u64, events: Vec<RunnerEvent>) {
        let host = &self.hosts[node];
        if !host.is_up() || host.life != heard_by {
            return;
        }
        for event in events {
            let unit = unit.clone();
            self.schedule(self.now, node, Happening::RunnerSays { node, unit, event });
        }
    }

    pub(super) fn runner_says(&mut self, node: NodeIndex, unit: UnitId, event: RunnerEvent) {
        self.trace
            .line(self.now, node, format_args!("runner {unit} {}", named(&event)));
        self.input(node, Input::Runner(unit, event));
    }
}

fn named(event: &RunnerEvent) -> String {
    match event {
        RunnerEvent::Running(_) => "runs".into(),
        RunnerEvent::Output(size) => format!("wrote {size}"),
        RunnerEvent::Finished(record) => format!("finished {}", record.state.number()),
        RunnerEvent::Lost { stdout_size, .. } => format!("lost {stdout_size}"),
    }
}
