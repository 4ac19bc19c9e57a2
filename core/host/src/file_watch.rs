//! Files that somebody else writes: a thread is told by the kernel when one of them may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::pipe::{PipeFlags, pipe_with};

/// Files are often replaced in several steps, a key after its certificate: changes are told once it was quiet for so long.
const QUIET: Duration = Duration::from_millis(500);

/// What may change a file in a directory. Directories are watched and not files, since files are replaced by others of their
/// name, and links to them, as in the volumes of Kubernetes.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE);

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    shared: Arc<Shared>,
    /// Its end is the thread's end.
    _stop: OwnedFd,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Default, Debug)]
struct Watched {
    /// Watch descriptors, and the names in their directories that matter; no name stands for all.
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl FileWatch {
    /// Calls `changed`, on a thread of its own, some time after one of the files of [`Self::set`] may have changed.
    ///
    /// # Errors
    /// The kernel has no room for one more.
    pub fn new(changed: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watched: Mutex::default(),
        });
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("file-watch".into())
            .spawn(move || of_thread.run(&stopped, &changed))?;
        Ok(Self { shared, _stop: stop })
    }

    /// Watches these files from now on, and no others. Those whose directories do not exist are left out; they are given back.
    pub fn set(&self, files: impl IntoIterator<Item = impl AsRef<Path>>) -> Vec<PathBuf> {
        let mut watched = self.shared.lock();
        let mut missing = Vec::new();
        let mut names: BTreeMap<i32, BTreeSet<OsString>> = BTreeMap::new();
        for file in files {
            let file = file.as_ref();
            for (directory, name) in places(file) {
                // The same directory has the same descriptor.
                match inotify::add_watch(&self.shared.inotify, &directory, CHANGES) {
                    Ok(watch) => {
                        names.entry(watch).or_default().insert(name);
                    }
                    Err(_) => missing.push(file.to_owned()),
                }
            }
        }
        for &watch in watched.names.keys().filter(|watch| !names.contains_key(watch)) {
            // It may be gone with its directory.
            let _ = inotify::remove_watch(&self.shared.inotify, watch);
        }
        watched.names = names;
        missing
    }
}

/// The places whose change is a change of this file: where its name stands, and along the links it leads through.
fn places(file: &Path) -> Vec<(PathBuf, OsString)> {
    /// As many links as the kernel follows.
    const LINKS_MAX: usize = 40;
    let mut found = Vec::new();
    let mut at = file.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(name) = at.file_name().map(OsString::from) else {
            break;
        };
        let directory = match at.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        // A link to a directory on the way is replaced as well: `..data` of a volume.
        if let (Ok(target), Some(outer), Some(link)) =
            (directory.read_link(), directory.parent(), directory.file_name())
        {
            found.push((outer.to_owned(), link.to_owned()));
            found.push((directory.clone(), name.clone()));
            at = outer.join(target).join(name);
            continue;
        }
        let target = at.read_link();
        found.push((directory.clone(), name));
        match target {
            Ok(target) => at = directory.join(target),
            Err(_) => break,
        }
    }
    found
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, stopped: &OwnedFd, changed: &dyn Fn()) {
        let quiet = Timespec {
            tv_sec: 0,
            tv_nsec: QUIET.as_nanos() as i64,
        };
        let mut has_changed = false;
        loop {
            let mut fds = [
                PollFd::new(stopped, PollFlags::IN),
                PollFd::new(&self.inotify, PollFlags::IN),
            ];
            match poll(&mut fds, has_changed.then_some(&quiet)) {
                Ok(0) => {
                    has_changed = false;
                    changed();
                }
                Ok(_) if !fds[0].revents().is_empty() => return,
                Ok(_) => has_changed |= self.take_events(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether one of the events is about a file that matters.
    fn take_events(&self) -> bool {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut matters = false;
        // Ends with `WouldBlock`.
        while let Ok(event) = reader.next() {
            let is_lost = event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            let is_ours = event.file_name().is_some_and(|name| {
                use std::os::unix::ffi::OsStrExt as _;
                let name = std::ffi::OsStr::from_bytes(name.to_bytes());
                self.lock()
                    .names
                    .get(&event.wd())
                    .is_some_and(|names| names.contains(name))
            });
            matters |= is_lost || is_ours;
        }
        matters
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn watch() -> (FileWatch, mpsc::Receiver<()>) {
        let (told, changes) = mpsc::channel();
        let watch = FileWatch::new(move || {
            let _ = told.send(());
        });
        (watch.unwrap(), changes)
    }

    #[test]
    fn a_file_that_is_written_or_replaced_is_told_and_its_neighbours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("cert.pem"), dir.path().join("other"));
        fs::write(&file, "1").unwrap();
        let (watch, changes) = watch();
        assert!(watch.set([&file]).is_empty());
        fs::write(&other, "x").unwrap();
        fs::write(&file, "2").unwrap();
        changes.recv_timeout(PATIENCE).unwrap();
        fs::write(dir.path().join("new"), "3").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        changes.recv_timeout(PATIENCE).unwrap();
        // Only what was watched last.
        watch.set([&other]);
        fs::write(&file, "4").unwrap();
        fs::write(&other, "y").unwrap();
        changes.recv_timeout(PATIENCE).unwrap();
        drop(watch);
        assert!(changes.recv_timeout(PATIENCE).is_err(), "told once too often");
    }

    #[test]
    fn a_volume_of_links_that_is_switched_over_is_told() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("key.pem"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/key.pem", at("key.pem")).unwrap();
        let (watch, changes) = watch();
        assert!(watch.set([at("key.pem")]).is_empty());
        symlink("v2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        changes.recv_timeout(PATIENCE).unwrap();
        assert_eq!(fs::read_to_string(at("key.pem")).unwrap(), "v2");
    }

    #[test]
    fn what_cannot_be_watched_is_given_back() {
        let (watch, _changes) = watch();
        let missing = PathBuf::from("/nowhere/at/all.pem");
        assert_eq!(watch.set([&missing]), [missing]);
    }
}
