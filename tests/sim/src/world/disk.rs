//! A disk that knows what would survive a power cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::node::io::TaskResult;
use receptor_core::rng::Rng;
use receptor_core::workceptor::{Record, Stored, StoredUnit, Tombstone, UnitError, UnitId, UnitTask, UnitTaskResult};

/// One unit's directory.
#[derive(Clone, PartialEq, Debug, Default)]
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
    /// Records written since the last sync: any of them may be what is found after a power cut.
    unsynced: BTreeMap<UnitId, Vec<Record>>,
    /// The stored epoch.
    pub epoch: Option<u64>,
    /// Every write fails while set, as there is no room.
    pub full: bool,
    /// Everything fails while set, as the device is broken.
    pub broken: bool,
    /// So many times slower than it could be.
    pub slowness: u32,
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

    /// Of what was not synced, any part may be on the disk, and no other: of a record any version since the last synced one,
    /// of a file that grew any length, the end of it perhaps without its contents.
    pub(super) fn lose_power(&mut self, chance: &mut Rng) {
        let mut left = BTreeMap::new();
        let nothing = Directory::default();
        for (id, now) in &self.current {
            let durable = self.durable.get(id).unwrap_or(&nothing);
            let mut dir = durable.clone();
            if let Some(records) = self.unsynced.get(id) {
                let which = chance.below(records.len() as u64 + 1) as usize;
                if let Some(record) = records.get(which) {
                    dir.record = Some(record.clone());
                }
            }
            if dir.record.is_none() {
                continue; // Not even its creation was synced.
            }
            dir.stdin = survivor(&durable.stdin, &now.stdin, chance);
            dir.stdout = survivor(&durable.stdout, &now.stdout, chance);
            left.insert(id.clone(), dir);
        }
        self.current = left.clone();
        self.durable = left;
        self.unsynced.clear();
    }

    /// No trouble from now on.
    pub fn recover(&mut self) {
        (self.full, self.broken, self.slowness) = (false, false, 1);
    }

    fn trouble(&self, what: &str) -> Option<String> {
        match (self.broken, self.full) {
            (true, _) => Some(format!("write {what}: input/output error")),
            (_, true) => Some(format!("write {what}: no space left on device")),
            _ => None,
        }
    }

    pub(super) fn load_epoch(&self) -> TaskResult {
        if self.broken {
            return TaskResult::Failed("open epoch: input/output error".into());
        }
        TaskResult::Epoch(self.epoch)
    }

    pub(super) fn store_epoch(&mut self, epoch: u64) -> TaskResult {
        if let Some(text) = self.trouble("epoch") {
            return TaskResult::Failed(text);
        }
        self.epoch = Some(epoch);
        TaskResult::Stored
    }

    pub(super) fn scan(&self, boots: u64) -> Stored {
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
            boot_id: format!("boot-{boots}"),
        }
    }

    fn sync(&mut self, id: &UnitId) {
        self.unsynced.remove(id);
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
                | UnitTask::Bury { .. }
                | UnitTask::WriteStdin { .. }
                | UnitTask::Update { .. }
                | UnitTask::WriteOutput { .. }
        );
        if (writes || self.broken)
            && let Some(text) = self.trouble(id.as_str())
        {
            return UnitTaskResult::Failed(UnitError::Io(text));
        }
        self.run_regardless(id, task)
    }

    /// As [`Disk::run`], for somebody who waits until there is room.
    pub(super) fn run_regardless(&mut self, id: &UnitId, task: UnitTask) -> UnitTaskResult {
        match task {
            UnitTask::Create { record, sync } => {
                if self.current.contains_key(id) {
                    return UnitTaskResult::Failed(UnitError::Exists);
                }
                self.current.insert(
                    id.clone(),
                    Directory {
                        record: Some(record.clone()),
                        ..Directory::default()
                    },
                );
                if sync {
                    self.sync(id);
                } else {
                    self.unsynced.insert(id.clone(), vec![record]);
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
                    } else if let UnitTaskResult::Record(record) = &result {
                        self.unsynced.entry(id.clone()).or_default().push(record.clone());
                    }
                    result
                }
                None => UnitTaskResult::Failed(UnitError::Missing),
            },
        }
    }
}

