//! The router's wishes carried out.

use alloc::string::String;

use bytes::{Bytes, BytesMut};

use super::{NetOutput, Netceptor};
use crate::id::{NodeId, ServiceName};
use crate::link::Priority;
use crate::netceptor::{Class, DataVerdict, Owner, RouterOutput, Severity};
use crate::node::io::{Event, Level};
use crate::time::Now;
use crate::wire::data::{HEADER_LEN, Header};

impl Netceptor {
    /// Does with a data frame what the router said.
    pub(super) fn dispose(&mut self, verdict: DataVerdict, frame: BytesMut) {
        match verdict {
            DataVerdict::Forward(link) => self.push(link, Priority::Transit, frame),
            DataVerdict::Port(port, header) => self.deliver(Owner::Port(port), header, payload(frame)),
            DataVerdict::Deliver(header) => self.deliver(Owner::Stream, header, payload(frame)),
            DataVerdict::Consumed | DataVerdict::Drop(_) => {}
        }
    }

    fn deliver(&mut self, owner: Owner, header: Header, payload: Bytes) {
        match owner {
            Owner::Port(port) => {
                let Some(from) = self.router.name_of(header.from).cloned() else {
                    return;
                };
                self.event(Event::Datagram {
                    port,
                    from,
                    from_service: header.from_service,
                    data: payload,
                });
            }
            Owner::Stream => self.outputs.push_back(NetOutput::Stream(header, payload)),
            Owner::Probe(_) => {}
        }
    }

    /// Carries out what the router wants.
    pub(super) fn carry_out(&mut self, output: RouterOutput) {
        match output {
            RouterOutput::Send(link, Class::Control, frame) => self.push(link, Priority::Control, frame),
            RouterOutput::Send(link, Class::Data, frame) => self.push(link, Priority::Own, frame),
            RouterOutput::Local { owner, header, payload } => self.deliver(owner, header, payload),
            RouterOutput::Unreachable {
                service,
                owner,
                from,
                to_node,
                to_service,
                problem,
            } => {
                let Ok(to_service) = ServiceName::new(&to_service) else {
                    return;
                };
                match owner {
                    Some(Owner::Port(port)) => self.event(Event::Unreachable {
                        port,
                        from,
                        to: NodeId::new(&to_node),
                        to_service,
                        problem,
                    }),
                    Some(Owner::Stream) => self.outputs.push_back(NetOutput::StreamUnreachable {
                        to: self.router.resolve(&to_node),
                        to_service,
                        service,
                        problem,
                    }),
                    Some(Owner::Probe(_)) | None => {}
                }
            }
            RouterOutput::LinkAnswered(link) => self.link_answered(link),
            RouterOutput::PingDone { token, result } => self.outputs.push_back(NetOutput::PingDone(token, result)),
            RouterOutput::TracerouteDone { token, hops } => {
                self.outputs.push_back(NetOutput::TracerouteDone(token, hops));
            }
            RouterOutput::RoutesChanged => self.event(Event::RoutesChanged),
            RouterOutput::RaiseEpoch(epoch) => self.outputs.push_back(NetOutput::StoreEpoch(epoch)),
            RouterOutput::Duplicate => self.event(Event::Duplicate),
            RouterOutput::PeerCloses { link, reason } => {
                let text = alloc::format!("the other side closes link {}: {reason}", link.0);
                self.log(Level::Info, text);
            }
            RouterOutput::Log(severity, text) => {
                let level = match severity {
                    Severity::Warning => Level::Warning,
                    Severity::Info => Level::Info,
                    Severity::Debug => Level::Debug,
                };
                self.log(level, text);
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(NetOutput::Event(event));
    }

    pub(super) fn log(&mut self, level: Level, text: String) {
        self.event(Event::Log(level, text));
    }

    /// Logs what somebody did who is no neighbour, unless there was too much of it of late.
    pub(super) fn complain(&mut self, now: Now, level: Level, text: &str) {
        if let Some(line) = self.strangers.line(now.mono, text) {
            self.log(level, line);
        }
    }
}

fn payload(frame: BytesMut) -> Bytes {
    frame.freeze().slice(HEADER_LEN..)
}
