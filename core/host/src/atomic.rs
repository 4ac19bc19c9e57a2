//! Files that are replaced as a whole, so that a crash leaves the old or the new content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes `content` to the temporary file `dir/temporary` (mode 0600) and renames it to `dir/name`. With `sync`, content
/// and name are durable on return. Two writers must not use the same temporary name at once: callers hold a lock.
pub(crate) fn replace(dir: &Path, name: &str, temporary: &str, content: &[u8], sync: bool) -> io::Result<()> {
    let temporary = dir.join(temporary);
    let written = write_new(&temporary, content, sync).and_then(|()| fs::rename(&temporary, dir.join(name)));
    if let Err(error) = written {
        // Best effort: on a full disk the leftover would keep a block.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    if sync { sync_dir(dir) } else { Ok(()) }
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
