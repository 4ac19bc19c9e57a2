//! One unit's directory and its record. Node and runner both change the record, each under `status.lock`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use receptor_core::workceptor::{Change, Record, UnitError};

use crate::adapter::wall_clock;
use crate::atomic;
use crate::error_text::path_text;

const STATUS: &str = "status";
const TEMPORARY: &str = "status.tmp";
const LOCK: &str = "status.lock";

/// Longest record that a change before the first barrier writes in its place: what lies within a page is written as a whole or not
/// at all, whenever the process is killed.
const IN_PLACE: usize = 4096;

/// The directory of one unit.
#[derive(Clone, Debug)]
pub struct UnitDir {
    path: PathBuf,
}

impl UnitDir {
    /// Names a directory, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the unit's input.
    pub fn stdin(&self) -> PathBuf {
        self.path.join("stdin")
    }

    /// Path of the unit's output.
    pub fn stdout(&self) -> PathBuf {
        self.path.join("stdout")
    }

    /// Size of the unit's input; 0 if there is none.
    pub fn stdin_size(&self) -> u64 {
        fs::metadata(self.stdin()).map_or(0, |found| found.len())
    }

    /// Size of the unit's output; 0 if there is none.
    pub fn stdout_size(&self) -> u64 {
        fs::metadata(self.stdout()).map_or(0, |found| found.len())
    }

