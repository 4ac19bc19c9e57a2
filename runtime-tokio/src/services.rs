//! Sockets of services: listening, connecting, and carrying bytes between a socket and its pipe.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::arrivals::{Arrival, Arrivals};
use crate::links::tcp;

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
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds the listener of a service; its real address comes with it.
pub(crate) async fn listen(local: LocalListen) -> Result<(Listener, String), String> {
    let tls = match &local {
        LocalListen::Tcp { tls, .. } => tls.clone(),
        _ => None,
    };
    // Resolving a name may block.
    let bound = tokio::task::spawn_blocking(move || local_socket::listen(&local)).await;
    let LocalListener { socket, address, lock } = bound.map_err(|_| "the listener's thread died".to_owned())??;
    let socket = match socket {
        local_socket::ListenSocket::Tcp(socket) => TcpListener::from_std(socket).map(ListenSocket::Tcp),
        local_socket::ListenSocket::Unix(socket) => UnixListener::from_std(socket).map(ListenSocket::Unix),
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
pub(crate) async fn accept(listener: Listener, purpose: Purpose, arrivals: Arrivals, tls: Arc<Tls>) {
    let mut backoff = Backoff::default();
    let mut handshakes = Handshakes::default();
    loop {
        match accept_one(&listener).await {
            Ok((socket, remote)) => {
                backoff.on_success();
                if let Some(config) = &listener.tls {
                    let config = tls.link_server(config, &[]);
                    let secured = config.and_then(|config| Connection::server(socket, config));
                    handshakes.begin(secured, purpose, remote, &listener.address, &arrivals);
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
    under_way: VecDeque<oneshot::Sender<Infallible>>,
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
    ) {
        self.under_way.retain(|handshake| !handshake.is_closed());
        if self.under_way.len() >= LOCAL_HANDSHAKES {
            self.under_way.pop_front();
        }
        let (alive, dropped) = oneshot::channel();
        self.under_way.push_back(alive);
        let (address, arrivals, complaints) = (address.to_owned(), arrivals.clone(), self.complaints.clone());
        tokio::spawn(async move {
            let handshake = async {
                let mut connection = secured?;
                poll_fn(|cx| connection.poll_handshake(cx)).await?;
                Ok::<_, String>(connection)
            };
            tokio::select! {
                biased;
                done = timeout(LOCAL_HANDSHAKE_LIMIT, handshake) => match done {
                    // The driver is gone: nobody needs it.
                    Ok(Ok(connection)) => drop(arrivals.send(purpose.arrival(connection, remote)).await),
                    Ok(Err(text)) => complaints.warn(&format!("TLS handshake with {remote} on {address} failed: {text}")),
                    Err(_) => tracing::debug!("TLS handshake with {remote} on {address} took too long"),
                },
                _ = dropped => {}
            }
        });
    }
}

async fn accept_one(listener: &Listener) -> io::Result<(Socket, String)> {
    match &listener.socket {
        ListenSocket::Tcp(socket) => {
            let (stream, remote) = socket.accept().await?;
            local_socket::set_options(&stream);
            Ok((Socket::Tcp(stream), remote.to_string()))
        }
        ListenSocket::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            Ok((Socket::Unix(stream), LOCAL_CLIENT.to_owned()))
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
        return Ok(Connection::plain(Socket::Tcp(stream)));
    };
    let (host, _) = split_host_port(address)?;
    let (config, name) = tls.link_client(config, host, &[])?;
    let (stream, _) = tcp::connect(address).await?;
    let mut connection = Connection::client(Socket::Tcp(stream), config, name)?;
    let secured = poll_fn(|cx| connection.poll_handshake(cx)).await;
    secured.map_err(|text| format!("TLS handshake with {address} failed: {text}"))?;
    Ok(connection)
}

async fn connect_unix(path: &str) -> io::Result<Socket> {
    loop {
        match local_socket::connect_unix(Path::new(path)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(UNIX_PAUSE).await,
            connected => return UnixStream::from_std(connected?).map(Socket::Unix),
        }
    }
}

/// Opens an accepted stream, and serves it when its socket is connected.
pub(crate) async fn serve_accepted(socket: oneshot::Receiver<Connection>, end: SecureEnd) {
    if poll_fn(|cx| end.poll_handshake(cx)).await
        && let Ok(socket) = socket.await
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
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Self::Tcp(stream), true) => stream.poll_read_ready(cx),
            (Self::Tcp(stream), false) => stream.poll_write_ready(cx),
            (Self::Unix(stream), true) => stream.poll_read_ready(cx),
            (Self::Unix(stream), false) => stream.poll_write_ready(cx),
        }
    }

    fn try_io(&self, interest: Interest, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, call),
            Self::Unix(stream) => stream.try_io(interest, call),
        }
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        call: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            let mut count = None;
            let result = self.try_io(interest, || {
                let progress = call(self.as_fd())?;
                count = Some(progress.count);
                // Only in here the runtime knows which readiness was used up.
                if progress.exhausted {
                    return Err(ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (count, result) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
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
        self.poll(cx, Interest::READABLE, read)
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, Interest::WRITABLE, write)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
