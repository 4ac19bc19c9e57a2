//! The application's commands.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::io::{Command, Output, Reply};
use crate::control::PingReply;
use crate::error::CallerError;
use crate::id::{CommandId, NodeId, PortId, ServiceName};
use crate::netceptor::{ProbeToken, TraceHop};
use crate::sabotage::{self, Bug};
use crate::time::{Duration, Now};

/// Advertised type of datagram services (`wire.md` §9).
const CONN_TYPE_DATAGRAM: u8 = 0;

/// Advertised type of stream services: whether they have a TLS config of the user's.
pub(super) const fn stream_type(tls: Option<&str>) -> u8 {
    if tls.is_some() { 2 } else { 1 }
}

/// Who waits for a ping or traceroute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Session(u64),
    Command(CommandId),
}

impl Node {
    pub(super) fn command(&mut self, now: Now, id: CommandId, command: Command) -> Result<(), CallerError> {
        let reply = match command {
            Command::Status => Reply::Json(super::status::to_json(&self.status(now, None))),
            Command::Ping { target } => {
                self.start_ping(now, Asker::Command(id), &target);
                return Ok(());
            }
            Command::Traceroute { target } => {
                self.start_traceroute(now, Asker::Command(id), &target);
                return Ok(());
            }
            Command::Dial {
                pipe,
                node,
                service,
                tls,
            } => {
                if self.pipes.contains_key(&pipe) || pipe.0 & super::ties::OWN_PIPES != 0 {
                    return Err(CallerError::Misuse(alloc::format!("pipe {} is in use", pipe.0)));
                }
                match self.dial_for_pipe(now, id, pipe, &node, &service, tls.as_deref()) {
                    Ok(()) => return Ok(()),
                    Err(error) => Reply::Error(error),
                }
            }
            Command::Listen {
                service,
                advertise,
                tls,
            } => done(self.listen(now, &service, advertise, tls.as_deref())),
            Command::Reload => match self.start_reload(Asker::Command(id)) {
                Ok(()) => return Ok(()),
                Err(error) => Reply::NotReloaded(error),
            },
            Command::SetFirewall(rules) => {
                self.net.set_firewall(rules);
                Reply::Done
            }
            Command::Unlisten { service } => done(self.unlisten(now, service).map(|()| None)),
            Command::OpenPort {
                port,
                service,
                advertise,
            } => done(self.open_port(now, port, &service, advertise)),
            Command::Send {
                port,
                node,
                service,
                data,
                hops,
            } => done(
                self.send_from_port(now, port, &node, &service, &data, hops)
                    .map(|()| None),
            ),
            Command::ClosePort { port } => match self.ports.remove(&port) {
                Some(service) => {
                    self.net.close_service(now, service);
                    Reply::Done
                }
                None => Reply::Error("unknown port".into()),
            },
        };
        self.outputs.push_back(Output::Reply(id, reply));
        Ok(())
    }

    /// Begins a ping; the answer always comes.
    pub(super) fn start_ping(&mut self, now: Now, asker: Asker, target: &str) {
        let token = self.new_probe(asker);
        self.net.ping(now, token, target);
    }

    /// Begins a traceroute; the answer always comes.
    pub(super) fn start_traceroute(&mut self, now: Now, asker: Asker, target: &str) {
        let token = self.new_probe(asker);
        self.net.traceroute(now, token, target);
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
                    PingReply::Success { from, nanos } => Reply::Pong {
                        from: NodeId::new(&from),
                        time: Duration::from_nanos(nanos.unsigned_abs()),
                    },
                    PingReply::Failure(error) => Reply::Error(error),
                };
                if sabotage::is(Bug::AnswersTwice) {
                    self.outputs.push_back(Output::Reply(id, reply.clone()));
                }
                if sabotage::is(Bug::AnswersNever) && id.0.is_multiple_of(8) {
                    return;
                }
                self.outputs.push_back(Output::Reply(id, reply));
            }
            None => {}
        }
    }

    pub(super) fn traceroute_done(&mut self, token: ProbeToken, hops: Vec<TraceHop>) {
        match self.askers.remove(&token) {
            Some(Asker::Session(key)) => {
                let hops = hops.into_iter().map(super::mesh::hop).collect();
                self.reply_to_session(key, crate::control::Reply::Traceroute(hops));
            }
            Some(Asker::Command(id)) => self.outputs.push_back(Output::Reply(id, Reply::Trace(hops))),
            None => {}
        }
    }

    fn listen(
        &mut self,
        now: Now,
        service: &str,
        advertise: Option<Vec<(String, String)>>,
        tls: Option<&str>,
    ) -> Result<Option<ServiceName>, String> {
        let service = self.listen_stream(service, tls)?;
        self.app_listeners.insert(service);
        self.advertise(now, service, stream_type(tls), advertise);
        Ok(Some(service))
    }

    fn unlisten(&mut self, now: Now, service: ServiceName) -> Result<(), String> {
        if !self.app_listeners.remove(&service) {
            return Err(alloc::format!("service {service} is not listening"));
        }
        self.streams.unlisten(now.mono, service);
        self.stream_tls.remove(&service);
        self.unlisten_quic(service);
        self.net.close_service(now, service);
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
        let service = self.net.open_port(service, port)?;
        self.ports.insert(port, service);
        self.advertise(now, service, CONN_TYPE_DATAGRAM, advertise);
        Ok(Some(service))
    }

    fn advertise(&mut self, now: Now, service: ServiceName, conn_type: u8, tags: Option<Vec<(String, String)>>) {
        if let Some(tags) = tags {
            let tags: BTreeMap<String, String> = tags.into_iter().collect();
            let tags = Some(tags).filter(|tags| !tags.is_empty());
            self.net.advertise(now, service, conn_type, tags, None);
        }
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
        self.net.send(now, from, node, service, data, hops)
    }
}

fn done(result: Result<Option<ServiceName>, String>) -> Reply {
    match result {
        Ok(Some(service)) => Reply::Service(service),
        Ok(None) => Reply::Done,
        Err(error) => Reply::Error(error),
    }
}
