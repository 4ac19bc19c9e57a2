//! Local sockets, TCP or Unix, as a test connects to a service and as it is connected to by one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::PATIENCE;

/// Where somebody listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A TCP port of 127.0.0.1.
    Tcp(u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A listener of a test.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// A connected socket, which waits at most [`PATIENCE`] for anything.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Place {
    /// Listens there.
    pub fn listen(&self) -> Listener {
        match self {
            Self::Tcp(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map(Listener::Tcp),
            Self::Unix(path) => UnixListener::bind(path).map(Listener::Unix),
        }
        .unwrap_or_else(|error| panic!("listening on {self:?}: {error}"))
    }

    /// Connects.
    pub fn connect(&self) -> Socket {
        self.try_connect()
            .unwrap_or_else(|error| panic!("connecting to {self:?}: {error}"))
    }

    /// Connects, if somebody listens.
    pub fn try_connect(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp(port) => Socket::Tcp(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?),
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.with_patience()
    }
}

impl Listener {
    /// The next connection, within [`PATIENCE`].
    pub fn accept(&self) -> Socket {
        self.accept_within(PATIENCE)
            .unwrap_or_else(|| panic!("nobody connects within {PATIENCE:?}"))
    }

    /// The next connection, if it comes in time.
    pub fn accept_within(&self, limit: Duration) -> Option<Socket> {
        let limit = Timespec::try_from(limit).expect("a time that fits");
        let ready = poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&limit));
        if ready.expect("a listener can be polled") == 0 {
            return None;
        }
        let socket = match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        };
        Some(socket.and_then(Socket::with_patience).expect("somebody connects"))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Socket {
    fn with_patience(self) -> io::Result<Self> {
        self.set_read_limit(PATIENCE)?;
        match &self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(PATIENCE)),
            Self::Unix(stream) => stream.set_write_timeout(Some(PATIENCE)),
        }?;
        Ok(self)
    }

    /// How long a read waits.
    pub fn set_read_limit(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// Ends our direction.
    pub fn finish(&self) {
        let ended = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        ended.expect("a connected socket");
    }

    /// Everything up to the end of the other direction.
    pub fn read_all(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let (mut socket, count) = (self, &mut all);
        socket.read_to_end(count).expect("an end, and no break");
        all
    }

    /// Breaks off: the other side sees a reset and no end.
    pub fn break_off(self) {
        receptor_host::local_socket::break_off(&self);
    }

    /// Waits for the end or the break of the other direction, of which nothing more is wanted; the error if it broke.
    ///
    /// # Panics
    /// If neither comes.
    pub fn until_over(&self) -> Option<ErrorKind> {
        let mut socket = self;
        let mut buffer = [0; 4096];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("neither an end nor a break within {PATIENCE:?}")
                }
                Err(error) => return Some(error.kind()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(buffer),
            Socket::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(data),
            Socket::Unix(stream) => (&mut &*stream).write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
