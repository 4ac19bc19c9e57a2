//! A disk that knows what would survive a power cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::workceptor::{Record, Stored, StoredUnit, Tombstone, UnitError, UnitId, UnitTask, UnitTaskResult};

/// One unit's directory.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// The record.
    pub record: Option<Record>,
    /// The payload.
    pub stdin: Vec<u8>,
    /// The output.
    pub stdout: Vec<u8>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    current: BTreeMap<UnitId, Directory>,
    durable: BTreeMap<UnitId, Directory>,
    released: Vec<Tombstone>,
    /// The stored epoch.
    pub epoch: Option<u64>,
    /// Every write fails while set.
    pub full: bool,
}

impl Disk {
    /// What is in a unit's directory.
    pub fn unit(&self, id: &UnitId) -> Option<&Directory> {
        self.current.get(id)
    }

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = (&UnitId, &Directory)> {
        self.current.iter()
    }

    /// Forgets what was not synced.
    pub(super) fn lose_power(&mut self) {
        self.current = self.durable.clone();
    }

    pub(super) fn scan(&self) -> Stored {
        let stored = |(id, dir): (&UnitId, &Directory)| StoredUnit {
            id: id.clone(),
            record: dir
                .record
                .clone()
                .ok_or_else(|| "status: no such file or directory".to_owned()),
            stdin_size: dir.stdin.len() as u64,
            stdout_size: dir.stdout.len() as u64,
            runner: None,
        };
        Stored {
            units: self.current.iter().map(stored).collect(),
            released: self.released.clone(),
        }
    }

    fn sync(&mut self, id: &UnitId) {
        match self.current.get(id) {
            Some(dir) => self.durable.insert(id.clone(), dir.clone()),
            None => self.durable.remove(id),
        };
    }

    pub(super) fn write_output(&mut self, id: &UnitId, data: &[u8]) -> u64 {
        let dir = self.current.entry(id.clone()).or_default();
        dir.stdout.extend_from_slice(data);
        dir.stdout.len() as u64
    }

    /// Carries out a task about files; the runner's tasks are not for a disk.
    pub(super) fn run(&mut self, id: &UnitId, task: UnitTask) -> UnitTaskResult {
        let writes = matches!(
            task,
            UnitTask::Create { .. }
                | UnitTask::WriteStdin { .. }
                | UnitTask::Update { .. }
                | UnitTask::WriteOutput { .. }
        );
        if writes && self.full {
            return UnitTaskResult::Failed(UnitError::Io(format!("write {id}: no space left on device")));
        }
        match task {
            UnitTask::Create { record, sync } => {
                if self.current.contains_key(id) {
                    return UnitTaskResult::Failed(UnitError::Exists);
                }
                self.current.insert(
                    id.clone(),
                    Directory {
                        record: Some(record),
                        ..Directory::default()
                    },
                );
                if sync {
                    self.sync(id);
                }
                UnitTaskResult::Done
            }
            UnitTask::Remove { tombstone } => {
                self.released.extend(tombstone);
                self.current.remove(id);
                self.sync(id);
                UnitTaskResult::Done
            }
            UnitTask::Bury { tombstone } => {
                self.released.push(tombstone);
                UnitTaskResult::Done
            }
            task => match self.current.get_mut(id) {
                Some(dir) => {
                    let synced = matches!(task, UnitTask::Update { sync: true, .. } | UnitTask::Sync);
                    let result = in_directory(dir, task);
                    if synced {
                        self.sync(id);
                    }
                    result
                }
                None => UnitTaskResult::Failed(UnitError::Missing),
            },
        }
    }
}

fn in_directory(dir: &mut Directory, task: UnitTask) -> UnitTaskResult {
    match task {
        UnitTask::WriteStdin { offset, data } => write_at(&mut dir.stdin, offset, &data),
        UnitTask::WriteOutput { offset, data } => write_at(&mut dir.stdout, offset, &data),
        UnitTask::Sync => UnitTaskResult::Done,
        UnitTask::DropStdin => {
            dir.stdin.clear();
            UnitTaskResult::Done
        }
        UnitTask::ReadStdin { offset, max } => read_at(&dir.stdin, offset, max),
        UnitTask::ReadOutput { offset, max } => read_at(&dir.stdout, offset, max),
        UnitTask::HashOutput { len } => {
            let part = &dir.stdout[..(len as usize).min(dir.stdout.len())];
            UnitTaskResult::Hash {
                checksum: checksum(part),
                size: dir.stdout.len() as u64,
            }
        }
        UnitTask::Update { change, .. } => {
            let Some(record) = &mut dir.record else {
                return UnitTaskResult::Failed(UnitError::Io("status: no such file or directory".into()));
            };
            let mut changed = record.clone();
            match changed.apply(&change) {
                Ok(()) => {
                    *record = changed.clone();
                    UnitTaskResult::Record(changed)
                }
                Err(_) => UnitTaskResult::Failed(UnitError::Refused(record.clone())),
            }
        }
        other => panic!("not a task of the disk: {other:?}"),
    }
}

fn write_at(file: &mut Vec<u8>, offset: u64, data: &[u8]) -> UnitTaskResult {
    let offset = offset as usize;
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
    UnitTaskResult::Done
}

fn read_at(file: &[u8], offset: u64, max: usize) -> UnitTaskResult {
    let start = (offset as usize).min(file.len());
    UnitTaskResult::Data(Bytes::copy_from_slice(&file[start..(start + max).min(file.len())]))
}

/// The checksum of `stdout` in records.
pub(super) fn checksum(data: &[u8]) -> u64 {
    HighwayHasher::new(Key([0; 4])).hash64(data)
}
