//! One unit's directory and its record. Node and runner both change the record, each under `status.lock`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use receptor_core::workceptor::{Change, Record, UnitError};

use crate::atomic;
use crate::error_text::path_text;

const STATUS: &str = "status";
const TEMPORARY: &str = "status.tmp";
const LOCK: &str = "status.lock";

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

    /// Makes the directory with a first record, all durable except the directory's own name. Leaves nothing behind if it
    /// fails.
    pub(super) fn create(&self, record: &Record) -> Result<(), UnitError> {
        DirBuilder::new()
            .mode(0o700)
            .create(&self.path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => UnitError::Exists,
                _ => UnitError::Io(path_text("mkdir", &self.path, &error)),
            })?;
        // There is always a `stdin`, empty if nothing is sent: the command gets it as its input (`work.md` §7).
        let stdin = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.stdin());
        let made = stdin.map_err(|error| path_text("create", &self.stdin(), &error)).and_then(|_| {
            atomic::replace(&self.path, STATUS, TEMPORARY, &record.to_json(), true)
                .map_err(|error| path_text("write", &self.path.join(STATUS), &error))
        });
        made.map_err(|error| {
            // Best effort; the error that counts is the first.
            let _ = fs::remove_dir_all(&self.path);
            UnitError::Io(error)
        })
    }

    /// Whether there is a record, readable or not.
    pub(super) fn has_record(&self) -> bool {
        self.path.join(STATUS).exists()
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
        self.read_locked()
    }

    /// Applies a change to the record under the lock. With `sync`, `stdin` and `stdout`, if they exist, and then the
    /// record are durable on return.
    pub fn update(&self, change: &Change, sync: bool) -> Result<Record, UnitError> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join(LOCK))
            .map_err(|error| self.failed("open", LOCK, &error))?;
        lock.lock().map_err(|error| self.failed("lock", LOCK, &error))?;
        let mut record = self.read_locked()?;
        if record.apply(change).is_err() {
            return Err(UnitError::Refused(record));
        }
        if sync {
            self.sync_content("stdin")?;
            self.sync_content("stdout")?;
        }
        atomic::replace(&self.path, STATUS, TEMPORARY, &record.to_json(), sync)
            .map_err(|error| self.failed("write", STATUS, &error))?;
        Ok(record)
    }

    fn read_locked(&self) -> Result<Record, UnitError> {
        let text = fs::read(self.path.join(STATUS)).map_err(|error| self.failed("read", STATUS, &error))?;
        Record::parse(&text).map_err(|text| UnitError::Io(format!("read {}: {text}", self.path.join(STATUS).display())))
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
