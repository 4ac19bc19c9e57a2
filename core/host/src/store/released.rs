//! Tombstones of released units: `DATADIR/NODEID/.released`, a line of JSON each, the newest at the end.
//!
//! Lines are appended; the last one of a unit counts. When most of them are stale the file is written anew. Classic nodes
//! skip it: it is no directory.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use receptor_core::workceptor::Tombstone;
use receptor_core::workceptor::tombstone::MAX_RELEASED;

use crate::atomic;
use crate::error_text::path_text;

const NAME: &str = ".released";
const TEMPORARY: &str = ".released.tmp";

/// Most lines before the file is written anew.
const MAX_LINES: usize = 2 * MAX_RELEASED;

/// The file. Holds the number of its lines, once they were counted.
#[derive(Default, Debug)]
pub(super) struct Released(Mutex<Option<usize>>);

impl Released {
    /// All tombstones, the oldest first, one per unit.
    pub(super) fn load(&self, dir: &Path) -> Result<Vec<Tombstone>, String> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, is_whole) = read(dir).map_err(|error| path_text("read", &dir.join(NAME), &error))?;
        *lines = Some(found.len());
        let kept = newest(found);
        if !is_whole {
            rewrite(dir, &kept).map_err(|error| path_text("write", &dir.join(NAME), &error))?;
            *lines = Some(kept.len());
        }
        Ok(kept)
    }

    /// Adds one; what is owed is durable on return, but for the name of a new file.
    pub(super) fn append(&self, dir: &Path, tombstone: &Tombstone) -> Result<(), String> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        append(dir, &mut lines, tombstone).map_err(|error| path_text("write", &dir.join(NAME), &error))
    }
}

fn append(dir: &Path, lines: &mut Option<usize>, tombstone: &Tombstone) -> io::Result<()> {
    let mut count = match *lines {
        Some(count) => count,
        None => read(dir)?.0.len(),
    };
    if count >= MAX_LINES {
        let kept = newest(read(dir)?.0);
        rewrite(dir, &kept)?;
        count = kept.len();
    }
    // A line that was written in part counts too, and is cut off from the next.
    *lines = Some(count + 1);
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join(NAME))?;
    let written = file.write_all(&tombstone.to_line());
    if written.is_err() {
        *lines = Some(MAX_LINES);
    }
    written?;
    if tombstone.owed.is_some() {
        file.sync_all()?;
    }
    Ok(())
}

/// The tombstones of the file, and whether there is nothing else in it.
fn read(dir: &Path) -> io::Result<(Vec<Tombstone>, bool)> {
    let text = match fs::read(dir.join(NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), true)),
        Err(error) => return Err(error),
    };
    let lines: Vec<_> = text
        .split_inclusive(|&byte| byte == b'\n')
        .map(Tombstone::parse)
        .collect();
    let is_whole = lines.iter().all(Option::is_some) && text.last().is_none_or(|&last| last == b'\n');
    Ok((lines.into_iter().flatten().collect(), is_whole))
}

/// The last of each unit, no more than are remembered, in the order of their age.
fn newest(found: Vec<Tombstone>) -> Vec<Tombstone> {
    let mut seen = HashSet::new();
    let mut kept: Vec<Tombstone> = found
        .into_iter()
        .rev()
        .filter(|tombstone| seen.insert(tombstone.unit.clone()))
        .take(MAX_RELEASED)
        .collect();
    kept.reverse();
    kept
}

fn rewrite(dir: &Path, kept: &[Tombstone]) -> io::Result<()> {
    let text: Vec<u8> = kept.iter().flat_map(Tombstone::to_line).collect();
    atomic::replace(dir, NAME, TEMPORARY, &text, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use receptor_core::time::Wall;
    use receptor_core::workceptor::{Owed, State, UnitId};

    fn tombstone(name: &str, second: u64) -> Tombstone {
        Tombstone {
            unit: UnitId::parse(name).unwrap(),
            at: Wall::from_secs(second),
            state: State::Succeeded,
            has_run: true,
            owed: None,
        }
    }

    fn names(found: &[Tombstone]) -> Vec<(&str, u64)> {
        found.iter().map(|one| (one.unit.as_str(), one.at.as_secs())).collect()
    }

    #[test]
    fn the_last_of_each_unit_counts_and_torn_lines_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let file = Released::default();
        assert_eq!(file.load(dir.path()), Ok(Vec::new()));
        let owed = Owed {
            node: "exec".into(),
            tls_client: String::new(),
            unit: "b".into(),
            sign_work: false,
        };
        for (name, second) in [("a", 1), ("b", 2), ("a", 3)] {
            let mut one = tombstone(name, second);
            one.owed = (name == "b").then(|| owed.clone());
            file.append(dir.path(), &one).unwrap();
        }
        let found = Released::default().load(dir.path()).unwrap();
        assert_eq!(names(&found), [("b", 2), ("a", 3)]);
        assert_eq!(found[0].owed, Some(owed));

        let path = dir.path().join(NAME);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"Unit\":\"c\",\"Rel");
        fs::write(&path, text).unwrap();
        let file = Released::default();
        assert_eq!(names(&file.load(dir.path()).unwrap()), [("b", 2), ("a", 3)]);
        file.append(dir.path(), &tombstone("d", 4)).unwrap();
        assert_eq!(names(&file.load(dir.path()).unwrap()), [("b", 2), ("a", 3), ("d", 4)]);
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let line = |number: usize| tombstone(&format!("unit{number}"), number as u64).to_line();
        let text: Vec<u8> = (0..MAX_LINES).flat_map(line).collect();
        fs::write(dir.path().join(NAME), text).unwrap();
        let file = Released::default();
        file.append(dir.path(), &tombstone("last", 1)).unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(text.lines().count(), MAX_RELEASED + 1);
        let found = file.load(dir.path()).unwrap();
        assert_eq!(found.len(), MAX_RELEASED);
        assert_eq!(found.last().map(|one| one.unit.as_str()), Some("last"));
        assert_eq!(found[0].unit.as_str(), format!("unit{}", MAX_RELEASED + 1));
    }
}
