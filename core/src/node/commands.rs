//! The application's commands.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::BytesMut;

use super::Node;
use super::conn::{Conn, Owner};
use super::io::{Command, Output, Reply};
use crate::control::{Hop, PingReply};
use crate::error::CallerError;
use crate::id::{CommandId, NodeId, PipeId, PortId, ServiceName};
use crate::netceptor::ProbeToken;
use crate::time::Now;
use crate::wire::data::HEADER_LEN;

/// Who waits for a ping or traceroute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Session(u64),
    Command(CommandId),
}

impl Node {
    pub(super) fn command(&mut self, now: Now, id: CommandId, command: Command) -> Result<(), CallerError> {
        let reply = match command {
            Command::Status => Reply::Json(super::status::to_json(&self.status(now))),
            Command::Ping { target } => match self.start_ping(now, Asker::Command(id), &target) {
                Ok(()) => return Ok(()),
                Err(error) => Reply::Error(error),
            },
            Command::Traceroute { target } => {
                self.start_traceroute(now, Asker::Command(id), &target);
                return Ok(());
            }
            Command::Dial { pipe, node, service } => match self.dial_for_pipe(now, id, pipe, &node, &service)? {
                Ok(()) => return Ok(()),
                Err(error) => Reply::Error(error),
            },
            Command::Listen { service, advertise } => done(self.listen(now, &service, advertise)),
            Command::Unlisten { service } => done(self.unlisten(now, service).map(|()| None)),
            Command::OpenPort { port, service, advertise } => done(self.open_port(now, port, &service, advertise)),
            Command::Send { port, node, service, data, hops } => {
                done(self.send_from_port(now, port, &node, &service, &data, hops).map(|()| None))
            }
            Command::ClosePort { port } => match self.ports.remove(&port) {
                Some(service) => {
                    self.port_ids.remove(&service);
                    self.router.close_port(now, service);
                    Reply::Done
                }
                None => Reply::Error("unknown port".into()),
            },
        };
        self.outputs.push_back(Output::Reply(id, reply));
        Ok(())
    }

    /// Begins a ping; an error is final and there will be no answer.
    pub(super) fn start_ping(&mut self, now: Now, asker: Asker, target: &str) -> Result<(), String> {
        let token = self.new_probe(asker);
        self.router.ping(now, token, target).inspect_err(|_| {
            self.askers.remove(&token);
        })
    }

    /// Begins a traceroute; the answer always comes.
    pub(super) fn start_traceroute(&mut self, now: Now, asker: Asker, target: &str) {
        let token = self.new_probe(asker);
        self.router.traceroute(now, token, target);
    }

    fn new_probe(&mut self, asker: Asker) -> ProbeToken {
        let token = ProbeToken(self.next_probe);
        self.next_probe += 1;
        self.askers.insert(token, asker);
        token
    }

    pub(super) fn ping_done(&mut self, token: ProbeToken, result: PingReply) {
        match self.askers.remove(&token) {
            Some(Asker::Session(key)) => self.reply_to_session(key, crate::control::Reply::Ping(result)),
            Some(Asker::Command(id)) => {
                let reply = match result {
                    PingReply::Success { from, time } => Reply::Pong { from: NodeId::new(&from), time },
                    PingReply::Failure(error) => Reply::Error(error),
                };
                self.outputs.push_back(Output::Reply(id, reply));
            }
            None => {}
        }
    }

    pub(super) fn traceroute_done(&mut self, token: ProbeToken, hops: Vec<Hop>) {
        match self.askers.remove(&token) {
            Some(Asker::Session(key)) => self.reply_to_session(key, crate::control::Reply::Traceroute(hops)),
            Some(Asker::Command(id)) => {
                let json = crate::control::traceroute_json(&hops);
                self.outputs.push_back(Output::Reply(id, Reply::Json(json)));
            }
            None => {}
        }
    }

