//! Files that are replaced as a whole, so that a crash leaves the old or the new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content` to the temporary file `dir/temporary` (mode 0600) and renames it to `dir/name`. With `sync`, content
/// and name are durable on return. Two writers must not use the same temporary name at once: callers hold a lock.
pub(crate) fn replace(dir: &Path, name: &str, temporary: &str, content: &[u8], sync: bool) -> io::Result<()> {
    if sync {
        prepare(dir, temporary, content)?;
        return commit(dir, temporary, name);
    }
    cleanly(dir, temporary, |path| {
        write_new(path, content, false)?;
        fs::rename(path, dir.join(name))
    })
}

/// First half of a synced replacement: the temporary file is durable on return.
pub(crate) fn prepare(dir: &Path, temporary: &str, content: &[u8]) -> io::Result<()> {
    cleanly(dir, temporary, |path| write_new(path, content, true))
}

/// Second half: the temporary file has taken the place of `name`, durably.
pub(crate) fn commit(dir: &Path, temporary: &str, name: &str) -> io::Result<()> {
    cleanly(dir, temporary, |path| fs::rename(path, dir.join(name)))?;
    sync_dir(dir)
}

/// Removes the temporary file after a failure: on a full disk it would keep a block.
fn cleanly(dir: &Path, temporary: &str, work: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let path = dir.join(temporary);
    work(&path).inspect_err(|_| {
        // Best effort.
        let _ = fs::remove_file(&path);
    })
}

fn write_new(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn replaces_content_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        for content in [&b"first"[..], b"2"] {
            replace(dir.path(), "file", "file.tmp", content, true).unwrap();
            assert_eq!(fs::read(dir.path().join("file")).unwrap(), content);
        }
        assert_eq!(
            fs::metadata(dir.path().join("file")).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_rename_keeps_the_old_and_removes_the_new() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("file/full")).unwrap();
        assert!(replace(dir.path(), "file", "file.tmp", b"x", false).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
