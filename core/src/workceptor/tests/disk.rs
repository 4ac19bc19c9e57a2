//! A disk that knows what is durable, and the runners whose units live on it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use highway::{HighwayHash as _, HighwayHasher, Key};

use super::super::*;

/// A unit's directory.
#[derive(Clone, Default, Debug)]
pub(super) struct Dir {
    pub(super) record: Vec<u8>,
    pub(super) stdin: Vec<u8>,
    pub(super) stdout: Vec<u8>,
}

/// What a fake command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The process exists and has said nothing.
    Forked,
    Up,
    Running,
}

/// A fake runner with its command.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) stage: Stage,
    pub(super) pid: u32,
    pub(super) written: usize,
    pub(super) cancelled: bool,
    /// A daemon listens.
    pub(super) attached: bool,
}

#[derive(Default, Debug)]
pub(super) struct Disk {
    pub(super) live: BTreeMap<UnitId, Dir>,
    pub(super) durable: BTreeMap<UnitId, Dir>,
    /// Tombstones, and how many of them are durable.
    pub(super) released: (Vec<Tombstone>, usize),
    pub(super) runners: BTreeMap<UnitId, Runner>,
    /// How often the command of a unit was really started.
    pub(super) runs: BTreeMap<UnitId, u32>,
    pub(super) full: bool,
    /// Barriers behind changes fail.
    pub(super) fail_syncs: bool,
    /// Damages every piece of output that is written while it is above zero.
    pub(super) damage: u32,
    pub(super) boot: u32,
    /// Barriers so far.
    pub(super) syncs: u32,
    next_pid: u32,
}

pub(super) fn checksum(data: &[u8]) -> u64 {
    HighwayHasher::new(Key([0; 4])).hash64(data)
}

fn write_at(file: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}

fn read_at(file: &[u8], offset: u64, max: usize) -> Bytes {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
    Bytes::copy_from_slice(&file[offset..(offset + max).min(file.len())])
}

impl Disk {
    pub(super) fn record(&self, id: &UnitId) -> Option<Record> {
        self.live.get(id).map(|dir| Record::parse(&dir.record).unwrap())
    }

    #[allow(clippy::result_large_err)] // as in the contract
    pub(super) fn apply(&mut self, id: &UnitId, change: &Change, sync: bool) -> Result<Record, UnitError> {
        let Some(dir) = self.live.get_mut(id) else {
            return Err(UnitError::Missing);
        };
        let mut record = Record::parse(&dir.record).unwrap();
        if record
            .apply_at(change, crate::time::Wall::from_secs(1_730_203_265))
            .is_err()
        {
            return Err(UnitError::Refused(record));
        }
        dir.record = record.to_json();
        if sync {
            self.syncs += 1;
            self.durable.insert(id.clone(), dir.clone());
        }
        Ok(record)
    }

    pub(super) fn perform(&mut self, id: &UnitId, task: UnitTask) -> UnitTaskResult {
        let no_space = || UnitTaskResult::Failed(UnitError::Io("no space left on device".into()));
        let grows = matches!(
            task,
            UnitTask::Create { .. }
                | UnitTask::WriteStdin { .. }
                | UnitTask::WriteOutput { .. }
                | UnitTask::Update { .. }
        );
        if self.full && grows {
            return no_space();
        }
        if self.fail_syncs && task == UnitTask::Sync {
            return UnitTaskResult::Failed(UnitError::Io("input/output error".into()));
        }
        if let UnitTask::Create { record, sync } = task {
            if self.live.contains_key(id) {
                return UnitTaskResult::Failed(UnitError::Exists);
            }
            let dir = Dir {
                record: record.to_json(),
                ..Dir::default()
            };
            self.live.insert(id.clone(), dir.clone());
            if sync {
                self.syncs += 1;
                self.durable.insert(id.clone(), dir);
            }
            return UnitTaskResult::Done;
        }
        if let UnitTask::Remove {
            tombstone: Some(tombstone),
        }
        | UnitTask::Bury { tombstone } = &task
        {
            self.released.0.push(tombstone.clone());
            if tombstone.owed.is_some() {
                self.released.1 = self.released.0.len();
            }
        }
        let Some(dir) = self.live.get_mut(id) else {
            return UnitTaskResult::Failed(UnitError::Missing);
        };
        match task {
            UnitTask::WriteStdin { offset, data } => write_at(&mut dir.stdin, offset, &data),
            UnitTask::DropStdin => dir.stdin.clear(),
            UnitTask::Sync => {
                self.syncs += 1;
                self.durable.insert(id.clone(), dir.clone());
            }
            UnitTask::WriteOutput { offset, data } => {
                let mut data = data.to_vec();
                if self.damage > 0 {
                    self.damage -= 1;
                    data[0] ^= 1;
                }
                write_at(&mut dir.stdout, offset, &data);
            }
            UnitTask::ReadStdin { offset, max } => return UnitTaskResult::Data(read_at(&dir.stdin, offset, max)),
            UnitTask::ReadOutput { offset, max } => return UnitTaskResult::Data(read_at(&dir.stdout, offset, max)),
            UnitTask::HashOutput { len } => {
                let len = usize::try_from(len).unwrap().min(dir.stdout.len());
                return UnitTaskResult::Hash {
                    checksum: checksum(&dir.stdout[..len]),
                    size: dir.stdout.len() as u64,
                };
            }
            UnitTask::Update { change, sync } => {
                return self
                    .apply(id, &change, sync)
                    .map_or_else(UnitTaskResult::Failed, UnitTaskResult::Record);
            }
            UnitTask::Spawn { program, .. } if program == "missing" => {
                return UnitTaskResult::Failed(UnitError::Io("cannot fork".into()));
            }
            UnitTask::Spawn { .. } => {
                assert!(!self.runners.contains_key(id), "a second runner");
                self.next_pid += 1;
                let pid = self.next_pid;
                let runner = Runner {
                    stage: Stage::Forked,
                    pid,
                    written: 0,
                    cancelled: false,
                    attached: true,
                };
                self.runners.insert(id.clone(), runner);
                return UnitTaskResult::Spawned;
            }
            UnitTask::Attach { runner: wanted } => {
                let wanted = wanted.identity;
                let runner = self.runners.get_mut(id).filter(|runner| runner.pid == wanted.pid);
                let alive = runner.map(|runner| runner.attached = true).is_some();
                let stdout_size = dir.stdout.len() as u64;
                return UnitTaskResult::Attached {
                    record: self.record(id).unwrap(),
                    stdout_size,
                    alive,
                    same_boot: wanted.boot_id == alloc::format!("boot{}", self.boot),
                };
            }
            UnitTask::Cancel => {
                if let Some(runner) = self.runners.get_mut(id) {
                    runner.cancelled = true;
                }
            }
            UnitTask::Remove { .. } => {
                self.live.remove(id);
                self.durable.remove(id);
            }
            UnitTask::Create { .. } | UnitTask::Bury { .. } => {}
        }
        UnitTaskResult::Done
    }

