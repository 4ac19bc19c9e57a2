//! Open `stdin` and `stdout` files, so that a long output costs one `open` and not one per piece.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use receptor_core::workceptor::{UnitError, UnitId};

use crate::error_text::path_text;

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
    file: Arc<File>,
}

/// The last used at the end.
#[derive(Default, Debug)]
pub(super) struct Handles(Mutex<Vec<Entry>>);

impl Handles {
    /// The file, made (mode 0600) if it is missing. Fails with `Missing` if the unit's directory is.
    pub(super) fn create(&self, unit: &UnitId, content: Content, path: &Path) -> Result<Arc<File>, UnitError> {
        self.cached(unit, content, path, true)
            .map_err(|error| failed(path, &error))
    }

    /// The file; `None` if it is missing from an existing directory.
    pub(super) fn open(&self, unit: &UnitId, content: Content, path: &Path) -> Result<Option<Arc<File>>, UnitError> {
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

    fn cached(&self, unit: &UnitId, content: Content, path: &Path, create: bool) -> io::Result<Arc<File>> {
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
        let file = Arc::new(file);
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
