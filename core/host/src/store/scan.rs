//! What is on disk when a node starts.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use receptor_core::workceptor::{Stored, StoredUnit, Tombstone, UnitError, UnitId};

use super::{REMOVING, UnitDir, remove_all};
use crate::error_text::path_text;
use crate::remains::Remains;
use crate::runner::found;

/// How often a record that cannot be read is read again while its runner lives, and what lies between: a classic runner
/// writes it anew four times a second, also where its daemon has died while it wrote.
const READ_AGAIN: (u32, Duration) = (8, Duration::from_millis(100));

/// All units, and what in the node's directory is none.
#[derive(Debug)]
pub struct Scan {
    /// Units, by ID.
    pub units: Vec<StoredUnit>,
    /// Tombstones of released ones, the oldest first.
    pub released: Vec<Tombstone>,
    /// Lines for the log: entries that were skipped.
    pub problems: Vec<String>,
}

impl Scan {
    /// What the core wants to know.
    pub fn into_stored(self) -> Stored {
        Stored {
            units: self.units,
            released: self.released,
            // Where it cannot be had, what was written in this boot is taken for what was written in another.
            boot_id: crate::identity::boot_id().unwrap_or_default(),
        }
    }
}

pub(super) fn scan(dir: &Path) -> Result<Scan, String> {
    let failed = |error| path_text("read", dir, &error);
    let mut scan = Scan {
        units: Vec::new(),
        released: Vec::new(),
        problems: Vec::new(),
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(REMOVING) {
            if let Err(error) = remove_all(&path) {
                scan.problems.push(path_text("remove", &path, &error));
            }
            continue;
        }
        // Our own files beside the units, such as the epoch.
        if name.starts_with('.') && !path.is_dir() {
            continue;
        }
        if UnitId::parse(&name).is_some() && path.is_dir() && UnitDir::new(path.clone()).is_unborn() {
            // Nobody was told of it.
            if let Err(error) = remove_all(&path) {
                scan.problems.push(path_text("remove", &path, &error));
            }
            continue;
        }
        match unit(&path, &name) {
            Ok(unit) => scan.units.push(unit),
            Err(why) => scan
                .problems
                .push(format!("{} is not a unit of work: {why}", path.display())),
        }
    }
    find_runners(dir, &mut scan.units);
    scan.units.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(scan)
}

/// Finds out who runs the units that are not over.
fn find_runners(dir: &Path, units: &mut [StoredUnit]) {
    let is_over = |unit: &StoredUnit| unit.record.as_ref().is_ok_and(|record| record.state.is_complete());
    if units.iter().all(is_over) {
        return;
    }
    let (mut living, Ok(dir)) = (found::living(), fs::canonicalize(dir)) else {
        return;
    };
    for unit in units.iter_mut().filter(|unit| !is_over(unit)) {
        let path = dir.join(unit.id.as_str());
        unit.runner = living.remove(&path);
        let (mut tries, pause) = READ_AGAIN;
        while unit.runner.is_some() && unit.record.is_err() && tries > 0 {
            thread::sleep(pause);
            tries -= 1;
            if let Ok(record) = UnitDir::new(path.clone()).read() {
                unit.record = Ok(record);
            }
        }
        if unit.record.is_err() && unit.runner.is_none() {
            // Killed while it wrote, as classic runners can be. The unit has failed; nobody will ask for its processes.
            Remains::of_unknown(&path).end();
        }
    }
}

fn unit(path: &Path, name: &str) -> Result<StoredUnit, &'static str> {
    if !path.is_dir() {
        return Err("not a directory");
    }
    let id = UnitId::parse(name).ok_or("its name is not a unit ID")?;
    let dir = UnitDir::new(path.to_owned());
    let record = if dir.has_record() {
        dir.read().map_err(|error| match error {
            UnitError::Io(text) => text,
            other => format!("read {}: {other:?}", path.display()),
        })
    } else if dir.has_remains() {
        // Shown as failed, so that it can be released.
        Err("it has no status file".to_owned())
    } else {
        return Err("it has no status file");
    };
    Ok(StoredUnit {
        id,
        record,
        stdin_size: dir.stdin_size(),
        stdout_size: dir.stdout_size(),
        runner: None,
    })
}