/// What is left of a file after a power cut.
fn survivor(durable: &[u8], now: &[u8], chance: &mut Rng) -> Vec<u8> {
    if now.len() <= durable.len() {
        let is_new = now == durable || chance.below(2) == 0;
        return if is_new { now } else { durable }.to_vec();
    }
    let grown = (now.len() - durable.len()) as u64;
    let mut left = now[..durable.len() + chance.below(grown + 1) as usize].to_vec();
    if chance.below(4) == 0 {
        // The size is there, the last of the contents are not.
        let torn = chance.below((left.len() - durable.len()) as u64 + 1) as usize;
        let from = left.len() - torn;
        left[from..].fill(0);
    }
    left
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::chance;
    use receptor_core::workceptor::{Change, ProcessIdentity};

    fn written() -> (Disk, UnitId) {
        let (mut disk, id) = (Disk::default(), UnitId::parse("unit0001").expect("an ID"));
        let record = Record::command("cat", String::new());
        assert_eq!(
            disk.run(&id, UnitTask::Create { record, sync: true }),
            UnitTaskResult::Done
        );
        let write = |offset, data: &'static [u8]| UnitTask::WriteOutput {
            offset,
            data: Bytes::from_static(data),
        };
        disk.run(&id, write(0, b"synced"));
        let identity = ProcessIdentity {
            boot_id: "boot".into(),
            pid: 7,
            start_time: 1,
        };
        for change in [
            Change::Starting,
            Change::RunnerUp { identity },
            Change::Running { pid: 1 },
        ] {
            let result = disk.run(&id, UnitTask::Update { change, sync: true });
            assert!(matches!(result, UnitTaskResult::Record(_)), "{result:?}");
        }
        let change = Change::OutputSize(6);
        disk.run(&id, UnitTask::Update { change, sync: true });
        disk.run(&id, write(6, b"unsynced"));
        for size in [10, 14] {
            let change = Change::OutputSize(size);
            disk.run(&id, UnitTask::Update { change, sync: false });
        }
        (disk, id)
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() {
        let (mut sizes, mut lengths, mut torn) = (BTreeMap::new(), BTreeMap::new(), 0);
        for seed in 0..300 {
            let (mut disk, id) = written();
            disk.lose_power(&mut chance(seed, "power", 0, 0));
            let dir = disk.unit(&id).expect("its creation was synced");
            assert!(dir.stdout.starts_with(b"synced"), "{:?}", dir.stdout);
            assert!(dir.stdout.len() <= 14);
            torn += u32::from(dir.stdout.contains(&0));
            *lengths.entry(dir.stdout.len()).or_insert(0) += 1;
            *sizes
                .entry(dir.record.as_ref().expect("a record").stdout_size)
                .or_insert(0) += 1;
        }
        assert_eq!(sizes.keys().copied().collect::<Vec<_>>(), [6, 10, 14]);
        assert_eq!(lengths.len(), 9, "{lengths:?}");
        assert!(torn > 10, "{torn}");
    }

    #[test]
    fn a_full_disk_reads_and_a_broken_one_does_not() {
        let (mut disk, id) = written();
        disk.full = true;
        let read = || UnitTask::ReadOutput { offset: 0, max: 3 };
        assert_eq!(disk.run(&id, read()), UnitTaskResult::Data(Bytes::from_static(b"syn")));
        assert!(matches!(disk.run(&id, UnitTask::DropStdin), UnitTaskResult::Done));
        assert!(matches!(disk.store_epoch(1), TaskResult::Failed(text) if text.contains("no space")));
        disk.broken = true;
        assert!(matches!(disk.run(&id, read()), UnitTaskResult::Failed(_)));
        assert!(matches!(disk.load_epoch(), TaskResult::Failed(_)));
    }
}
