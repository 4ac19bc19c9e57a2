//! The node's epoch on disk: `DATADIR/NODEID/.epoch`, a decimal number and a line feed.
//!
//! It has to grow over restarts even when the clock steps back, so the last one used is kept. Classic nodes skip the file:
//! it is no directory.

use std::fs;
use std::io;
use std::path::Path;

use crate::atomic;
use crate::error_text::path_text;

const NAME: &str = ".epoch";
const TEMPORARY: &str = ".epoch.tmp";

/// The stored epoch; `None` if there is none yet. `dir` is the node's directory.
pub fn load(dir: &Path) -> Result<Option<u64>, String> {
    let path = dir.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(path_text("read", &path, &error)),
    };
    let number = str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| format!("read {}: not a decimal number", path.display()))
}

/// Makes the epoch durable.
pub fn store(dir: &Path, epoch: u64) -> Result<(), String> {
    atomic::replace(dir, NAME, TEMPORARY, format!("{epoch}\n").as_bytes(), true)
        .map_err(|error| path_text("write", &dir.join(NAME), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_epochs_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Ok(None));
        for epoch in [1, u64::MAX] {
            store(dir.path(), epoch).unwrap();
            assert_eq!(load(dir.path()), Ok(Some(epoch)));
        }
        fs::write(dir.path().join(NAME), "rubbish").unwrap();
        assert!(load(dir.path()).unwrap_err().ends_with(".epoch: not a decimal number"));
        let gone = dir.path().join("gone");
        assert!(store(&gone, 1).unwrap_err().ends_with("no such file or directory"));
    }
}
