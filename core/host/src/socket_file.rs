//! Unix sockets with a lock beside them (`control.md` §1).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error_text::{os_text, path_text};
use crate::unix_path::{self, ShortPath};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket and the lock that keeps its path ours. Neither file is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    /// Accepts connections; blocking.
    pub listener: UnixListener,
    /// Holds the path for as long as it lives.
    pub lock: SocketLock,
}

/// The lock on `FILENAME.lock`.
#[derive(Debug)]
pub struct SocketLock {
    _file: File,
}

/// Takes the lock, removes what is left at `path`, and listens there with the given permission bits. Nobody can connect
/// before the bits are set. A directory at `path` is removed only if it is empty.
pub fn listen(path: &Path, mode: u32) -> Result<SocketFile, String> {
    let lock = lock(path)?;
    remove_stale(path)?;
    Ok(SocketFile {
        listener: bind(path, mode)?,
        lock,
    })
}

/// Connects to the Unix socket at `path`, which may be longer than a socket address.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    unix_path::connect(path)
}

/// Whether the peer has closed the connection altogether, not only its sending half.
pub fn is_hung_up<S: AsFd>(stream: &S) -> bool {
    state(stream).intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Whether the connection has failed, as it does when the peer breaks it off.
pub fn is_broken<S: AsFd>(stream: &S) -> bool {
    state(stream).contains(PollFlags::ERR)
}

fn state<S: AsFd>(stream: &S) -> PollFlags {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec::default();
    match rustix::event::poll(&mut polled, Some(&now)) {
        Ok(_) => polled[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn lock(path: &Path) -> Result<SocketLock, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |text: String| format!("could not acquire lock on socket file: {text}");
    let name = PathBuf::from(name);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|error| failed(path_text("open", &name, &error)))?;
    match file.try_lock() {
        Ok(()) => Ok(SocketLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(failed("fslock is already locked".to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(path_text("lock", &name, &error))),
    }
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
            "could not overwrite socket file: {}",
            path_text("remove", path, &error)
        )),
        _ => Ok(()),
    }
}

fn bind(path: &Path, mode: u32) -> Result<UnixListener, String> {
    let failed = |error: io::Error| {
        format!(
            "could not listen on socket file: listen unix {}: bind: {}",
            path.display(),
            os_text(&error)
        )
    };
    let short = ShortPath::new(path).map_err(failed)?;
    let address = SocketAddrUnix::new(short.as_path().as_os_str().as_bytes()).map_err(|e| failed(e.into()))?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| failed(e.into()))?;
    rustix::net::bind(&socket, &address).map_err(|e| failed(e.into()))?;
    // Before `listen` a connection is refused whatever the bits are.
    rustix::fs::chmod(short.as_path(), Mode::from_raw_mode(mode))
        .map_err(|error| format!("error setting socket file permissions: {}", os_text(&error.into())))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|e| failed(e.into()))?;
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_daemon_is_refused_and_a_stale_socket_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let first = listen(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(
            fs::metadata(dir.path().join("control.sock.lock"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        let expected = "could not acquire lock on socket file: fslock is already locked".to_owned();
        assert_eq!(listen(&path, 0o600).unwrap_err(), expected);
        connect(&path).unwrap();
        drop(first);
        assert!(path.exists());
        listen(&path, 0o600).unwrap();
    }

    #[test]
    fn a_half_closed_peer_has_not_hung_up() {
        let (near, far) = UnixStream::pair().unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_hung_up(&near));
        drop(far);
        assert!(is_hung_up(&near));
    }

    #[test]
    fn paths_longer_than_a_socket_address_work() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("z".repeat(80));
        let socket = listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = connect(&path).unwrap();
        socket.listener.accept().unwrap().0.write_all(b"hello").unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn what_is_in_the_way_is_removed_unless_it_holds_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        fs::write(&path, "x").unwrap();
        drop(listen(&path, 0o600).unwrap());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        drop(listen(&path, 0o600).unwrap());
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("precious")).unwrap();
        let text = listen(&path, 0o600).unwrap_err();
        assert!(text.starts_with("could not overwrite socket file: remove "), "{text}");
        assert!(text.ends_with("directory not empty"), "{text}");
        assert!(path.join("precious").exists());
        let text = listen(&dir.path().join("no/such"), 0o600).unwrap_err();
        assert!(text.ends_with("no such file or directory"), "{text}");
    }
}
