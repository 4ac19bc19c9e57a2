//! The application's side of the driver: requests in, replies and events out.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use receptor_core::id::{CommandId, PortId, ServiceName};
use receptor_core::node::io::{Command, Event, Input, Level, Reply};
use receptor_host::adapter::{Datagram, DropFlag, End, Machine, MeshEvent, SecureEnd, Source, Unreachable};

use super::Driver;
use crate::handle::{Accepted, ListenerParts, Request};
use crate::links::{Linked, NewLink};
use crate::socket::{self, SocketParts, SocketSender};
use crate::sync::{broadcast, mpsc, oneshot};

/// Commands that may wait for their reply; then no more requests are taken.
const COMMANDS: usize = 4096;

/// Accepted streams that may wait in a listener; what comes then is closed.
const ACCEPT_QUEUE: usize = 64;

/// Who waits for what.
pub(super) struct App {
    events: broadcast::Sender<MeshEvent>,
    started: Option<oneshot::Sender<Result<(), String>>>,
    waiting: HashMap<CommandId, Waiting>,
    next_command: u64,
    listeners: HashMap<ServiceName, mpsc::Sender<Accepted>>,
    ports: HashMap<PortId, SocketSender>,
    next_port: u64,
}

/// What to do with a reply.
enum Waiting {
    Plain(oneshot::Sender<Reply>),
    Listener(oneshot::Sender<Result<ListenerParts, String>>),
    Port(
        PortId,
        SocketParts,
        oneshot::Sender<Result<(ServiceName, SocketParts), String>>,
    ),
    Nobody,
}

impl App {
    pub(super) fn new(events: broadcast::Sender<MeshEvent>, started: oneshot::Sender<Result<(), String>>) -> Self {
        Self {
            events,
            started: Some(started),
            waiting: HashMap::new(),
            next_command: 1,
            listeners: HashMap::new(),
            ports: HashMap::new(),
            next_port: 1,
        }
    }

    /// Whether one more pass of requests fits.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < COMMANDS
    }

    fn publish(&self, event: impl FnOnce() -> MeshEvent) {
        if self.events.has_receivers() {
            self.events.send(&event());
        }
    }
}

