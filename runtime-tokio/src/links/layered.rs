//! Links with layers, TLS and WebSocket: their handshakes, and a task for each.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use receptor_core::id::{BackendId, TaskId};
use receptor_host::adapter::{
    Accepting, Dialing, FrameTask, Handshakes, Layered, LinkMaker, Over, PeerAt, Stream, Tls,
};
use receptor_host::error_text::os_text;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Connection, FLUSH_LIMIT, Linked, ListenerParts, NewLink, tcp};
use crate::arrivals::{Arrival, Arrivals};

/// What is below the layers.
struct Io(TcpStream);

impl Stream for Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(into);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Accepts for ever. Nobody's handshake holds up the next connection.
pub(crate) async fn accept(
    listener: &TcpListener,
    backend: BackendId,
    accepting: &Accepting,
    parts: &ListenerParts,
    arrivals: &Arrivals,
) {
    let ListenerParts { handshakes, links, .. } = parts;
    let handshakes = Handshakes::new(*handshakes);
    let mut tasks = JoinSet::new();
    loop {
        // Those that are done.
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, remote)) => {
                tcp::set_options(&stream);
                let place = handshakes.enter();
                let (accepting, links, arrivals) = (accepting.clone(), Arc::clone(links), arrivals.clone());
                let handshakes = handshakes.clone();
                tasks.spawn(async move {
                    let remote = remote.to_string();
                    let opened = tokio::select! {
                        biased;
                        () = poll_fn(|cx| place.poll_lost(cx)) => Err("too many handshakes are under way".to_owned()),
                        opened = open(stream, &remote, backend, &accepting, &links, &arrivals) => opened,
                    };
                    match opened {
                        // Of this task nothing may outlive the listener, of a link a little.
                        Ok(Some((layered, frames))) => drop(tokio::spawn(serve(layered, frames))),
                        Ok(None) => {}
                        Err(error) => handshakes.complain(&remote, &error),
                    }
                });
            }
            Err(error) => {
                tracing::warn!("accepting a TCP connection failed: {}", os_text(&error));
                sleep(tcp::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The handshakes of an accepted connection; then the driver gets its link. `None` if the driver is gone.
async fn open(
    stream: TcpStream,
    remote: &str,
    backend: BackendId,
    accepting: &Accepting,
    links: &LinkMaker,
    arrivals: &Arrivals,
) -> Result<Option<(Layered<Io>, FrameTask)>, String> {
    let mut layered = Layered::new(Io(stream), accepting.layers()?, true);
    let limit = accepting.limit();
    let done = timeout(limit, poll_fn(|cx| layered.poll_handshake(cx))).await;
    let done = done.unwrap_or_else(|_| Err(format!("handshake not done after {} s", limit.as_secs())));
    if let Err(error) = done {
        close(&mut layered).await;
        linger(layered).await;
        return Err(error);
    }
    let (driver, frames) = links.pipe();
    let linked = Linked {
        connection: NewLink::Layered(driver),
        remote: remote.to_owned(),
        certified: layered.certified(),
    };
    let told = arrivals.send(Arrival::Accepted(backend, linked)).await;
    Ok(told.is_ok().then_some((layered, frames)))
}

/// Dials over TCP, with layers or without, and reports the result of `task`.
pub(crate) async fn dial(task: TaskId, peer: PeerAt, tls: Arc<Tls>, links: Arc<LinkMaker>, arrivals: Arrivals) {
    let connected = timeout(Dialing::LIMIT, connect(&peer, &tls)).await;
    let connected = connected.unwrap_or_else(|_| Err(format!("dial tcp {}: i/o timeout", peer.address)));
    let (result, link) = match connected {
        Ok((Connected::Plain(connection), remote)) => {
            let connection = NewLink::Plain(connection);
            let linked = Linked {
                connection,
                remote,
                certified: None,
            };
            (Ok(linked), None)
        }
        Ok((Connected::Layered(layered), remote)) => {
            let (driver, frames) = links.pipe();
            let linked = Linked {
                connection: NewLink::Layered(driver),
                remote,
                certified: layered.certified(),
            };
            (Ok(linked), Some((layered, frames)))
        }
        Err(error) => (Err(error), None),
    };
    // If the driver is gone nobody needs the answer.
    if arrivals.send(Arrival::Dialed(task, result)).await.is_ok()
        && let Some((layered, frames)) = link
    {
        tokio::spawn(serve(*layered, frames));
    }
}

enum Connected {
    Plain(Box<dyn Connection>),
    Layered(Box<Layered<Io>>),
}

async fn connect(peer: &PeerAt, tls: &Tls) -> Result<(Connected, String), String> {
    let dialing = Dialing::new(peer, tls)?;
    let (stream, remote) = tcp::connect(&dialing.connect).await?;
    let Some(transport) = dialing.transport else {
        return Ok((Connected::Plain(Box::new(stream)), remote));
    };
    let mut layered = Layered::new(Io(stream), transport, dialing.is_verified);
    if let Err(error) = poll_fn(|cx| layered.poll_handshake(cx)).await {
        // The peer hears why.
        close(&mut layered).await;
        return Err(format!("dial {}: {error}", peer.address));
    }
    Ok((Connected::Layered(Box::new(layered)), remote))
}

/// Carries the frames of a link until it is over.
async fn serve(mut layered: Layered<Io>, frames: FrameTask) {
    match poll_fn(|cx| layered.poll_carry(cx, &frames)).await {
        Over::Gone(reason) => {
            frames.end(&reason);
            close(&mut layered).await;
        }
        Over::Closing => frames.end(close(&mut layered).await),
    }
    drop(frames);
    linger(layered).await;
}

/// Sends what is left and closes the sending half, within a second; says how that went.
async fn close(layered: &mut Layered<Io>) -> &'static str {
    match timeout(FLUSH_LIMIT, poll_fn(|cx| layered.poll_close(cx))).await {
        Ok(Ok(())) => "closed",
        Ok(Err(_)) => "closed; the connection broke before everything was sent",
        Err(_) => "closed; the peer did not take everything in time",
    }
}

/// Waits for the peer's end, a second at most.
async fn linger(mut layered: Layered<Io>) {
    // The end of the time is the end of the connection either way.
    let _ = timeout(FLUSH_LIMIT, poll_fn(|cx| layered.poll_linger(cx))).await;
}
