//! Sockets of services: listening, connecting, and carrying bytes between a socket and its pipe.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Async;
use futures_lite::future::or;
use receptor_core::id::ServiceIndex;
use receptor_core::node::io::{LocalListen, LocalTarget};
use receptor_host::adapter::{
    LOCAL_HANDSHAKE_LIMIT, LOCAL_HANDSHAKES, LocalConnection, LocalSocket, Progress, Proxy, SecureEnd,
    SharedComplaints, TICK, Tls,
};
use receptor_host::error_text::os_text;
use receptor_host::local_socket::{self, Backoff, LOCAL_CLIENT, LocalListener};
use receptor_host::socket_file::SocketLock;
use receptor_host::tcp::split_host_port;

use crate::arrivals::{Arrival, Arrivals};
use crate::links::tcp;
use crate::sync::oneshot;
use crate::task::{Spawner, spawn_blocking};
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
    /// TLS server config of what is accepted.
    tls: Option<String>,
    /// Of the path of a Unix socket.
    _lock: Option<SocketLock>,
}

/// What accepted connections are for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A control service.
    Control,
    /// A service.
    Service(ServiceIndex),
}

impl Purpose {
    fn arrival(self, socket: Connection, remote: String) -> Arrival {
        match self {
            Self::Control => Arrival::ControlTcp(socket),
            Self::Service(service) => Arrival::Service {
                service,
                socket,
                remote,
            },
        }
    }
}

/// A socket and its TLS.
pub(crate) type Connection = LocalConnection<Socket>;

#[derive(Debug)]
enum ListenSocket {
    Tcp(Async<TcpListener>),
    Unix(Async<UnixListener>),
}

/// Binds the listener of a service; its real address comes with it.
pub(crate) async fn listen(local: LocalListen) -> Result<(Listener, String), String> {
    let tls = match &local {
        LocalListen::Tcp { tls, .. } => tls.clone(),
        _ => None,
    };
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
        tls,
        _lock: lock,
    };
    Ok((listener, address))
}

/// Accepts for ever. Waiting for the driver is the back-pressure on those who connect.
pub(crate) async fn accept(listener: Listener, purpose: Purpose, arrivals: Arrivals, tls: Arc<Tls>, spawner: Spawner) {
    let mut backoff = Backoff::default();
    let mut handshakes = Handshakes::default();
    loop {
        match accept_one(&listener).await {
            Ok((socket, remote)) => {
                backoff.on_success();
                if let Some(config) = &listener.tls {
                    let config = tls.link_server(config, &[]);
                    let secured = config.and_then(|config| Connection::server(socket, config));
                    handshakes.begin(secured, purpose, remote, &listener.address, &arrivals, &spawner);
                } else {
                    let arrival = purpose.arrival(Connection::plain(socket), remote);
                    if arrivals.send(arrival).await.is_err() {
                        return;
                    }
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

/// The handshakes of one listener, oldest first. Each ends when its sender is dropped.
#[derive(Default)]
struct Handshakes {
    under_way: VecDeque<async_channel::Sender<Infallible>>,
    complaints: SharedComplaints,
}

impl Handshakes {
    fn begin(
        &mut self,
        secured: Result<Connection, String>,
        purpose: Purpose,
        remote: String,
        address: &str,
        arrivals: &Arrivals,
        spawner: &Spawner,
    ) {
        self.under_way.retain(|handshake| !handshake.is_closed());
        if self.under_way.len() >= LOCAL_HANDSHAKES {
            self.under_way.pop_front();
        }
        let (alive, dropped) = async_channel::bounded(1);
        self.under_way.push_back(alive);
        let (address, arrivals, complaints) = (address.to_owned(), arrivals.clone(), self.complaints.clone());
        spawner.spawn(async move {
            let handshake = async {
                let mut connection = secured?;
                poll_fn(|cx| connection.poll_handshake(cx)).await?;
                Ok::<_, String>(connection)
            };
            let whole = async {
                match timeout(LOCAL_HANDSHAKE_LIMIT, handshake).await {
                    // The driver is gone: nobody needs it.
                    Ok(Ok(connection)) => drop(arrivals.send(purpose.arrival(connection, remote)).await),
                    Ok(Err(text)) => {
                        complaints.warn(&format!("TLS handshake with {remote} on {address} failed: {text}"))
                    }
                    Err(_) => tracing::debug!("TLS handshake with {remote} on {address} took too long"),
                }
            };
            let dropped = async {
                // Nothing is ever sent.
                let _ = dropped.recv().await;
            };
            or(whole, dropped).await;
        });
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

/// Connects a socket for a service, and does its handshake.
pub(crate) async fn connect(to: LocalTarget, tls: Arc<Tls>) -> Result<Connection, String> {
    match to {
        LocalTarget::Tcp { address, tls: config } => {
            let connected = connect_tcp(&address, config.as_deref().map(|config| (config, &*tls)));
            let too_late = |_| Err(format!("dial tcp {address}: i/o timeout"));
            timeout(CONNECT_LIMIT, connected).await.unwrap_or_else(too_late)
        }
        LocalTarget::Unix { path } => match timeout(CONNECT_LIMIT, connect_unix(&path)).await {
            Ok(result) => match result {
                Ok(socket) => Ok(Connection::plain(socket)),
                Err(error) => Err(local_socket::dial_unix_text(&path, &error)),
            },
            Err(_) => Err(format!("dial unix {path}: i/o timeout")),
        },
        other => Err(format!("this adapter cannot connect there: {other:?}")),
    }
}

async fn connect_tcp(address: &str, tls: Option<(&str, &Tls)>) -> Result<Connection, String> {
    let Some((config, tls)) = tls else {
        let (stream, _) = tcp::connect(address).await?;
        return Ok(Connection::plain(Socket::tcp(stream)));
    };
    let (host, _) = split_host_port(address)?;
    let (config, name) = tls.link_client(config, host, &[])?;
    let (stream, _) = tcp::connect(address).await?;
    let mut connection = Connection::client(Socket::tcp(stream), config, name)?;
    let secured = poll_fn(|cx| connection.poll_handshake(cx)).await;
    secured.map_err(|text| format!("TLS handshake with {address} failed: {text}"))?;
    Ok(connection)
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
pub(crate) async fn serve_accepted(socket: oneshot::Receiver<Connection>, end: SecureEnd) {
    if poll_fn(|cx| end.poll_handshake(cx)).await
        && let Ok(socket) = socket.recv().await
    {
        serve(socket, end).await;
    }
}

/// Carries bytes both ways until both directions have ended or one side broke.
pub(crate) async fn serve(socket: Connection, end: SecureEnd) {
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
