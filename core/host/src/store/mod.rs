//! Units on disk, in the classic layout (`work.md` §3): `DATADIR/NODEID/UNITID/{status,status.lock,stdin,stdout}`.

mod handles;
mod released;
mod scan;
mod shared_sync;
mod unit_dir;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use highway::{HighwayHash as _, HighwayHasher, Key};
use receptor_core::workceptor::{Tombstone, UnitError, UnitId, UnitTask, UnitTaskResult};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::atomic::sync_dir;
use crate::epoch;
use crate::error_text::path_text;
use handles::{Content, Handles};
use released::Released;
use shared_sync::SharedSync;

pub(crate) use handles::start_writeback;
pub use scan::Scan;
pub use unit_dir::UnitDir;

/// Directories that are being removed have this prefix; no unit ID has it.
const REMOVING: &str = ".removing-";

/// Bytes hashed per read.
const HASH_BLOCK: usize = 1 << 20;

/// All units of one node. Shared by the threads that carry out its tasks; the order of tasks of one unit is the caller's.
#[derive(Debug)]
pub struct UnitStore {
    dir: PathBuf,
    handles: Handles,
    released: Released,
    /// Makes the names of units durable.
    names: SharedSync,
    /// Units that no barrier has made durable yet.
    fresh: Mutex<BTreeSet<UnitId>>,
}

