//! Open `stdin` and `stdout` files, so that a long output costs one `open` and not one per piece, and its checksum no
//! second reading.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highway::{HighwayHash as _, HighwayHasher, Key};
use receptor_core::workceptor::{UnitError, UnitId};
use rustix::fs::Advice;

use crate::error_text::path_text;

/// Bytes after which the disk is set to work: 16 MiB.
const WRITEBACK: u64 = 16 << 20;

/// Most files kept open.
const LIMIT: usize = 64;

/// The two files that hold the bytes of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Stdin,
    Stdout,
}

impl Content {
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
        }
    }
}

#[derive(Debug)]
struct Entry {
    unit: UnitId,
    content: Content,
    file: Arc<Opened>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// Of what was written through this handle, if that is the file from its beginning on without gaps.
    written: Mutex<(HighwayHasher, u64)>,
}

impl Opened {
    fn new(file: File) -> Self {
        Self {
            file,
            written: Mutex::new((HighwayHasher::new(Key::default()), 0)),
        }
    }

    /// Writes, and sets the disk to work on what was written before, so that a barrier does not find all of it to do.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        let mut written = self.written();
        if written.1 == offset {
            written.0.append(data);
            written.1 += data.len() as u64;
        } else {
            // Written anew or from the middle on: no checksum here.
            written.1 = u64::MAX;
        }
        drop(written);
        start_writeback(&self.file, offset, data.len() as u64);
        Ok(())
    }

    /// The checksum of the first `len` bytes, if these are what was written through this handle.
    pub(super) fn checksum(&self, len: u64) -> Option<u64> {
        let written = self.written();
        (written.1 == len).then(|| written.0.clone().finalize64())
    }

    /// A hasher is whole between any two statements, so a panic elsewhere does no harm to it.
    fn written(&self) -> MutexGuard<'_, (HighwayHasher, u64)> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the kernel, each time [`WRITEBACK`] more bytes are there, that they may go to the disk: it begins to write them and
/// keeps the pages that are under way. Nobody waits for it, and no error is taken from whoever syncs the file.
pub(crate) fn start_writeback(file: &File, offset: u64, len: u64) {
    let (before, after) = (offset / WRITEBACK, (offset + len) / WRITEBACK);
    if before < after
        && let Some(len) = NonZeroU64::new((after - before) * WRITEBACK)
    {
        // Advice.
        let _ = rustix::fs::fadvise(file, before * WRITEBACK, Some(len), Advice::DontNeed);
    }
}

/// The last used at the end.
#[derive(Default, Debug)]
pub(super) struct Handles(Mutex<Vec<Entry>>);

impl Handles {
    /// The file, made (mode 0600) if it is missing. Fails with `Missing` if the unit's directory is.
    pub(super) fn create(&self, unit: &UnitId, content: Content, path: &Path) -> Result<Arc<Opened>, UnitError> {
        self.cached(unit, content, path, true)
            .map_err(|error| failed(path, &error))
    }

    /// The file; `None` if it is missing from an existing directory.
    pub(super) fn open(&self, unit: &UnitId, content: Content, path: &Path) -> Result<Option<Arc<Opened>>, UnitError> {
        match self.cached(unit, content, path, false) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::is_dir) => {
                Ok(None)
            }
            Err(error) => Err(failed(path, &error)),
        }
    }

    /// Closes what is open of a unit.
    pub(super) fn forget(&self, unit: &UnitId) {
        self.entries().retain(|entry| entry.unit != *unit);
    }

    fn cached(&self, unit: &UnitId, content: Content, path: &Path, create: bool) -> io::Result<Arc<Opened>> {
        let mut entries = self.entries();
        if let Some(at) = entries
            .iter()
            .rposition(|entry| entry.content == content && entry.unit == *unit)
        {
            let entry = entries.remove(at);
            let file = Arc::clone(&entry.file);
            entries.push(entry);
            return Ok(file);
        }
        // Opened under the lock: a removal must not come between the opening and the insertion.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let file = Arc::new(Opened::new(file));
        if entries.len() >= LIMIT {
            entries.remove(0);
        }
        entries.push(Entry {
            unit: unit.clone(),
            content,
            file: Arc::clone(&file),
        });
        Ok(file)
    }

    /// The list is whole between any two statements, so a panic elsewhere does no harm to it.
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(path: &Path, error: &io::Error) -> UnitError {
    match error.kind() {
        io::ErrorKind::NotFound => UnitError::Missing,
        _ => UnitError::Io(path_text("open", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::default();
        let unit = |number: usize| UnitId::parse(&format!("unit{number}")).unwrap();
        for number in 0..LIMIT + 10 {
            let path = dir.path().join(number.to_string());
            handles.create(&unit(number), Content::Stdout, &path).unwrap();
            handles
                .create(&unit(0), Content::Stdout, &dir.path().join("0"))
                .unwrap();
        }
        assert_eq!(handles.entries().len(), LIMIT);
        assert!(
            handles.entries().iter().any(|entry| entry.unit == unit(0)),
            "the one in use stays"
        );
        handles.forget(&unit(0));
        assert_eq!(handles.entries().len(), LIMIT - 1);
    }
}