    fn dial_for_pipe(
        &mut self,
        now: Now,
        id: CommandId,
        pipe: PipeId,
        node: &str,
        service: &str,
    ) -> Result<Result<(), String>, CallerError> {
        if self.pipes.contains_key(&pipe) || pipe.0 & super::streams::OWN_PIPES != 0 {
            return Err(CallerError::Misuse(alloc::format!("pipe {} is in use", pipe.0)));
        }
        Ok(self.dial_stream(now, node, service).map(|stream| {
            self.pipes.insert(pipe, Default::default());
            self.owners.insert(Conn::Stream(stream), Owner::Dialing(pipe, id));
        }))
    }

    /// A free service name: the one asked for, or a random one.
    pub(super) fn free_service(&mut self, name: &str) -> Result<ServiceName, String> {
        let wanted = ServiceName::new(name)?;
        let taken = |node: &Self, name: ServiceName| {
            name.is_reserved() || node.router.is_port(name) || node.streams.is_listening(name)
        };
        if !wanted.is_empty() {
            return if taken(self, wanted) {
                Err(alloc::format!("service {wanted} is already listening"))
            } else {
                Ok(wanted)
            };
        }
        loop {
            let name = ServiceName::from_wire(self.rng.name8());
            if !taken(self, name) {
                return Ok(name);
            }
        }
    }

    fn listen(
        &mut self,
        now: Now,
        service: &str,
        advertise: Option<Vec<(String, String)>>,
    ) -> Result<Option<ServiceName>, String> {
        let service = self.free_service(service)?;
        self.streams.listen(service).map_err(|error| error.to_string())?;
        self.app_listeners.insert(service);
        if let Some(tags) = advertise {
            self.router.advertise(now, service, super::mesh::CONN_TYPE_STREAM, tags.into_iter().collect(), None);
        }
        Ok(Some(service))
    }

    fn unlisten(&mut self, now: Now, service: ServiceName) -> Result<(), String> {
        if !self.app_listeners.remove(&service) {
            return Err(alloc::format!("service {service} is not listening"));
        }
        self.streams.unlisten(now.mono, service);
        self.router.withdraw(now, service);
        Ok(())
    }

    fn open_port(
        &mut self,
        now: Now,
        port: PortId,
        service: &str,
        advertise: Option<Vec<(String, String)>>,
    ) -> Result<Option<ServiceName>, String> {
        if self.ports.contains_key(&port) {
            return Err(alloc::format!("port {} is in use", port.0));
        }
        let service = self.free_service(service)?;
        self.router.open_port(service)?;
        self.ports.insert(port, service);
        self.port_ids.insert(service, port);
        if let Some(tags) = advertise {
            let tags: BTreeMap<String, String> = tags.into_iter().collect();
            self.router.advertise(now, service, super::mesh::CONN_TYPE_DATAGRAM, tags, None);
        }
        Ok(Some(service))
    }

    fn send_from_port(
        &mut self,
        now: Now,
        port: PortId,
        node: &str,
        service: &str,
        data: &[u8],
        hops: u8,
    ) -> Result<(), String> {
        let from = *self.ports.get(&port).ok_or("unknown port")?;
        let to_service = ServiceName::new(service)?;
        let to = self.router.resolve(node).ok_or("no route to node")?;
        let limit = crate::wire::data::MAX_PAYLOAD;
        if data.len() > limit {
            return Err(alloc::format!("datagram of {} bytes exceeds {limit}", data.len()));
        }
        let mut frame = BytesMut::zeroed(HEADER_LEN);
        frame.extend_from_slice(data);
        self.send_data(now, to, to_service, from, hops.min(crate::wire::data::MAX_HOPS), frame)
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

fn done(result: Result<Option<ServiceName>, String>) -> Reply {
    match result {
        Ok(Some(service)) => Reply::Service(service),
        Ok(None) => Reply::Done,
        Err(error) => Reply::Error(error),
    }
}
