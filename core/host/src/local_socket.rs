//! Sockets of services: accepted, connected, read and written without blocking. An adapter adds the waiting.

use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use receptor_core::node::io::LocalListen;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use socket2::SockRef;

use crate::error_text::os_text;
use crate::socket_file::{self, SocketLock};
use crate::tcp;
use crate::unix_path::ShortPath;

/// A bound listener of a service, not blocking.
#[derive(Debug)]
pub struct LocalListener {
    /// Accepts connections.
    pub socket: ListenSocket,
    /// Where it listens, with the real port.
    pub address: String,
    /// Holds the path of a Unix socket.
    pub lock: Option<SocketLock>,
}

/// The socket of a listener.
#[derive(Debug)]
pub enum ListenSocket {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Who has connected to a Unix socket, for logs.
pub const LOCAL_CLIENT: &str = "a local client";

/// Binds the listener of a service; blocks on the name server if the host is a name.
///
/// # Errors
/// The system's words; which listener it was, the node adds.
pub fn listen(local: &LocalListen) -> Result<LocalListener, String> {
    let failed = |error: io::Error| os_text(&error);
    match local {
        LocalListen::Tcp { bind, .. } => {
            let socket = tcp::listen(bind)?;
            socket.set_nonblocking(true).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?.to_string();
            Ok(LocalListener {
                socket: ListenSocket::Tcp(socket),
                address,
                lock: None,
            })
        }
        LocalListen::Unix { path, mode } => {
            let file = socket_file::listen(Path::new(path), *mode)?;
            file.listener.set_nonblocking(true).map_err(failed)?;
            Ok(LocalListener {
                socket: ListenSocket::Unix(file.listener),
                address: path.clone(),
                lock: Some(file.lock),
            })
        }
        other => Err(format!("this adapter cannot listen there: {other:?}")),
    }
}

/// Sets the options of an accepted TCP connection.
pub fn set_options(stream: &impl AsFd) {
    if let Err(error) = tcp::set_link_options(stream) {
        // Only speed is at stake; a broken socket is found by its first read.
        tracing::debug!("setting TCP options failed: {}", os_text(&error));
    }
}

/// Connects to the Unix socket at `path`, which may be longer than a socket address. [`io::ErrorKind::WouldBlock`] means
/// that too many others wait to be accepted there.
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(path)?;
    let address = SocketAddrUnix::new(short.as_path().as_os_str().as_bytes())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

/// Why a Unix socket could not be connected, in the classic words.
pub fn dial_unix_text(path: &str, error: &io::Error) -> String {
    format!("dial unix {path}: connect: {}", os_text(error))
}

/// Reads once, at most what `buffer` has room for, to its end. Nothing is the end of the stream.
pub fn read(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&socket, spare_capacity(buffer), RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok((count, _)) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes once what can be written of `parts`.
pub fn write(socket: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        // Not `writev`: who embeds a node need not ignore SIGPIPE.
        match rustix::net::sendmsg(&socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Ends the sending direction.
pub fn shut_down(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?)
}

/// Makes the close that follows look like what it is: the other end must not take what it has for everything.
pub fn break_off(socket: impl AsFd) {
    // Only TCP knows this; elsewhere it is harmless.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Pauses between accepts that fail.
#[derive(Default, Debug)]
pub struct Backoff {
    failures: u32,
}

/// The first pause.
const PAUSE_FIRST: Duration = Duration::from_millis(20);

/// The longest.
const PAUSE_MOST: Duration = Duration::from_secs(1);

impl Backoff {
    /// An accept succeeded.
    pub fn on_success(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after a failure: mostly there are no file descriptors left, and trying at once would only spin.
    pub fn on_failure(&mut self) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MOST);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Whether this failure is worth a line in the log.
    pub fn is_news(&self) -> bool {
        self.failures.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn accept_tcp(listener: &LocalListener) -> io::Result<TcpStream> {
        match &listener.socket {
            ListenSocket::Tcp(socket) => socket.accept().map(|(stream, _)| stream),
            ListenSocket::Unix(_) => unreachable!(),
        }
    }

    fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = listen(&LocalListen::Tcp {
            tls: None,
            bind: "127.0.0.1:0".into(),
        })
        .unwrap();
        assert_eq!(accept_tcp(&listener).unwrap_err().kind(), ErrorKind::WouldBlock);
        let client = TcpStream::connect(&listener.address).unwrap();
        let accepted = loop {
            match accept_tcp(&listener) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => break accepted.unwrap(),
            }
        };
        accepted.set_nonblocking(true).unwrap();
        set_options(&accepted);
        (accepted, client)
    }

    #[test]
    fn bytes_go_both_ways_in_parts_and_each_end_is_seen() {
        let (socket, mut client) = tcp_pair();
        let mut buffer = Vec::with_capacity(16);
        assert_eq!(read(&socket, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        while match read(&socket, &mut buffer) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        } {}
        assert_eq!(buffer, b"question");
        assert_eq!(
            write(&socket, &[IoSlice::new(b"an"), IoSlice::new(b"swer")]).unwrap(),
            6
        );
        shut_down(&socket).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
    }

    #[test]
    fn a_connection_broken_off_is_no_ordinary_end() {
        let (socket, mut client) = tcp_pair();
        write(&socket, &[IoSlice::new(b"half of it")]).unwrap();
        break_off(&socket);
        drop(socket);
        let error = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn writing_to_nobody_is_an_error_and_no_signal() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let error = write(&near, &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn unix_sockets_are_connected_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(100)).join("socket");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let text = path.to_str().unwrap().to_owned();
        let missing = connect_unix(&path).unwrap_err();
        assert_eq!(
            dial_unix_text(&text, &missing),
            format!("dial unix {text}: connect: no such file or directory")
        );
        let listener = listen(&LocalListen::Unix {
            path: text.clone(),
            mode: 0o600,
        })
        .unwrap();
        assert_eq!(listener.address, text);
        let client = connect_unix(&path).unwrap();
        let ListenSocket::Unix(socket) = &listener.socket else {
            panic!("{listener:?}")
        };
        let (accepted, _) = socket.accept().unwrap();
        assert_eq!(write(&accepted, &[IoSlice::new(b"hello")]).unwrap(), 5);
        let mut buffer = Vec::with_capacity(8);
        assert_eq!(read(&client, &mut buffer).unwrap(), 5);
    }

    #[test]
    fn pauses_grow_to_a_second_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.on_failure().as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.on_success();
        assert_eq!(backoff.on_failure(), PAUSE_FIRST);
    }
}
