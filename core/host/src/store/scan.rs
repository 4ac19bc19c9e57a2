//! What is on disk when a node starts.

use std::fs;
use std::path::Path;

use receptor_core::workceptor::{StoredUnit, UnitError, UnitId};

use super::{REMOVING, UnitDir, remove_all};
use crate::error_text::path_text;

/// All units, and what in the node's directory is none.
#[derive(Debug)]
pub struct Scan {
    /// Units, by ID.
    pub units: Vec<StoredUnit>,
    /// Lines for the log: entries that were skipped.
    pub problems: Vec<String>,
}

pub(super) fn scan(dir: &Path) -> Result<Scan, String> {
    let failed = |error| path_text("read", dir, &error);
    let mut scan = Scan {
        units: Vec::new(),
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
    scan.units.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(scan)
}

fn unit(path: &Path, name: &str) -> Result<StoredUnit, &'static str> {
    if !path.is_dir() {
        return Err("not a directory");
    }
    let id = UnitId::parse(name).ok_or("its name is not a unit ID")?;
    let dir = UnitDir::new(path.to_owned());
    if !dir.has_record() {
        return Err("it has no status file");
    }
    let record = dir.read().map_err(|error| match error {
        UnitError::Io(text) => text,
        other => format!("read {}: {other:?}", path.display()),
    });
    Ok(StoredUnit {
        id,
        record,
        stdin_size: dir.stdin_size(),
        stdout_size: dir.stdout_size(),
    })
}