// An answer nobody waits for any more is dropped, and with it what it carries: a stream, a listener, a socket. Their
// drop is noticed like any other.
impl<M: Machine> Driver<M> {
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Command(command, reply) => self.command(command, Waiting::Plain(reply)),
            Request::Dial {
                node,
                service,
                tls,
                stream,
                reply,
            } => {
                let (pipe, local) = self.new_pipe();
                // Before the answer, which waits for the handshake that is done with it.
                drop(stream.send(SecureEnd::new(local, Arc::clone(&self.tls))));
                let dial = Command::Dial {
                    pipe,
                    node,
                    service,
                    tls,
                };
                self.command(dial, Waiting::Plain(reply));
            }
            Request::Listen {
                service,
                advertise,
                tls,
                reply,
            } => {
                let listen = Command::Listen {
                    service,
                    advertise,
                    tls,
                };
                self.command(listen, Waiting::Listener(reply));
            }
            Request::OpenPort {
                service,
                advertise,
                reply,
            } => {
                let port = PortId(self.app.next_port);
                self.app.next_port += 1;
                let dropped = DropFlag(self.ready.flag(Source::PortDropped(port)));
                let (sender, parts) = socket::socket(port, dropped);
                self.app.ports.insert(port, sender);
                self.command(
                    Command::OpenPort {
                        port,
                        service,
                        advertise,
                    },
                    Waiting::Port(port, parts, reply),
                );
            }
            Request::Attach {
                backend,
                connection,
                remote,
            } => {
                let linked = Linked {
                    connection: NewLink::Plain(connection),
                    remote,
                    certified: None,
                };
                self.on_link_up(backend, linked);
            }
            Request::Shutdown => self.end = Some(End::Shutdown),
        }
    }

    fn command(&mut self, command: Command, waiting: Waiting) {
        let id = CommandId(self.app.next_command);
        self.app.next_command += 1;
        self.app.waiting.insert(id, waiting);
        if let Err(error) = self.machine.handle(self.now, Input::Command(id, command)) {
            self.on_reply(id, Reply::Error(error.to_string()));
        }
    }

    pub(super) fn on_reply(&mut self, id: CommandId, reply: Reply) {
        let Some(waiting) = self.app.waiting.remove(&id) else {
            tracing::warn!("the node answered an unknown command: {reply:?}");
            return;
        };
        match waiting {
            Waiting::Nobody => {}
            Waiting::Plain(waiting) => drop(waiting.send(reply)),
            Waiting::Listener(waiting) => drop(waiting.send(service_of(reply).map(|service| {
                let (sender, queue) = mpsc::channel(ACCEPT_QUEUE);
                self.app.listeners.insert(service, sender);
                let dropped = DropFlag(self.ready.flag(Source::ListenerDropped(service)));
                ListenerParts {
                    service,
                    queue,
                    dropped,
                }
            }))),
            Waiting::Port(port, parts, waiting) => drop(waiting.send(match service_of(reply) {
                Ok(service) => Ok((service, parts)),
                Err(text) => {
                    // Never opened, so there is nothing to close.
                    self.app.ports.remove(&port);
                    Err(text)
                }
            })),
        }
    }

    /// The application let go of something.
    pub(super) fn on_dropped(&mut self, source: Source) {
        match source {
            Source::ListenerDropped(service) => {
                if self.app.listeners.remove(&service).is_some() {
                    self.command(Command::Unlisten { service }, Waiting::Nobody);
                }
            }
            Source::PortDropped(port) => {
                if self.app.ports.remove(&port).is_some() {
                    self.command(Command::ClosePort { port }, Waiting::Nobody);
                }
            }
            Source::Link(_) | Source::Pipe(_) | Source::Quic => {}
        }
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Started => {
                if let Some(started) = self.app.started.take() {
                    let _ = started.send(Ok(()));
                }
            }
            Event::StartFailed(text) => {
                if let Some(started) = self.app.started.take() {
                    let _ = started.send(Err(text.clone()));
                }
                self.end = Some(End::StartFailed(text));
            }
            Event::Reloaded(result) => self.reloading.end(&self.tls, result.is_ok()),
            Event::Duplicate => self.end = Some(End::Duplicate),
            Event::Log(level, text) => {
                log(level, &text);
                self.app.publish(|| MeshEvent::Log(level, text.into()));
            }
            Event::RoutesChanged => self.app.publish(|| MeshEvent::RoutesChanged),
            Event::Accepted { service, pipe, from } => {
                let stream = SecureEnd::new(self.add_pipe(pipe), Arc::clone(&self.tls));
                if let Some(listener) = self.app.listeners.get(&service).cloned() {
                    // One slow handshake keeps nobody else waiting.
                    self.spawner.spawn(async move {
                        if poll_fn(|cx| stream.poll_handshake(cx)).await {
                            // A full queue drops the stream, which closes it.
                            let _ = listener.try_send((stream, from));
                        }
                    });
                }
            }
            Event::Datagram {
                port,
                from,
                from_service,
                data,
            } => {
                if let Some(socket) = self.app.ports.get(&port) {
                    socket.send(Ok(Datagram {
                        from,
                        from_service,
                        data,
                    }));
                }
            }
            Event::Unreachable {
                port,
                from,
                to,
                to_service,
                problem,
            } => {
                if let Some(socket) = self.app.ports.get(&port) {
                    socket.send(Err(Unreachable {
                        from,
                        to,
                        to_service,
                        problem,
                    }));
                }
            }
            other => tracing::debug!("unknown event: {other:?}"),
        }
    }
}

fn service_of(reply: Reply) -> Result<ServiceName, String> {
    match reply {
        Reply::Service(service) => Ok(service),
        Reply::Error(text) => Err(text),
        other => Err(format!("unexpected answer: {other:?}")),
    }
}

fn log(level: Level, text: &str) {
    match level {
        Level::Error => tracing::error!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
        Level::Info => tracing::info!("{text}"),
        Level::Debug => tracing::debug!("{text}"),
    }
}
