//! Links over UDP: one socket for all that are accepted, one for each that is dialled.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use receptor_core::id::{BackendId, TaskId};
use receptor_host::adapter::{FrameTask, LinkMaker, Outgoing};
use receptor_host::error_text::os_text;
use receptor_host::udp::{self, Receiver};
use tokio::net::UdpSocket;

use super::tcp::ACCEPT_PAUSE;
use super::{Linked, ListenerParts, NewLink};
use crate::arrivals::{Arrival, Arrivals};

/// Between two looks whether the links of a closed listener have ended.
const CLOSE_PAUSE: Duration = Duration::from_millis(10);

/// The links of a listener, by the other end's address.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<SocketAddr, Arc<FrameTask>>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<FrameTask>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bound socket and the links over it.
pub(crate) struct Listener {
    socket: Arc<UdpSocket>,
    sessions: Sessions,
}

impl Listener {
    /// Binds; the real address comes with it.
    pub(crate) async fn bind(address: String) -> Result<(Self, String), String> {
        // Resolving a name may block.
        let bound = tokio::task::spawn_blocking(move || Ok::<_, String>((udp::listen(&address)?, address))).await;
        let (socket, address) = bound.map_err(|_| "the listener's thread died".to_owned())??;
        let failed = |error| format!("listen udp {address}: {}", os_text(&error));
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let listener = Self {
            socket: Arc::new(socket),
            sessions: Sessions::default(),
        };
        Ok((listener, local.to_string()))
    }

    /// Ends all links, and returns when the address is free, within a second.
    pub(crate) async fn close(self) {
        for session in self.sessions.lock().values() {
            session.end("the listener is closed");
        }
        for _ in 0..100 {
            if Arc::strong_count(&self.socket) == 1 {
                return;
            }
            tokio::time::sleep(CLOSE_PAUSE).await;
        }
    }

    /// Accepts for ever: a datagram from a new address is a new link, of which there is a limited number.
    pub(crate) async fn accept(&self, backend: BackendId, parts: &ListenerParts, arrivals: &Arrivals) {
        let Self { socket, sessions } = self;
        let ListenerParts { limit, links, .. } = parts;
        let mut receiver = Receiver::default();
        loop {
            let (count, from) = match socket.recv_from(receiver.room()).await {
                Ok(received) => received,
                Err(error) if udp::is_passing(&error) => continue,
                Err(error) => {
                    tracing::warn!("receiving datagrams failed: {}", os_text(&error));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(frame) = receiver.frame(count) else { continue };
            let known = sessions.lock().get(&from).cloned();
            if let Some(session) = known {
                session.deliver_or_lose(frame);
                continue;
            }
            if sessions.lock().len() >= *limit {
                continue;
            }
            let (driver, session) = links.pipe();
            session.deliver_or_lose(frame);
            let linked = Linked {
                connection: NewLink::Layered(driver),
                remote: from.to_string(),
                certified: None,
            };
            // Those that have a link do not wait for those that want one; the peer tries again.
            if arrivals.try_send(Arrival::Accepted(backend, linked)).is_err() {
                if arrivals.is_closed() {
                    return;
                }
                continue;
            }
            let session = Arc::new(session);
            sessions.lock().insert(from, Arc::clone(&session));
            let (socket, sessions) = (Arc::clone(socket), sessions.clone());
            tokio::spawn(async move {
                let reason = send(&session, &socket, Some(from)).await;
                sessions.lock().remove(&from);
                finish(&session, &from.to_string(), &reason);
            });
        }
    }
}

/// Dials and reports the result of `task`. Whether somebody is there, only a link can tell.
pub(crate) async fn dial(task: TaskId, address: String, links: Arc<LinkMaker>, arrivals: Arrivals) {
    let connected = match connect(address).await {
        Ok(connected) => connected,
        Err(error) => {
            // If the driver is gone nobody needs the answer.
            let _ = arrivals.send(Arrival::Dialed(task, Err(error))).await;
            return;
        }
    };
    let (socket, remote) = connected;
    let (driver, session) = links.pipe();
    let linked = Linked {
        connection: NewLink::Layered(driver),
        remote: remote.to_string(),
        certified: None,
    };
    if arrivals.send(Arrival::Dialed(task, Ok(linked))).await.is_err() {
        return;
    }
    tokio::spawn(async move {
        let reason = tokio::select! {
            reason = send(&session, &socket, None) => reason,
            reason = receive(&session, &socket) => reason,
        };
        finish(&session, &remote.to_string(), &reason);
    });
}

async fn connect(address: String) -> Result<(UdpSocket, SocketAddr), String> {
    // Resolving a name may block.
    let connected = tokio::task::spawn_blocking(move || udp::connect(&address)).await;
    let (socket, remote) = connected.map_err(|_| "the resolver's thread died".to_owned())??;
    let socket = UdpSocket::from_std(socket).map_err(|error| format!("dial udp {remote}: {}", os_text(&error)))?;
    Ok((socket, remote))
}

/// Receives for ever; the reason if the socket is of no more use.
async fn receive(session: &FrameTask, socket: &UdpSocket) -> String {
    let mut receiver = Receiver::default();
    loop {
        match socket.recv(receiver.room()).await {
            Ok(count) => {
                if let Some(frame) = receiver.frame(count) {
                    session.deliver_or_lose(frame);
                }
            }
            Err(error) if udp::is_passing(&error) => {}
            Err(error) => return os_text(&error),
        }
    }
}

/// Sends frames until the driver closes the link; the reason why it is over.
async fn send(session: &FrameTask, socket: &UdpSocket, to: Option<SocketAddr>) -> String {
    let mut frames = VecDeque::new();
    while poll_fn(|cx| session.poll_outgoing(cx, &mut frames)).await == Outgoing::Frames {
        for frame in frames.drain(..) {
            if !udp::fits(&frame) {
                session.count_lost();
                continue;
            }
            let sent = match to {
                Some(to) => socket.send_to(&frame, to).await,
                None => socket.send(&frame).await,
            };
            match sent {
                Ok(_) => {}
                Err(error) if udp::is_passing(&error) => session.count_lost(),
                Err(error) => return os_text(&error),
            }
        }
    }
    "closed".to_owned()
}

fn finish(session: &FrameTask, remote: &str, reason: &str) {
    let lost = session.lost();
    if lost > 0 {
        tracing::info!("link with {remote} lost {lost} datagrams for want of room");
    }
    session.end(reason);
}
