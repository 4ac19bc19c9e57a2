//! Files of the certificate tools: read whole, replaced whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use receptor_host::error_text::os_text;
use tempfile::NamedTempFile;

use super::{Result, ToolError};

/// Largest file read, in bytes. Certificates and keys have some kilobytes.
const MAX_FILE: u64 = 1 << 20;

pub(super) fn read(path: &str) -> Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: io::Error| ToolError::new(format!("open {path}: {}", os_text(&error))))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ToolError::new(format!("{path} is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Writes several files. All of them are complete beside their places before the first one is put there.
///
/// # Errors
/// One could not be written; then no place has changed, unless it is a rename that failed.
pub(super) fn write(files: &[(&str, &[u8])]) -> Result<()> {
    for (index, (path, _)) in files.iter().enumerate() {
        if files[..index].iter().any(|(other, _)| is_same(path, other)) {
            return Err(ToolError::new(format!("two results would go to {path}")));
        }
    }
    let failed = |path: &str, error: &io::Error| ToolError::new(format!("open {path}: {}", os_text(error)));
    let mut staged = Vec::new();
    for &(path, content) in files {
        staged.push((path, stage(path, content).map_err(|error| failed(path, &error))?));
    }
    for (path, staged) in staged {
        staged.commit().map_err(|error| failed(path, &error))?;
    }
    Ok(())
}

/// Refuses to write over a file that was read.
pub(super) fn not_over(output: &str, inputs: &[&str]) -> Result<()> {
    match inputs.iter().any(|input| is_same(output, input)) {
        true => Err(ToolError::new(format!("{output} would be written over, but was read"))),
        false => Ok(()),
    }
}

fn is_same(one: &str, other: &str) -> bool {
    let real = |path: &str| fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|path| Some(path) == real(other))
}

enum Staged<'a> {
    /// A finished file and its place.
    Beside(NamedTempFile, PathBuf),
    /// What goes to a device or a pipe.
    Direct(File, &'a [u8]),
}

fn stage<'a>(path: &str, content: &'a [u8]) -> io::Result<Staged<'a>> {
    // Through links, as a plain open would go.
    let place = match fs::canonicalize(path) {
        Ok(place) => place,
        Err(_) => PathBuf::from(path),
    };
    let known = fs::metadata(&place).ok();
    if known.as_ref().is_some_and(|known| !known.is_file()) {
        return Ok(Staged::Direct(OpenOptions::new().write(true).open(&place)?, content));
    }
    if place.file_name().is_none() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut file = new_file(dir_of(&place))?;
    file.write_all(content)?;
    if let Some(known) = known {
        let mode = known.permissions().mode() & 0o7777;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    Ok(Staged::Beside(file, place))
}

fn dir_of(place: &Path) -> &Path {
    match place.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

/// A new file of mode 0600. The error is the system's, without the name of a temporary file.
fn new_file(dir: &Path) -> io::Result<NamedTempFile> {
    let mut code = None;
    let open = |path: &Path| {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.inspect_err(|error| code = error.raw_os_error())
    };
    let made = tempfile::Builder::new().make_in(dir, open);
    made.map_err(|error| code.map_or(error, io::Error::from_raw_os_error))
}

impl Staged<'_> {
    fn commit(self) -> io::Result<()> {
        match self {
            Self::Direct(mut file, content) => file.write_all(content),
            Self::Beside(file, place) => {
                file.persist(&place).map_err(|error| error.error)?;
                File::open(dir_of(&place))?.sync_all()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn new_files_are_private_and_old_ones_keep_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let [new, old, link] = ["new", "old", "link"].map(|name| dir.path().join(name));
        fs::write(&old, "long content").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        write(&[(new.to_str().unwrap(), b"a"), (link.to_str().unwrap(), b"b")]).unwrap();
        assert_eq!((mode(&new), mode(&old)), (0o600, 0o640));
        assert_eq!(fs::read(&old).unwrap(), b"b");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn nothing_changes_if_one_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good");
        let error = write(&[(good.to_str().unwrap(), b"a"), ("/nowhere/at/all", b"b")]).unwrap_err();
        assert_eq!(error.to_string(), "open /nowhere/at/all: no such file or directory");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(write(&[("", b"")]).is_err());
        assert!(write(&[("/", b"")]).is_err());
    }

    #[test]
    fn two_results_and_an_input_keep_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let (one, other) = (file.to_str().unwrap(), dir.path().join("./x/../file"));
        fs::create_dir(dir.path().join("x")).unwrap();
        fs::write(&file, "").unwrap();
        let other = other.to_str().unwrap();
        assert!(write(&[(one, b""), (other, b"")]).is_err());
        assert!(not_over(one, &["/dev/null", other]).is_err());
        assert!(not_over(one, &["/dev/null"]).is_ok());
    }
}
