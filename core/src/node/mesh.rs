//! The netceptor's wishes carried out.

use super::io::{Event, LinkInput, Output, Task, TaskResult};
use super::netceptor::NetOutput;
use super::{Node, TaskOwner};
use crate::control::{Hop, PingReply};
use crate::error::CallerError;
use crate::id::{BackendId, LinkId};
use crate::netceptor::TraceHop;
use crate::time::Now;

impl Node {
    pub(super) fn link_input(&mut self, now: Now, id: LinkId, input: LinkInput) -> Result<(), CallerError> {
        match input {
            LinkInput::Frame(frame) => self.net.link_frame(now, id, frame),
            LinkInput::Up {
                backend,
                remote,
                certified,
            } => self.net.link_up(now, id, backend, remote, certified),
            LinkInput::Down { reason } => self.net.link_down(now, id, &reason),
        }
    }

    pub(super) fn dial_done(&mut self, now: Now, backend: BackendId, result: TaskResult) -> Result<(), CallerError> {
        match result {
            TaskResult::Dialed {
                link,
                remote,
                certified,
            } => self.net.dialed(now, backend, link, remote, certified),
            TaskResult::Failed(error) => {
                self.net.dial_failed(now, backend, &error);
                Ok(())
            }
            other => Err(CallerError::Misuse(alloc::format!(
                "a dial was answered with {other:?}"
            ))),
        }
    }

    /// Carries out what the netceptor wants. Returns whether there was anything.
    pub(super) fn mesh_outputs(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(output) = self.net.poll_output() {
            progress = true;
            match output {
                NetOutput::Link(link, output) => self.outputs.push_back(Output::Link(link, output)),
                NetOutput::Dial {
                    backend,
                    address,
                    transport,
                    proxy,
                } => {
                    let task = Task::Dial {
                        backend,
                        address,
                        transport,
                        proxy,
                    };
                    self.task(TaskOwner::Dial(backend), task);
                }
                NetOutput::StoreEpoch(epoch) => self.task(TaskOwner::StoreEpoch(epoch), Task::StoreEpoch(epoch)),
                NetOutput::Lost(link) => {
                    self.release_held_back(link);
                }
                NetOutput::Stream(header, payload) => self.arrive(now, &header, payload),
                NetOutput::StreamUnreachable {
                    to,
                    to_service,
                    service,
                    problem,
                } => {
                    self.streams.on_unreachable(now.mono, to, to_service, service, &problem);
                    let path = crate::quic::Path {
                        remote: to,
                        remote_service: to_service,
                        local_service: service,
                    };
                    self.quic_unreachable(path, &problem);
                }
                NetOutput::PingDone(token, result) => self.ping_done(token, ping_reply(result)),
                NetOutput::TracerouteDone(token, hops) => self.traceroute_done(token, hops),
                NetOutput::Event(event) => {
                    if event == Event::RoutesChanged {
                        self.retry_unrouted(now);
                        self.retry_awaited(now);
                    }
                    self.outputs.push_back(Output::Event(event));
                }
            }
        }
        progress
    }
}

fn ping_reply(result: TraceHop) -> PingReply {
    let hop = hop(result);
    match hop.error {
        None => PingReply::Success {
            from: hop.from,
            nanos: hop.nanos,
        },
        Some(error) => PingReply::Failure(error),
    }
}

/// A traced hop in the control service's terms.
pub(super) fn hop(hop: TraceHop) -> Hop {
    Hop {
        from: hop.from,
        nanos: i64::try_from(hop.time.as_nanos()).unwrap_or(i64::MAX),
        error: hop.error,
    }
}
