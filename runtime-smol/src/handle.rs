//! What an application does with its node.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use futures_lite::io::{AsyncRead, AsyncWrite};
use receptor_core::config::Config;
use receptor_core::firewall::Rules;
use receptor_core::id::{BackendId, NodeId, ServiceName};
use receptor_core::netceptor::TraceHop;
use receptor_core::node::Node;
use receptor_core::node::io::{Command, Reply};
use receptor_host::adapter::{
    self, DropFlag, End, Machine, MeshError, MeshEvent, Options, Pong, Quic, SecureEnd, StartError,
};
use receptor_host::{UnitStore, machine};

use crate::driver::{self, Parts};
use crate::links::{Connection, Foreign};
use crate::socket::{PacketSocket, SocketParts};
use crate::stream::MeshStream;
use crate::sync::{broadcast, mpsc, oneshot, watch};
use crate::task::{BoxFuture, Spawner, spawn_blocking};

/// Requests that may wait for the driver; who asks more waits.
const REQUESTS: usize = 64;

/// Events kept for one slow [`Events`].
const EVENTS: usize = 1024;

/// A running node. Clones are handles of the same node; it is shut down when the last handle, listener, socket and stream
/// is dropped.
#[derive(Clone, Debug)]
pub struct Mesh {
    node: KeepRunning,
    events: broadcast::WeakSender<MeshEvent>,
    end: watch::Receiver<Option<End>>,
}

/// As long as one exists, the node runs.
#[derive(Clone)]
pub(crate) struct KeepRunning(mpsc::Sender<Request>);

impl fmt::Debug for KeepRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("ended", &self.0.is_closed()).finish()
    }
}

/// What handles ask of the driver.
pub(crate) enum Request {
    Command(Command, oneshot::Sender<Reply>),
    Dial {
        node: String,
        service: String,
        tls: Option<String>,
        /// Gets the stream before it can be used: who dials does its handshake.
        stream: oneshot::Sender<SecureEnd>,
        reply: oneshot::Sender<Reply>,
    },
    Listen {
        service: String,
        advertise: Tags,
        tls: Option<String>,
        reply: oneshot::Sender<Result<ListenerParts, String>>,
    },
    OpenPort {
        service: String,
        advertise: Tags,
        reply: oneshot::Sender<Result<(ServiceName, SocketParts), String>>,
    },
    Attach {
        backend: BackendId,
        connection: Box<dyn Connection>,
        remote: String,
    },
    Shutdown,
}

/// Tags of an advertisement; `None` for a service that is not advertised.
type Tags = Option<Vec<(String, String)>>;

/// An accepted stream before it gets its handle.
pub(crate) type Accepted = (SecureEnd, Option<NodeId>);

/// What a listener is made of.
pub(crate) struct ListenerParts {
    pub(crate) service: ServiceName,
    pub(crate) queue: mpsc::Receiver<Accepted>,
    pub(crate) dropped: DropFlag,
}

impl Mesh {
    /// Starts a node on an executor and waits until its listeners are bound and it has begun to dial. `spawn` gives the
    /// executor a future and lets it run without waiting for it.
    pub async fn start(
        config: Config,
        options: Options,
        spawn: impl Fn(BoxFuture) + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let (mesh, started) = launch(config, options, Spawner::new(spawn)).await?;
        // The driver answers before it drops the sender, unless it died.
        match started.recv().await {
            Ok(Ok(())) => Ok(mesh),
            Ok(Err(text)) => Err(StartError::Start(text)),
            Err(_) => Err(StartError::Ended),
        }
    }

