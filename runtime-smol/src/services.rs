//! Sockets of services: listening, connecting, and carrying bytes between a socket and its pipe.

use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Async;
use receptor_core::id::ServiceIndex;
use receptor_core::node::io::{LocalListen, LocalTarget};
use receptor_host::adapter::{LocalSocket, Progress, Proxy, SecureEnd, TICK};
use receptor_host::error_text::os_text;
use receptor_host::local_socket::{self, Backoff, LOCAL_CLIENT, LocalListener};
use receptor_host::socket_file::SocketLock;

use crate::arrivals::{Arrival, Arrivals};
use crate::links::tcp;
use crate::sync::oneshot;
use crate::task::spawn_blocking;
use crate::time::{sleep, timeout};

/// A connect that takes longer has failed, name resolution included.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Pause before a Unix socket is tried again on which too many others wait.
const UNIX_PAUSE: Duration = Duration::from_millis(20);

/// A listening socket of a service.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ListenSocket,
    address: String,
    /// Of the path of a Unix socket.
    _lock: Option<SocketLock>,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(Async<TcpListener>),
    Unix(Async<UnixListener>),
}

/// Binds the listener of a service; its real address comes with it.
pub(crate) async fn listen(local: LocalListen) -> Result<(Listener, String), String> {
    // Resolving a name may block.
    let bound = spawn_blocking(move || local_socket::listen(&local)).await;
    let LocalListener { socket, address, lock } = bound.map_err(|_| "the listener's thread died".to_owned())??;
    let socket = match socket {
        local_socket::ListenSocket::Tcp(socket) => Async::new(socket).map(ListenSocket::Tcp),
        local_socket::ListenSocket::Unix(socket) => Async::new(socket).map(ListenSocket::Unix),
    };
    let listener = Listener {
        socket: socket.map_err(|error| os_text(&error))?,
        address: address.clone(),
        _lock: lock,
    };
    Ok((listener, address))
}

/// Accepts for ever. Waiting for the driver is the back-pressure on those who connect.
pub(crate) async fn accept(listener: Listener, service: ServiceIndex, arrivals: Arrivals) {
    let mut backoff = Backoff::default();
    loop {
        match accept_one(&listener).await {
            Ok((socket, remote)) => {
                backoff.on_success();
                let arrival = Arrival::Service {
                    service,
                    socket,
                    remote,
                };
                if arrivals.send(arrival).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let pause = backoff.on_failure();
                if backoff.is_news() {
                    let (address, text) = (&listener.address, os_text(&error));
                    tracing::warn!("accepting a connection on {address} failed: {text}");
                }
                sleep(pause).await;
            }
        }
    }
}

async fn accept_one(listener: &Listener) -> io::Result<(Socket, String)> {
    match &listener.socket {
        ListenSocket::Tcp(socket) => {
            let (stream, remote) = socket.accept().await?;
            local_socket::set_options(&stream);
            Ok((Socket::tcp(stream), remote.to_string()))
        }
        ListenSocket::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            Ok((Socket::unix(stream), LOCAL_CLIENT.to_owned()))
        }
    }
}

/// Connects a socket for a service.
pub(crate) async fn connect(to: LocalTarget) -> Result<Socket, String> {
    match to {
        LocalTarget::Tcp { address, tls: None } => match timeout(CONNECT_LIMIT, tcp::connect(&address)).await {
            Ok(result) => result.map(|(stream, _)| Socket::tcp(stream)),
            Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        },
        LocalTarget::Unix { path } => match timeout(CONNECT_LIMIT, connect_unix(&path)).await {
            Ok(result) => result.map_err(|error| local_socket::dial_unix_text(&path, &error)),
            Err(_) => Err(format!("dial unix {path}: i/o timeout")),
        },
        other => Err(format!("this adapter cannot connect there: {other:?}")),
    }
}

async fn connect_unix(path: &str) -> io::Result<Socket> {
    loop {
        match local_socket::connect_unix(Path::new(path)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(UNIX_PAUSE).await,
            connected => return Async::new(connected?).map(Socket::unix),
        }
    }
}

/// Opens an accepted stream, and serves it when its socket is connected.
pub(crate) async fn serve_accepted(socket: oneshot::Receiver<Socket>, end: SecureEnd) {
    if poll_fn(|cx| end.poll_handshake(cx)).await
        && let Ok(socket) = socket.recv().await
    {
        serve(socket, end).await;
    }
}

/// Carries bytes both ways until both directions have ended or one side broke.
pub(crate) async fn serve(socket: Socket, end: SecureEnd) {
    let mut proxy = Proxy::new(socket, end);
    loop {
        let mut tick = pin!(None);
        let ended = poll_fn(|cx| {
            if proxy.poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if !proxy.wants_tick() {
                return Poll::Pending;
            }
            if tick.is_none() {
                tick.set(Some(sleep(TICK)));
            }
            match tick.as_mut().as_pin_mut() {
                Some(tick) => tick.poll(cx).map(|()| false),
                None => Poll::Pending,
            }
        })
        .await;
        if ended || proxy.tick().is_ready() {
            return;
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    /// The last call found nothing, or not all it could take: there is nothing before the reactor says so. Of one task
    /// only; atomic so that the task may change threads.
    drained: AtomicBool,
    full: AtomicBool,
}

#[derive(Debug)]
enum Stream {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl Socket {
    /// Nobody wants it any more.
    pub(crate) fn break_off(&self) {
        local_socket::break_off(LocalSocket::as_fd(self));
    }

    fn tcp(stream: Async<TcpStream>) -> Self {
        Self::new(Stream::Tcp(stream))
    }

    fn unix(stream: Async<UnixStream>) -> Self {
        Self::new(Stream::Unix(stream))
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            drained: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    fn poll(
        &self,
        exhausted: &AtomicBool,
        mut poll_ready: impl FnMut() -> Poll<io::Result<()>>,
        call: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if exhausted.load(Ordering::Relaxed) {
                ready!(poll_ready())?;
            }
            let result = call(self.as_fd());
            let is_exhausted = result.as_ref().map_or(true, |progress| progress.exhausted);
            exhausted.store(is_exhausted, Ordering::Relaxed);
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|progress| progress.count)),
            }
        }
    }
}

impl LocalSocket for Socket {
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        let poll_ready = || match &self.stream {
            Stream::Tcp(stream) => stream.poll_readable(cx),
            Stream::Unix(stream) => stream.poll_readable(cx),
        };
        self.poll(&self.drained, poll_ready, read)
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        let poll_ready = || match &self.stream {
            Stream::Tcp(stream) => stream.poll_writable(cx),
            Stream::Unix(stream) => stream.poll_writable(cx),
        };
        self.poll(&self.full, poll_ready, write)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
