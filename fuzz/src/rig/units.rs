//! Units on a disk in memory, and their runners.

use std::collections::BTreeMap;

use bytes::Bytes;
use receptor_core::workceptor::{
    Change, ExitStatus, ProcessIdentity, Record, RunnerEvent, UnitError, UnitId, UnitTask, UnitTaskResult,
};

/// Nothing in these tests makes a longer file.
const FILE_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
struct Directory {
    record: Record,
    stdin: Vec<u8>,
    stdout: Vec<u8>,
}

/// All units of a node.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<UnitId, Directory>);

impl Units {
    pub(super) fn run(&mut self, id: &UnitId, task: UnitTask) -> UnitTaskResult {
        match task {
            UnitTask::Create { .. } if self.0.contains_key(id) => UnitTaskResult::Failed(UnitError::Exists),
            UnitTask::Create { record, .. } => {
                let directory = Directory {
                    record,
                    ..Directory::default()
                };
                self.0.insert(id.clone(), directory);
                UnitTaskResult::Done
            }
            UnitTask::Remove { .. } => {
                self.0.remove(id);
                UnitTaskResult::Done
            }
            UnitTask::Bury { .. } => UnitTaskResult::Done,
            task => match self.0.get_mut(id) {
                Some(directory) => in_directory(directory, task),
                None => UnitTaskResult::Failed(UnitError::Missing),
            },
        }
    }

    /// What a broken disk says.
    pub(super) fn fail(&self, id: &UnitId, task: &UnitTask) -> UnitTaskResult {
        UnitTaskResult::Failed(match (task, self.0.get(id)) {
            (UnitTask::Update { .. }, Some(directory)) => UnitError::Refused(directory.record.clone()),
            (UnitTask::Create { .. }, _) => UnitError::Exists,
            _ => UnitError::Io(format!("{id}: input/output error")),
        })
    }

    /// Something that a runner may say; it goes through the record as a runner's word does.
    pub(super) fn runner(&mut self, choice: usize, what: usize) -> Option<(UnitId, RunnerEvent)> {
        let index = choice.checked_rem(self.0.len())?;
        let (id, directory) = self.0.iter_mut().nth(index)?;
        let Directory { record, stdout, .. } = directory;
        let mut change = |change| {
            // Refused if another was first.
            let _ = record.apply(&change);
            record.clone()
        };
        let event = match what {
            0 => {
                let identity = ProcessIdentity {
                    boot_id: "boot".into(),
                    pid: 7,
                    start_time: 7,
                };
                change(Change::RunnerUp { identity });
                RunnerEvent::Running(change(Change::Running { pid: 8 }))
            }
            1 => {
                if stdout.len() < FILE_MAX {
                    stdout.extend_from_slice(&[b'x'; 1000]);
                }
                RunnerEvent::Output(stdout.len() as u64)
            }
            2 => RunnerEvent::Finished(change(Change::Exited {
                status: ExitStatus {
                    code: Some(0),
                    ..ExitStatus::default()
                },
                stdout_size: stdout.len() as u64,
                checksum: 0,
                canceled: false,
            })),
            _ => RunnerEvent::Lost {
                record: change(Change::OutputSize(stdout.len() as u64)),
                stdout_size: stdout.len() as u64,
            },
        };
        Some((id.clone(), event))
    }
}

fn in_directory(directory: &mut Directory, task: UnitTask) -> UnitTaskResult {
    match task {
        UnitTask::WriteStdin { offset, data } => write_at(&mut directory.stdin, offset, &data),
        UnitTask::DropStdin => {
            directory.stdin.clear();
            UnitTaskResult::Done
        }
        UnitTask::WriteOutput { offset, data } => write_at(&mut directory.stdout, offset, &data),
        UnitTask::ReadStdin { offset, max } => read_at(&directory.stdin, offset, max),
        UnitTask::ReadOutput { offset, max } => read_at(&directory.stdout, offset, max),
        UnitTask::HashOutput { .. } => UnitTaskResult::Hash {
            checksum: 0,
            size: directory.stdout.len() as u64,
        },
        UnitTask::Update { change, .. } => match directory.record.apply(&change) {
            Ok(()) => UnitTaskResult::Record(directory.record.clone()),
            Err(_) => UnitTaskResult::Failed(UnitError::Refused(directory.record.clone())),
        },
        UnitTask::Spawn { .. } => UnitTaskResult::Spawned,
        UnitTask::Attach { .. } => UnitTaskResult::Attached {
            record: directory.record.clone(),
            stdout_size: directory.stdout.len() as u64,
            alive: false,
            same_boot: true,
        },
        UnitTask::Sync
        | UnitTask::Cancel
        | UnitTask::Create { .. }
        | UnitTask::Remove { .. }
        | UnitTask::Bury { .. } => UnitTaskResult::Done,
    }
}

fn write_at(file: &mut Vec<u8>, offset: u64, data: &[u8]) -> UnitTaskResult {
    let Some(end) = usize::try_from(offset)
        .ok()
        .and_then(|at| at.checked_add(data.len()))
        .filter(|&end| end <= FILE_MAX)
    else {
        return UnitTaskResult::Failed(UnitError::Io("no space left on device".into()));
    };
    file.resize(file.len().max(end), 0);
    file[end - data.len()..end].copy_from_slice(data);
    UnitTaskResult::Done
}

fn read_at(file: &[u8], offset: u64, max: usize) -> UnitTaskResult {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
    let end = start.saturating_add(max).min(file.len());
    UnitTaskResult::Data(Bytes::copy_from_slice(&file[start..end]))
}
