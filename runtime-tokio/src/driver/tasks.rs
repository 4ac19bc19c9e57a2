//! Tasks of the node: each is started here and answered exactly once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use receptor_core::config::PeerTransport;
use receptor_core::id::TaskId;
use receptor_core::node::io::{Input, Layer, LinkInput, LocalListen, PipeInput, Task, TaskResult};
use receptor_host::UnitStore;
use receptor_host::adapter::{Machine, PeerAt, SecureEnd, read_config, sign_token, verify_token};
use tokio::sync::oneshot;

use super::Driver;
use crate::arrivals::Arrival;
use crate::control;
use crate::links::{Linked, Listener, ListenerParts, layered, udp};
use crate::runner;
use crate::services::{self, Purpose};

impl<M: Machine> Driver<M> {
    pub(super) fn on_task(&mut self, id: TaskId, task: Task) {
        let arrivals = self.arrivals_in.clone();
        match task {
            Task::Listen {
                backend,
                address,
                transport,
                handshakes,
                links: limit,
            } => {
                let (stop, stopped) = oneshot::channel();
                self.listeners.insert(backend, stop);
                let parts = ListenerParts {
                    handshakes,
                    limit,
                    links: Arc::clone(&self.link_maker),
                    tls: Arc::clone(&self.tls),
                };
                self.tasks.spawn(async move {
                    let (result, listener) = listening(Listener::bind(address, transport, parts).await);
                    let told = arrivals.send(Arrival::Done(id, result)).await;
                    if let (Ok(()), Some(listener)) = (told, listener) {
                        let asked = tokio::select! {
                            biased;
                            asked = stopped => asked.ok(),
                            () = listener.accept(backend, &arrivals) => None,
                        };
                        listener.close().await;
                        if let Some(id) = asked {
                            let _ = arrivals.send(Arrival::Done(id, TaskResult::Unlistened)).await;
                        }
                    }
                });
            }
            Task::Unlisten { backend } => {
                let listener = self.listeners.remove(&backend);
                if listener.is_none_or(|listener| listener.send(id).is_err()) {
                    self.input(Input::Done(id, TaskResult::Unlistened));
                }
            }
            Task::Reload => {
                let source = self.config_source.clone();
                tokio::task::spawn_blocking(move || {
                    let read = read_config(source.as_deref());
                    // The driver is gone: nobody needs the answer.
                    let _ = arrivals.blocking_send(Arrival::ConfigRead(id, read));
                });
            }
            Task::Dial {
                address,
                transport: PeerTransport::Udp,
                ..
            } => {
                let links = Arc::clone(&self.link_maker);
                self.tasks.spawn(udp::dial(id, address, links, arrivals));
            }
            Task::Dial {
                address,
                transport,
                proxy,
                ..
            } => {
                let peer = PeerAt {
                    address,
                    transport,
                    proxy,
                };
                let (links, tls) = (Arc::clone(&self.link_maker), Arc::clone(&self.tls));
                self.tasks.spawn(layered::dial(id, peer, tls, links, arrivals));
            }
            Task::ListenControl { path, mode } => {
                self.tasks.spawn(async move {
                    let bound = control::listen(path.clone(), mode).await;
                    let (result, listener) = listening(bound.map(|listener| (listener, path)));
                    let told = arrivals.send(Arrival::Done(id, result)).await;
                    if let (Ok(()), Some(listener)) = (told, listener) {
                        control::accept(listener, arrivals).await;
                    }
                });
            }
            Task::ListenControlTcp { address: bind, tls } => {
                let configs = Arc::clone(&self.tls);
                self.tasks.spawn(async move {
                    let (result, listener) = listening(services::listen(LocalListen::Tcp { bind, tls }).await);
                    let told = arrivals.send(Arrival::Done(id, result)).await;
                    if let (Ok(()), Some(listener)) = (told, listener) {
                        services::accept(listener, Purpose::Control, arrivals, configs).await;
                    }
                });
            }
            Task::ListenService { service, local } => {
                let tls = Arc::clone(&self.tls);
                self.tasks.spawn(async move {
                    let (result, listener) = listening(services::listen(local).await);
                    let told = arrivals.send(Arrival::Done(id, result)).await;
                    if let (Ok(()), Some(listener)) = (told, listener) {
                        services::accept(listener, Purpose::Service(service), arrivals, tls).await;
                    }
                });
            }
            Task::Connect { pipe, to } => {
                let tls = Arc::clone(&self.tls);
                self.tasks.spawn(async move {
                    let result = services::connect(to, tls).await;
                    // The driver is gone: nobody needs the answer.
                    let _ = arrivals.send(Arrival::Connected(id, pipe, result)).await;
                });
            }
            Task::LoadEpoch => self.on_disk(id, TaskResult::Epoch(None), |store| {
                store.load_epoch().map(TaskResult::Epoch)
            }),
            Task::StoreEpoch(epoch) => self.on_disk(id, TaskResult::Stored, move |store| {
                store.store_epoch(epoch).map(|()| TaskResult::Stored)
            }),
            Task::ScanUnits => self.on_disk(id, TaskResult::Units(Default::default()), |store| {
                let scan = store.scan()?;
                scan.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
                Ok(TaskResult::Units(scan.into_stored()))
            }),
            Task::Sign { key_file, claims } => self.on_thread(id, move || sign_token(&key_file, &claims)),
            Task::Verify { key_file, token } => self.on_thread(id, move || verify_token(&key_file, &token)),
            Task::Unit(unit, deed) => self.units.submit(id, unit, deed),
            other => {
                let text = format!("this adapter cannot do that: {other:?}");
                self.input(Input::Done(id, TaskResult::Failed(text)));
            }
        }
    }