    /// Brings a connection for a backend of kind `External`. The same framing is spoken on it as on TCP. What becomes of
    /// it is seen in the status and the log.
    pub async fn attach<C>(&self, backend: BackendId, connection: C, remote: &str) -> Result<(), MeshError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = Box::new(Foreign(connection));
        self.request(Request::Attach {
            backend,
            connection,
            remote: remote.to_owned(),
        })
        .await
    }

    /// Opens a stream to a service of a node. It is encrypted, but neither end knows who is at the other.
    pub async fn dial(&self, node: &str, service: &str) -> Result<MeshStream, MeshError> {
        self.dial_with(node, service, None).await
    }

    /// The same with the TLS client config of this name: the node at the other end proves that it is this one.
    pub async fn dial_tls(&self, node: &str, service: &str, tls: &str) -> Result<MeshStream, MeshError> {
        self.dial_with(node, service, Some(tls.to_owned())).await
    }

    async fn dial_with(&self, node: &str, service: &str, tls: Option<String>) -> Result<MeshStream, MeshError> {
        let (stream, dialled) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        self.request(Request::Dial {
            node: node.to_owned(),
            service: service.to_owned(),
            tls,
            stream,
            reply,
        })
        .await?;
        let stream = dialled.recv().await.map_err(|_| MeshError::Closed)?;
        let mut answer = pin!(answer.recv());
        let answer = poll_fn(|cx| {
            // Whether it fails is in the answer.
            let _ = stream.poll_handshake(cx);
            answer.as_mut().poll(cx)
        });
        match answer.await.map_err(|_| MeshError::Closed)? {
            Reply::Error(text) => Err(MeshError::Refused(text)),
            _ if poll_fn(|cx| stream.poll_handshake(cx)).await => {
                Ok(MeshStream::new(stream, Some(NodeId::new(node)), self.node.clone()))
            }
            _ => Err(MeshError::Refused("stream was closed".to_owned())),
        }
    }

    /// Listens for streams, without telling the mesh; an empty name means a random one.
    pub async fn listen(&self, service: &str) -> Result<Listener, MeshError> {
        self.listen_with(service, None, None).await
    }

    /// Listens for streams and advertises the service with these tags.
    pub async fn listen_advertised(&self, service: &str, tags: Vec<(String, String)>) -> Result<Listener, MeshError> {
        self.listen_with(service, Some(tags), None).await
    }

    /// Listens for streams with the TLS server config of this name. With tags the service is advertised.
    pub async fn listen_tls(
        &self,
        service: &str,
        tags: Option<Vec<(String, String)>>,
        tls: &str,
    ) -> Result<Listener, MeshError> {
        self.listen_with(service, tags, Some(tls.to_owned())).await
    }

    async fn listen_with(&self, service: &str, advertise: Tags, tls: Option<String>) -> Result<Listener, MeshError> {
        let service = service.to_owned();
        let parts = self
            .ask(|reply| Request::Listen {
                service,
                advertise,
                tls,
                reply,
            })
            .await?;
        let ListenerParts {
            service,
            queue,
            dropped,
        } = parts.map_err(MeshError::Refused)?;
        Ok(Listener {
            service,
            queue,
            node: self.node.clone(),
            _dropped: dropped,
        })
    }

    /// Opens a datagram port, without telling the mesh; an empty name means a random one.
    pub async fn packet(&self, service: &str) -> Result<PacketSocket, MeshError> {
        self.packet_tagged(service, None).await
    }

    /// Opens a datagram port and advertises the service with these tags.
    pub async fn packet_advertised(
        &self,
        service: &str,
        tags: Vec<(String, String)>,
    ) -> Result<PacketSocket, MeshError> {
        self.packet_tagged(service, Some(tags)).await
    }

    async fn packet_tagged(&self, service: &str, advertise: Tags) -> Result<PacketSocket, MeshError> {
        let service = service.to_owned();
        let parts = self
            .ask(|reply| Request::OpenPort {
                service,
                advertise,
                reply,
            })
            .await?;
        let (service, parts) = parts.map_err(MeshError::Refused)?;
        Ok(PacketSocket::new(self.clone(), service, parts))
    }

    /// Pings a node.
    pub async fn ping(&self, node: &str) -> Result<Pong, MeshError> {
        match self
            .command(Command::Ping {
                target: node.to_owned(),
            })
            .await?
        {
            Reply::Pong { from, time } => Ok(Pong { from, time }),
            other => Err(unexpected(&other)),
        }
    }

    /// Pings every hop on the way to a node, the own node first.
    pub async fn traceroute(&self, node: &str) -> Result<Vec<TraceHop>, MeshError> {
        match self
            .command(Command::Traceroute {
                target: node.to_owned(),
            })
            .await?
        {
            Reply::Trace(hops) => Ok(hops),
            other => Err(unexpected(&other)),
        }
    }

    /// The whole status as the classic JSON document.
    pub async fn status(&self) -> Result<String, MeshError> {
        match self.command(Command::Status).await? {
            Reply::Json(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    /// Replaces the firewall rules, for every message from now on. No rules: everything is accepted.
    pub async fn set_firewall(&self, rules: Rules) -> Result<(), MeshError> {
        self.done(Command::SetFirewall(rules)).await
    }

    /// Reads the configuration again from the source in [`Options::config_source`] and applies what has changed. Refused, with
    /// everything as it was, if there is none, if what it gives cannot be had, or if another reload is under way.
    pub async fn reload(&self) -> Result<(), MeshError> {
        self.done(Command::Reload).await
    }

    async fn done(&self, command: Command) -> Result<(), MeshError> {
        match self.command(command).await? {
            Reply::Done => Ok(()),
            Reply::NotReloaded(error) => Err(MeshError::Refused(error.text)),
            other => Err(unexpected(&other)),
        }
    }

    /// Events from now on; none if the node has ended.
    pub fn events(&self) -> Events {
        Events {
            queue: self.events.subscribe(),
        }
    }

    /// Ends the node: what is queued for links is sent within a second, then everything is closed.
    pub async fn shutdown(&self) {
        // If the driver is gone already, so much the better.
        let _ = self.request(Request::Shutdown).await;
        self.closed().await;
    }

    /// Waits until the node has ended.
    pub async fn closed(&self) -> End {
        let ended = self.end.wait_for(Option::is_some).await;
        ended.ok().flatten().unwrap_or(End::Died)
    }

    /// Gives the node a command; a refusal is an error.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply, MeshError> {
        match self.ask(|reply| Request::Command(command, reply)).await? {
            Reply::Error(text) => Err(MeshError::Refused(text)),
            reply => Ok(reply),
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, MeshError> {
        let (reply, answer) = oneshot::channel();
        self.request(request(reply)).await?;
        answer.recv().await.map_err(|_| MeshError::Closed)
    }

    async fn request(&self, request: Request) -> Result<(), MeshError> {
        self.node.0.send(request).await.map_err(|_| MeshError::Closed)
    }
}

fn unexpected(reply: &Reply) -> MeshError {
    MeshError::Refused(format!("unexpected answer: {reply:?}"))
}

type Started = oneshot::Receiver<Result<(), String>>;

async fn launch(mut config: Config, options: Options, spawner: Spawner) -> Result<(Mesh, Started), StartError> {
    if config.memory_mib == 0 {
        config.memory_mib = machine::memory_mib();
        config.cpu_count = machine::cpu_count() as u64;
    }
    let seed = match options.seed {
        Some(seed) => seed,
        None => machine::random_seed().map_err(|error| StartError::Seed(error.to_string()))?,
    };
    let store = match options.data_dir.clone() {
        None => None,
        Some(dir) => {
            let node_id = config.node_id.clone();
            let opened = spawn_blocking(move || UnitStore::open(&dir, node_id.as_str())).await;
            let store = opened.unwrap_or_else(|_| Err("the data directory's thread died".to_owned()));
            Some(Arc::new(store.map_err(StartError::DataDir)?))
        }
    };
    let clock = crate::clock::Clock::new();
    config.quic = true;
    config.tls = options.tls.names();
    let tls = Arc::clone(&options.tls);
    let (quic, quic_task) = adapter::quic(config.limits.streams, seed, tls).map_err(StartError::Config)?;
    let node = Node::new(config, seed, clock.now()).map_err(|error| StartError::Config(error.to_string()))?;
    spawner.spawn(crate::quic::run(quic_task, clock));
    Ok(spawn(node, spawner, clock, store, Some(quic), options))
}

/// Runs a machine in a task of its own.
pub(crate) fn spawn<M: Machine>(
    machine: M,
    spawner: Spawner,
    clock: crate::clock::Clock,
    store: Option<Arc<UnitStore>>,
    quic: Option<Quic>,
    options: Options,
) -> (Mesh, Started) {
    let (requests_in, requests) = mpsc::channel(REQUESTS);
    let events = broadcast::channel(EVENTS);
    let (end_in, end) = watch::channel(None);
    let (started_in, started) = oneshot::channel();
    let weak_events = events.downgrade();
    let parts = Parts {
        spawner: spawner.clone(),
        clock,
        store,
        runner: options.runner,
        quic,
        tls: options.tls,
        config_source: options.config_source,
        requests,
        events,
        started: started_in,
    };
    spawner.spawn(async move {
        let end = driver::run(machine, parts).await;
        end_in.send(Some(end));
    });
    (
        Mesh {
            node: KeepRunning(requests_in),
            events: weak_events,
            end,
        },
        started,
    )
}

/// Accepts streams for one service. Dropping it ends the service.
#[derive(Debug)]
pub struct Listener {
    service: ServiceName,
    queue: mpsc::Receiver<Accepted>,
    node: KeepRunning,
    _dropped: DropFlag,
}

impl Listener {
    /// The service name given or chosen.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// The next stream; fails when the node has ended.
    pub async fn accept(&mut self) -> Result<MeshStream, MeshError> {
        let (stream, peer) = self.queue.recv().await.ok_or(MeshError::Closed)?;
        Ok(MeshStream::new(stream, peer, self.node.clone()))
    }
}

/// Events of a node, in order. A slow consumer loses the oldest and is told how many.
#[derive(Debug)]
pub struct Events {
    queue: broadcast::Receiver<MeshEvent>,
}

impl Events {
    /// The next event; `None` when the node has ended.
    pub async fn next(&mut self) -> Option<MeshEvent> {
        match self.queue.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::RecvError::Lagged(count)) => Some(MeshEvent::Lost(count)),
            Err(broadcast::RecvError::Closed) => None,
        }
    }
}