    /// One step of a runner, if it has one to make, and what it tells, if somebody listens.
    pub(super) fn step(&mut self, id: &UnitId, command: &Command) -> Option<Option<RunnerEvent>> {
        let runner = self.runners.get(id)?.clone();
        let event = match runner.stage {
            Stage::Forked => {
                let boot_id = alloc::format!("boot{}", self.boot);
                let identity = ProcessIdentity {
                    boot_id,
                    pid: runner.pid,
                    start_time: u64::from(runner.pid),
                };
                if self.apply(id, &Change::RunnerUp { identity }, false).is_ok() {
                    self.runners.get_mut(id)?.stage = Stage::Up;
                    return Some(None);
                }
                self.runners.remove(id);
                let record = self.record(id)?;
                Some(RunnerEvent::Lost { record, stdout_size: 0 })
            }
            Stage::Up if runner.cancelled => self.finish(id, true),
            Stage::Up => {
                *self.runs.entry(id.clone()).or_default() += 1;
                self.runners.get_mut(id)?.stage = Stage::Running;
                let record = self
                    .apply(id, &Change::Running { pid: runner.pid + 1000 }, false)
                    .ok()?;
                Some(RunnerEvent::Running(record))
            }
            Stage::Running if runner.cancelled => self.finish(id, true),
            Stage::Running => {
                let dir = self.live.get_mut(id)?;
                let all = command.output(&dir.stdin);
                let end = (runner.written + command.chunk).min(all.len());
                if end == runner.written {
                    if command.endless {
                        return None;
                    }
                    self.finish(id, false)
                } else {
                    write_at(&mut dir.stdout, runner.written as u64, &all[runner.written..end]);
                    self.runners.get_mut(id)?.written = end;
                    Some(RunnerEvent::Output(end as u64))
                }
            }
        };
        Some(event.filter(|_| runner.attached))
    }

    fn finish(&mut self, id: &UnitId, canceled: bool) -> Option<RunnerEvent> {
        self.runners.remove(id);
        let stdout = &self.live.get(id)?.stdout;
        let change = Change::Exited {
            status: ExitStatus {
                code: (!canceled).then_some(0),
                signal: canceled.then_some(2),
                core_dumped: false,
            },
            stdout_size: stdout.len() as u64,
            checksum: checksum(stdout),
            canceled,
        };
        self.apply(id, &change, true).ok().map(RunnerEvent::Finished)
    }

    /// The node's process dies; its runners live.
    pub(super) fn crash_process(&mut self) {
        for runner in self.runners.values_mut() {
            runner.attached = false;
        }
    }

    /// The machine dies: what was not durable is gone.
    pub(super) fn crash_machine(&mut self) {
        self.runners.clear();
        self.live = self.durable.clone();
        self.released.0.truncate(self.released.1);
        self.boot += 1;
    }

    pub(super) fn scan(&self) -> Stored {
        let stored = |(id, dir): (&UnitId, &Dir)| StoredUnit {
            id: id.clone(),
            record: Record::parse(&dir.record),
            stdin_size: dir.stdin.len() as u64,
            stdout_size: dir.stdout.len() as u64,
            runner: None,
        };
        Stored {
            units: self.live.iter().map(stored).collect(),
            released: self.released.0.clone(),
            boot_id: alloc::format!("boot{}", self.boot),
        }
    }
}

/// A fake command.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Its output is its stdin this many times over.
    pub(super) times: usize,
    /// Bytes of output per step.
    pub(super) chunk: usize,
    /// It does not end by itself.
    pub(super) endless: bool,
}

impl Command {
    pub(super) fn output(&self, stdin: &[u8]) -> Vec<u8> {
        stdin.repeat(self.times)
    }
}

pub(super) fn text(error: &str) -> String {
    error.into()
}