    /// Answers from the disk; without a data directory with `without`.
    fn on_disk(
        &mut self,
        id: TaskId,
        without: TaskResult,
        job: impl FnOnce(&UnitStore) -> Result<TaskResult, String> + Send + 'static,
    ) {
        let Some(store) = self.store.clone() else {
            return self.input(Input::Done(id, without));
        };
        self.on_thread(id, move || job(&store).unwrap_or_else(TaskResult::Failed));
    }

    /// Answers from a thread that may block.
    fn on_thread(&self, id: TaskId, job: impl FnOnce() -> TaskResult + Send + 'static) {
        let arrivals = self.arrivals_in.clone();
        tokio::task::spawn_blocking(move || {
            let result = catch_unwind(AssertUnwindSafe(job));
            let result = result.unwrap_or_else(|_| TaskResult::Failed("a task died: this is a bug".to_owned()));
            // The driver is gone: nobody needs the answer.
            let _ = arrivals.blocking_send(Arrival::Done(id, result));
        });
    }

    pub(super) fn on_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Accepted(backend, linked) => self.on_link_up(backend, linked),
            Arrival::Dialed(id, Ok(linked)) => {
                let Linked {
                    connection,
                    remote,
                    certified,
                } = linked;
                let link = self.add_link(connection);
                let dialed = TaskResult::Dialed {
                    link,
                    remote,
                    certified,
                };
                self.input(Input::Done(id, dialed));
                self.on_link_woken(link);
            }
            Arrival::Dialed(id, Err(text)) => self.input(Input::Done(id, TaskResult::Failed(text))),
            Arrival::LinkClosed(link, reason) => {
                self.input(Input::Link(
                    link,
                    LinkInput::Down {
                        reason: reason.to_owned(),
                    },
                ));
            }
            Arrival::Control(stream) => {
                let (pipe, local) = self.new_pipe();
                self.input(Input::Pipe(pipe, PipeInput::OpenControl { is_local: true }));
                tokio::spawn(control::serve(stream, local));
            }
            Arrival::ControlTcp(socket) => {
                let (pipe, local) = self.new_pipe();
                self.input(Input::Pipe(pipe, PipeInput::OpenControl { is_local: false }));
                let end = SecureEnd::begun(local, Arc::clone(&self.tls), &Layer::Plain);
                tokio::spawn(services::serve(socket, end));
            }
            Arrival::Service {
                service,
                socket,
                remote,
            } => {
                let (pipe, local) = self.new_pipe();
                self.input(Input::Pipe(pipe, PipeInput::OpenService { service, remote }));
                tokio::spawn(services::serve(socket, SecureEnd::new(local, Arc::clone(&self.tls))));
            }
            Arrival::Connected(id, pipe, Ok(socket)) => {
                let refused = match self.sockets.remove(&pipe) {
                    Some(waiting) => waiting.send(socket).err(),
                    None => Some(socket),
                };
                if let Some(socket) = refused {
                    socket.break_off();
                }
                self.input(Input::Done(id, TaskResult::Connected));
            }
            Arrival::Connected(id, _, Err(text)) => self.input(Input::Done(id, TaskResult::Failed(text))),
            Arrival::ConfigRead(id, read) => {
                let read = read.map(|fresh| self.reloading.begin(&self.tls, fresh));
                self.input(Input::Done(id, TaskResult::Reloaded(read)));
            }
            Arrival::Done(id, result) => self.input(Input::Done(id, result)),
            Arrival::UnitDone(finished) => {
                self.units.on_finished(&finished);
                self.input(Input::Done(finished.task, TaskResult::Unit(finished.result)));
                if let Some(connection) = finished.runner {
                    let worker = Arc::clone(&self.worker);
                    self.tasks.spawn(runner::follow(
                        worker,
                        finished.unit,
                        connection,
                        self.arrivals_in.clone(),
                    ));
                }
            }
            Arrival::Runner(unit, event) => self.input(Input::Runner(unit, event)),
        }
    }
}

/// Splits the outcome of a bind into the node's answer and what goes on to accept.
fn listening<L>(bound: Result<(L, String), String>) -> (TaskResult, Option<L>) {
    match bound {
        Ok((listener, address)) => (TaskResult::Listening(address), Some(listener)),
        Err(text) => (TaskResult::Failed(text), None),
    }
}
