//! Datagrams between services.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use receptor_core::id::{PortId, ServiceName};
use receptor_core::node::io::Command;
use receptor_host::adapter::{Datagram, DropFlag, MeshError, ReceiveError, Unreachable};

use crate::handle::Mesh;
use crate::sync::mpsc;

/// Datagrams that may wait in a socket; what comes then is lost, as datagrams may be.
pub(crate) const SOCKET_QUEUE: usize = 256;

/// Hops a datagram may take unless told otherwise.
const HOPS: u8 = 30;

/// The driver's side of a socket.
#[derive(Debug)]
pub(crate) struct SocketSender {
    queue: mpsc::Sender<Result<Datagram, Unreachable>>,
    lost: Arc<AtomicU64>,
}

impl SocketSender {
    pub(crate) fn send(&self, message: Result<Datagram, Unreachable>) {
        if self.queue.try_send(message).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the application's side of a socket is made of.
#[derive(Debug)]
pub(crate) struct SocketParts {
    port: PortId,
    queue: mpsc::Receiver<Result<Datagram, Unreachable>>,
    lost: Arc<AtomicU64>,
    _dropped: DropFlag,
}

/// Both sides of a socket.
pub(crate) fn socket(port: PortId, dropped: DropFlag) -> (SocketSender, SocketParts) {
    let (sender, receiver) = mpsc::channel(SOCKET_QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let parts = SocketParts {
        port,
        queue: receiver,
        lost: Arc::clone(&lost),
        _dropped: dropped,
    };
    (SocketSender { queue: sender, lost }, parts)
}

/// A datagram port of this node. Sending and receiving need no exclusive access. Dropping it closes the port.
#[derive(Debug)]
pub struct PacketSocket {
    mesh: Mesh,
    service: ServiceName,
    port: PortId,
    queue: mpsc::Receiver<Result<Datagram, Unreachable>>,
    lost: Arc<AtomicU64>,
    _dropped: DropFlag,
}

impl PacketSocket {
    pub(crate) fn new(mesh: Mesh, service: ServiceName, parts: SocketParts) -> Self {
        let SocketParts {
            port,
            queue,
            lost,
            _dropped,
        } = parts;
        Self {
            mesh,
            service,
            port,
            queue,
            lost,
            _dropped,
        }
    }

    /// The service name given or chosen.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// Sends a datagram, which may be lost on its way.
    pub async fn send_to(&self, data: impl Into<Bytes>, node: &str, service: &str) -> Result<(), MeshError> {
        self.send_with_hops(data, node, service, HOPS).await
    }

    /// Sends a datagram that dies after so many hops, 30 at most.
    pub async fn send_with_hops(
        &self,
        data: impl Into<Bytes>,
        node: &str,
        service: &str,
        hops: u8,
    ) -> Result<(), MeshError> {
        let (node, service) = (node.to_owned(), service.to_owned());
        let command = Command::Send {
            port: self.port,
            node,
            service,
            data: data.into(),
            hops,
        };
        self.mesh.command(command).await.map(drop)
    }

    /// The next datagram, or word that one of ours did not arrive.
    pub async fn recv_from(&self) -> Result<Datagram, ReceiveError> {
        let message = self.queue.recv().await.ok_or(ReceiveError::Closed)?;
        Ok(message?)
    }

    /// Messages lost because they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