    /// Makes the directory with a first record. Leaves nothing behind if it fails.
    pub(super) fn create(&self, record: &Record) -> Result<(), UnitError> {
        DirBuilder::new()
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => UnitError::Exists,
                _ => UnitError::Io(path_text("mkdir", &self.path, &error)),
            })?;
        self.fill(record).map_err(|error| {
            self.discard();
            UnitError::Io(error)
        })
    }

    /// Takes a creation back.
    pub(super) fn discard(&self) {
        // Best effort; the error that counts is the first.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// The files of a new unit. The record comes last and has no temporary name: before the first barrier nobody relies on
    /// the unit, and [`UnitDir::is_unborn`] knows what a crash leaves.
    fn fill(&self, record: &Record) -> Result<(), String> {
        let failed = |name: &str, error: &io::Error| path_text("write", &self.path.join(name), error);
        // There is always a `stdin`, empty if nothing is sent: the command gets it as its input (`work.md` §7).
        let create = |name: &str| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(self.path.join(name))
        };
        create("stdin").map_err(|error| failed("stdin", &error))?;
        create(STATUS)
            .and_then(|mut file| file.write_all(&record.to_json()))
            .map_err(|error| failed(STATUS, &error))
    }

    /// Whether this is what a crash left of a unit that no barrier had made durable: a record that never came to the disk,
    /// perhaps with some stdin. No lock either, which a unit of ours has from its first change after that barrier on, and
    /// a classic unit from its first moment.
    pub(super) fn is_unborn(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return false;
        };
        let mut has_bytes = false;
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let name = entry.file_name();
            if name != STATUS && name != "stdin" && name != TEMPORARY {
                return false;
            }
            match entry.metadata() {
                Ok(file) if file.is_file() => has_bytes |= file.len() > 0,
                _ => return false,
            }
        }
        // Where a file system loses the bytes of a file it may keep its length.
        let lost = fs::read(self.path.join(STATUS)).is_ok_and(|record| record.iter().all(|&byte| byte == 0));
        lost || !has_bytes
    }

    /// Whether there is a record, readable or not.
    pub(super) fn has_record(&self) -> bool {
        self.path.join(STATUS).exists()
    }

    /// Whether something in it was left by a unit.
    pub(super) fn has_remains(&self) -> bool {
        [LOCK, "stdin", "stdout"]
            .iter()
            .any(|name| self.path.join(name).exists())
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record, UnitError> {
        // A lock for reading matters only beside classic writers, which write in place; without the file there are none.
        let path = self.path.join(LOCK);
        let _lock = match File::open(&path) {
            Ok(file) => Some(
                file.lock_shared()
                    .map(|()| file)
                    .map_err(|error| self.failed("lock", LOCK, &error))?,
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed("open", LOCK, &error)),
        };
        self.read_locked().map(|(record, _)| record)
    }

    /// Applies a change to the record under the lock. With `sync`, `stdin` and `stdout`, if they exist, and then the
    /// record are durable on return.
    pub fn update(&self, change: &Change, sync: bool) -> Result<Record, UnitError> {
        let _lock = self.lock()?;
        let (record, _) = self.changed(change)?;
        if sync {
            self.replace_synced(&record.to_json())?;
        } else {
            // Never in its place: a power cut in the middle would cost the record that is durable.
            self.replace_unsynced(&record.to_json())?;
        }
        Ok(record)
    }

    /// The record as it is after a change, and its length before. The caller holds the lock.
    fn changed(&self, change: &Change) -> Result<(Record, usize), UnitError> {
        let (mut record, length) = self.read_locked()?;
        match record.apply_at(change, wall_clock()) {
            Ok(()) => Ok((record, length)),
            Err(_) => Err(UnitError::Refused(record)),
        }
    }

    fn replace_unsynced(&self, record: &[u8]) -> Result<(), UnitError> {
        atomic::replace(&self.path, STATUS, TEMPORARY, record, false)
            .map_err(|error| self.failed("write", STATUS, &error))
    }

    /// Writes where the former record stands, of which nothing is durable yet: a new file for each of the changes before the
    /// first barrier would cost more than all the rest of them.
    fn overwrite(&self, mut record: Vec<u8>, before: usize) -> Result<(), UnitError> {
        let length = record.len().max(before);
        if length > IN_PLACE {
            return self.replace_unsynced(&record);
        }
        // Blanks, which mean nothing at the end of a record, instead of a file cut in a second step.
        record.resize(length, b' ');
        let file = OpenOptions::new().write(true).open(self.path.join(STATUS));
        let written = file.and_then(|file| file.write_all_at(&record, 0));
        written.map_err(|error| self.failed("write", STATUS, &error))
    }

    /// A change before the first barrier. There is nothing durable to protect and nobody else who reads or writes, so it takes
    /// no lock: that is made with the first change after the barrier.
    pub(super) fn first_update(&self, change: &Change) -> Result<Record, UnitError> {
        let _lock = self.path.join(LOCK).exists().then(|| self.lock()).transpose()?;
        let (record, before) = self.changed(change)?;
        self.overwrite(record.to_json(), before)?;
        Ok(record)
    }

    /// Syncs what there is of `stdin` and `stdout` beside the new record, not one after the other: a file system with a
    /// journal makes one transaction of them.
    fn replace_synced(&self, record: &[u8]) -> Result<(), UnitError> {
        let prepared = self.beside_content(|| {
            atomic::prepare(&self.path, TEMPORARY, record).map_err(|error| self.failed("write", STATUS, &error))
        });
        // The record is only in place once what it tells of is durable.
        prepared?;
        atomic::commit(&self.path, TEMPORARY, STATUS).map_err(|error| self.failed("write", STATUS, &error))
    }

    /// Makes the unit durable as it stands, and meanwhile whatever else is wanted.
    pub(super) fn sync(&self, other: impl FnOnce() -> Result<(), UnitError>) -> Result<(), UnitError> {
        self.beside_content(|| {
            File::open(self.path.join(STATUS))
                .and_then(|file| file.sync_all())
                .map_err(|error| self.failed("fsync", STATUS, &error))?;
            atomic::sync_dir(&self.path).map_err(|error| self.failed("fsync", "", &error))?;
            other()
        })
    }

    /// Syncs what there is of `stdin` and `stdout`, each in a thread, while it does something else.
    fn beside_content(&self, other: impl FnOnce() -> Result<(), UnitError>) -> Result<(), UnitError> {
        std::thread::scope(|scope| {
            let content = ["stdin", "stdout"].map(|name| {
                let holds_bytes = fs::metadata(self.path.join(name)).is_ok_and(|file| file.len() > 0);
                holds_bytes.then(|| scope.spawn(move || self.sync_content(name)))
            });
            let done = other();
            for thread in content.into_iter().flatten() {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(UnitError::Io("fsync: the thread died".into())))?;
            }
            done
        })
    }

    /// Puts this record in the place of one that a writer in place has left unreadable. `status` that can be read stays.
    pub(crate) fn restore(&self, record: &Record) -> Result<(), UnitError> {
        let _lock = self.lock()?;
        match self.read_locked() {
            Ok(_) => Ok(()),
            Err(_) => atomic::replace(&self.path, STATUS, TEMPORARY, &record.to_json(), true)
                .map_err(|error| self.failed("write", STATUS, &error)),
        }
    }

    fn lock(&self) -> Result<File, UnitError> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))
            .map_err(|error| self.failed("open", LOCK, &error))?;
        lock.lock().map_err(|error| self.failed("lock", LOCK, &error))?;
        Ok(lock)
    }

    /// The record, and its length in the file.
    fn read_locked(&self) -> Result<(Record, usize), UnitError> {
        let text = fs::read(self.path.join(STATUS)).map_err(|error| self.failed("read", STATUS, &error))?;
        let record = Record::parse(&text)
            .map_err(|text| UnitError::Io(format!("read {}: {text}", self.path.join(STATUS).display())))?;
        Ok((record, text.len()))
    }

    fn sync_content(&self, name: &str) -> Result<(), UnitError> {
        match File::open(self.path.join(name)).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|error| self.failed("fsync", name, &error)),
        }
    }

    /// `Missing` means the directory: a file missing from it is worth its own text.
    fn failed(&self, verb: &str, name: &str, error: &io::Error) -> UnitError {
        if error.kind() == io::ErrorKind::NotFound && !self.path.is_dir() {
            return UnitError::Missing;
        }
        UnitError::Io(path_text(verb, &self.path.join(name), error))
    }
}