impl UnitStore {
    /// Makes sure that `DATADIR/NODEID` exists (mode 0700) and can be written. A node ID that is not the name of a
    /// directory is refused.
    pub fn open(datadir: &Path, node_id: &str) -> Result<Self, String> {
        if matches!(node_id, "" | "." | "..") || node_id.contains(['/', '\0']) {
            return Err(format!("node ID {node_id:?} cannot be the name of a directory"));
        }
        let dir = datadir.join(node_id);
        let mut missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
        make_dirs(&dir).map_err(|error| path_text("mkdir", &dir, &error))?;
        let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&dir, access)
            .map_err(|error| path_text("data directory cannot be written:", &dir, &error.into()))?;
        // A unit is not durable while a directory above it is not.
        while let Some(parent) = missing.pop().and_then(Path::parent) {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            sync_dir(parent).map_err(|error| path_text("fsync", parent, &error))?;
        }
        Ok(Self {
            dir,
            handles: Handles::default(),
            released: Released::default(),
            names: SharedSync::default(),
            fresh: Mutex::default(),
        })
    }

    /// The node's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The unit's directory, which need not exist.
    pub fn unit_dir(&self, unit: &UnitId) -> UnitDir {
        UnitDir::new(self.dir.join(unit.as_str()))
    }

    /// The node's last stored epoch.
    pub fn load_epoch(&self) -> Result<Option<u64>, String> {
        epoch::load(&self.dir)
    }

    /// Makes the node's epoch durable.
    pub fn store_epoch(&self, epoch: u64) -> Result<(), String> {
        epoch::store(&self.dir, epoch)
    }

    /// Lists all units, and cleans up after removals that a crash has cut short.
    pub fn scan(&self) -> Result<Scan, String> {
        let mut scan = scan::scan(&self.dir)?;
        match self.released.load(&self.dir) {
            Ok(released) => scan.released = released,
            // The units are worth more than what is known of those that are gone.
            Err(error) => scan.problems.push(error),
        }
        // Of units that an earlier process did not live to make durable, the names.
        sync_dir(&self.dir).map_err(|error| path_text("fsync", &self.dir, &error))?;
        Ok(scan)
    }

    /// Carries out a task on the disk. `Spawn`, `Attach` and `Cancel` are the [`runner`](crate::runner)'s and fail here.
    pub fn run(&self, unit: &UnitId, task: UnitTask) -> UnitTaskResult {
        let dir = self.unit_dir(unit);
        let done = |()| UnitTaskResult::Done;
        let result = match task {
            UnitTask::Create { record, sync: false } => dir.create(&record).map(|()| {
                self.fresh().insert(unit.clone());
                UnitTaskResult::Done
            }),
            UnitTask::Create { record, sync: true } => dir.create(&record).and_then(|()| {
                let synced = dir.sync(|| self.sync_names());
                synced.map(done).inspect_err(|_| dir.discard())
            }),
            UnitTask::WriteStdin { offset, data } => self.write(unit, Content::Stdin, offset, &data).map(done),
            UnitTask::DropStdin => self.drop_stdin(unit).map(done),
            UnitTask::WriteOutput { offset, data } => self.write(unit, Content::Stdout, offset, &data).map(done),
            UnitTask::ReadStdin { offset, max } => {
                self.read(unit, Content::Stdin, offset, max).map(UnitTaskResult::Data)
            }
            UnitTask::ReadOutput { offset, max } => {
                self.read(unit, Content::Stdout, offset, max).map(UnitTaskResult::Data)
            }
            UnitTask::Update { change, sync: true } if self.fresh().contains(unit) => dir
                .first_update(&change)
                .and_then(|record| self.first_barrier(unit, &dir).map(|()| UnitTaskResult::Record(record))),
            UnitTask::Update { change, sync } => dir.update(&change, sync).map(UnitTaskResult::Record),
            UnitTask::Sync if self.fresh().contains(unit) => self.first_barrier(unit, &dir).map(done),
            UnitTask::Sync => dir.sync(|| Ok(())).map(done),
            UnitTask::HashOutput { len } => self.hash(unit, len),
            UnitTask::Remove { tombstone } => self.remove(unit, tombstone.as_ref()).map(done),
            UnitTask::Bury { tombstone } => self
                .released
                .append(&self.dir, &tombstone)
                .map_err(UnitError::Io)
                .map(done),
            UnitTask::Spawn { .. } | UnitTask::Attach { .. } | UnitTask::Cancel => {
                Err(UnitError::Io("the unit store starts and stops no processes".to_owned()))
            }
        };
        result.unwrap_or_else(UnitTaskResult::Failed)
    }

    /// The whole unit is durable, its name included.
    fn first_barrier(&self, unit: &UnitId, dir: &UnitDir) -> Result<(), UnitError> {
        dir.sync(|| self.sync_names())?;
        self.fresh().remove(unit);
        Ok(())
    }

    fn write(&self, unit: &UnitId, content: Content, offset: u64, data: &[u8]) -> Result<(), UnitError> {
        let path = self.path(unit, content);
        let file = self.handles.create(unit, content, &path)?;
        file.write(offset, data)
            .map_err(|error| UnitError::Io(path_text("write", &path, &error)))
    }

    fn drop_stdin(&self, unit: &UnitId) -> Result<(), UnitError> {
        let path = self.path(unit, Content::Stdin);
        let file = self.handles.create(unit, Content::Stdin, &path)?;
        file.file
            .set_len(0)
            .map_err(|error| UnitError::Io(path_text("truncate", &path, &error)))
    }

    fn read(&self, unit: &UnitId, content: Content, offset: u64, max: usize) -> Result<Bytes, UnitError> {
        let path = self.path(unit, content);
        let failed = |error: io::Error| UnitError::Io(path_text("read", &path, &error));
        let Some(opened) = self.handles.open(unit, content, &path)? else {
            return Ok(Bytes::new());
        };
        // No more is allocated than there is to read.
        let left = opened.file.metadata().map_err(failed)?.len().saturating_sub(offset);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        let mut data = Vec::with_capacity(want);
        while data.len() < want {
            let at = offset + data.len() as u64;
            match rustix::io::pread(&opened.file, spare_capacity(&mut data), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        // The allocator may have given more room.
        data.truncate(max);
        Ok(data.into())
    }

    fn hash(&self, unit: &UnitId, len: u64) -> Result<UnitTaskResult, UnitError> {
        let path = self.path(unit, Content::Stdout);
        let failed = |error: io::Error| UnitError::Io(path_text("read", &path, &error));
        let mut hasher = HighwayHasher::new(Key::default());
        let mut size = 0;
        if let Some(opened) = self.handles.open(unit, Content::Stdout, &path)? {
            let file = &opened.file;
            size = file.metadata().map_err(failed)?.len();
            let end = size.min(len);
            if let Some(checksum) = opened.checksum(end) {
                return Ok(UnitTaskResult::Hash { checksum, size });
            }
            let mut block = vec![0; HASH_BLOCK];
            let mut offset = 0;
            while offset < end {
                let want = usize::try_from(end - offset).unwrap_or(usize::MAX).min(HASH_BLOCK);
                let read = read_full(file, offset, &mut block[..want]).map_err(failed)?;
                if read == 0 {
                    break;
                }
                hasher.append(&block[..read]);
                offset += read as u64;
            }
        }
        Ok(UnitTaskResult::Hash {
            checksum: hasher.finalize64(),
            size,
        })
    }

    /// Renames first, so that a crash leaves either the whole unit or a name that [`UnitStore::scan`] removes. Removing
    /// what is gone is no error.
    fn remove(&self, unit: &UnitId, tombstone: Option<&Tombstone>) -> Result<(), UnitError> {
        if let Some(tombstone) = tombstone
            && let Err(error) = self.released.append(&self.dir, tombstone)
        {
            // A full disk gets room by a removal, not by a refusal.
            tracing::warn!("the release of unit {unit} is known only until this node stops: {error}");
        }
        self.handles.forget(unit);
        self.fresh().remove(unit);
        let from = self.dir.join(unit.as_str());
        let to = self.dir.join(format!("{REMOVING}{unit}"));
        let failed = |error: io::Error| UnitError::Io(path_text("remove", &from, &error));
        remove_all(&to).map_err(failed)?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed)?,
        }
        self.sync_names()?;
        // The unit is gone already; a leftover is removed by the next scan.
        remove_all(&to).map_err(failed)
    }

    fn path(&self, unit: &UnitId, content: Content) -> PathBuf {
        self.dir.join(unit.as_str()).join(content.file_name())
    }

    /// Makes the names of all units durable, which costs one sync for whoever asks in the meantime.
    fn sync_names(&self) -> Result<(), UnitError> {
        self.names
            .sync(|| sync_dir(&self.dir))
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => UnitError::Missing,
                _ => UnitError::Io(path_text("fsync", &self.dir, &error)),
            })
    }

    /// The set is whole between any two statements, so a panic elsewhere does no harm to it.
    fn fresh(&self) -> MutexGuard<'_, BTreeSet<UnitId>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Fills `data` as far as the file reaches.
fn read_full(file: &File, offset: u64, data: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
