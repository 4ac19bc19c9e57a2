//! Links and router: who is a neighbour, and where frames go.

use alloc::string::String;

use bytes::{Bytes, BytesMut};

use super::io::{Event, Level, LinkInput, LinkOutput, Output, Task, TaskResult};
use super::links::Pushed;
use super::startup::Phase;
use super::{Node, TaskOwner};
use crate::control::{Hop, PingReply};
use crate::error::CallerError;
use crate::id::{BackendId, LinkId, NodeId, ServiceName};
use crate::link::{Priority, Refusal, RouteVerdict, TimeoutVerdict};
use crate::netceptor::{Class, DataVerdict, Owner, RouterOutput, Severity, TraceHop};
use crate::time::Now;
use crate::wire::classic::{self, RoutingUpdate};
use crate::wire::data::{HEADER_LEN, Header};
use crate::wire::{self, Kind};

impl Node {
    pub(super) fn link_input(&mut self, now: Now, id: LinkId, input: LinkInput) -> Result<(), CallerError> {
        match input {
            LinkInput::Frame(frame) => {
                // Frames of a link we closed may still be under way.
                if !self.links.contains(id) {
                    return Err(CallerError::Unknown("link"));
                }
                self.frame(now, id, frame);
                Ok(())
            }
            LinkInput::Up { backend, remote } => self.link_up(now, id, backend, remote),
            LinkInput::Down { reason } => self.link_down(now, id, &reason),
        }
    }

    fn link_up(&mut self, now: Now, id: LinkId, backend: BackendId, remote: String) -> Result<(), CallerError> {
        if self.links.contains(id) {
            return Err(CallerError::Misuse(alloc::format!("link {} is in use", id.0)));
        }
        let config = self
            .backends
            .session_config(backend)
            .ok_or(CallerError::Unknown("backend"))?;
        self.links.open(now.mono, id, backend, remote, config);
        if self.links.len() > self.config.limits.links || self.phase != Phase::Running {
            self.warn(alloc::format!(
                "connection refused: {} links are open, or the node is starting",
                self.links.len()
            ));
            self.shut_link(id);
            return Ok(());
        }
        self.link_timeouts(now);
        Ok(())
    }

    fn link_down(&mut self, now: Now, id: LinkId, reason: &str) -> Result<(), CallerError> {
        let mut link = self.links.remove(id).ok_or(CallerError::Unknown("link"))?;
        let accepted = link.session.was_established();
        link.session.on_closed(false);
        self.drop_neighbour(now, id);
        if !link.closing {
            let peer = link
                .session
                .peer()
                .map_or(link.remote.as_str(), |(peer, _)| peer.as_str());
            self.info(alloc::format!("connection to {peer} is gone: {reason}"));
        }
        if link.dropped() > 0 {
            self.info(alloc::format!(
                "connection to {} had dropped {} frames for want of room",
                link.remote,
                link.dropped()
            ));
        }
        if let Some(wait) = self.backends.on_link_lost(link.backend, now.mono, accepted) {
            let address = self.backends.address(link.backend);
            self.warn(alloc::format!(
                "Backend connection exited (will retry): {address}, in {} ms",
                wait.as_millis()
            ));
        }
        Ok(())
    }

    /// What depends on a link that is gone or closing.
    fn drop_neighbour(&mut self, now: Now, id: LinkId) {
        self.router.link_lost(now, id);
        self.release_held_back(id);
    }

    /// One frame from a link: the hot path.
    fn frame(&mut self, now: Now, id: LinkId, mut frame: BytesMut) {
        let Some(kind) = wire::kind(&frame) else { return };
        match kind {
            Kind::Route => return self.route_frame(now, id, &frame),
            Kind::Reject => return self.close_link(now, id, &Refusal::RejectedByPeer, false),
            _ => {}
        }
        if !self
            .links
            .live(id)
            .is_some_and(|link| link.session.on_message(now.mono))
        {
            return;
        }
        match kind {
            Kind::Data => {
                let verdict = self.router.classify_data(now, &mut frame);
                self.dispose(now, verdict, frame);
            }
            Kind::Advert => self.router.on_advert(now, id, &frame),
            Kind::Extended => self.router.on_extended(now, id, &frame),
            Kind::Unknown(kind) => {
                self.log(Level::Debug, alloc::format!("message of unknown kind {kind} ignored"));
            }
            Kind::Route | Kind::Reject => {}
        }
    }

    fn route_frame(&mut self, now: Now, id: LinkId, frame: &[u8]) {
        let update = match RoutingUpdate::parse(frame) {
            Ok(update) => update,
            Err(error) => {
                self.log(Level::Debug, alloc::format!("routing update ignored: {error}"));
                return;
            }
        };
        let listed = update
            .connections
            .as_ref()
            .and_then(|list| list.get(self.config.node_id.as_str()).copied());
        let connected: &mut dyn FnMut(&NodeId) -> bool = &mut |peer| self.links.is_connected(peer);
        // The table is only asked about the first update; a copy of the answer keeps the borrows apart.
        let taken = connected(&NodeId::new(&update.forwarding_node));
        let Some(link) = self.links.live(id) else { return };
        let verdict = link
            .session
            .on_route(now.mono, &update.node_id, &update.forwarding_node, listed, |_| taken);
        match verdict {
            RouteVerdict::Ignore => {}
            RouteVerdict::Process => self.router.on_route(now, id, &update),
            RouteVerdict::Reject(refusal) => self.close_link(now, id, &refusal, true),
            RouteVerdict::Accepted { peer, cost } => {
                let remote = link.remote.clone();
                self.info(alloc::format!(
                    "connection established with {peer} at {remote}, cost {cost}"
                ));
                self.links.set_peer(peer, id);
                self.links.rearm(id);
                self.router.link_accepted(now, id, cost, &update);
            }
        }
    }

    /// Closes a link with a reason in the log, after a reject message if the table of sessions says so.
    fn close_link(&mut self, now: Now, id: LinkId, refusal: &Refusal, reject: bool) {
        let Some(link) = self.links.live(id) else { return };
        link.session.on_closed(!reject);
        let peer = link.session.peer().map(|(peer, _)| peer.clone());
        let remote = link.remote.clone();
        self.warn(alloc::format!("connection with {remote} closed: {refusal}"));
        if reject {
            self.push(id, Priority::Control, BytesMut::from(&classic::REJECT[..]));
        }
        if let Some(peer) = peer {
            self.links.forget_peer(&peer);
            self.drop_neighbour(now, id);
        }
        self.shut_link(id);
    }

    /// Tells the adapter to close.
    fn shut_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.any(id)
            && !link.closing
        {
            link.closing = true;
            self.outputs.push_back(Output::Link(id, LinkOutput::Close));
        }
    }

    pub(super) fn link_timeouts(&mut self, now: Now) {
        while let Some(id) = self.links.pop_due(now.mono) {
            let Some(link) = self.links.live(id) else { continue };
            match link.session.handle_timeout(now.mono) {
                TimeoutVerdict::Nothing => {}
                TimeoutVerdict::Hello => {
                    let hello = self.router.hello(now);
                    self.push(id, Priority::Control, BytesMut::from(&hello[..]));
                }
                TimeoutVerdict::Close(refusal) => self.close_link(now, id, &refusal, false),
            }
            self.links.rearm(id);
        }
        self.dial_due(now);
    }

    pub(super) fn dial_due(&mut self, now: Now) {
        while let Some((backend, address)) = self.backends.pop_due(now.mono) {
            self.task(TaskOwner::Dial(backend), Task::Dial { backend, address });
        }
    }

    pub(super) fn dial_done(&mut self, now: Now, backend: BackendId, result: TaskResult) {
        match result {
            TaskResult::Dialed { link, remote } => {
                if let Err(error) = self.link_up(now, link, backend, remote) {
                    self.error(alloc::format!("dialled link: {error}"));
                }
            }
            TaskResult::Failed(error) => {
                let wait = self.backends.on_dial_failed(backend, now.mono);
                let text = alloc::format!(
                    "Backend connection failed ({}): {error}",
                    match wait {
                        Some(_) => "will retry",
                        None => "giving up",
                    }
                );
                self.log(if wait.is_some() { Level::Warning } else { Level::Error }, text);
            }
            other => self.error(alloc::format!("a dial was answered with {other:?}")),
        }
    }

    fn push(&mut self, id: LinkId, priority: Priority, frame: BytesMut) {
        match self.links.push(id, priority, frame) {
            Pushed::Signal => self.outputs.push_back(Output::Link(id, LinkOutput::Ready)),
            Pushed::Dropped if priority == Priority::Control => {
                // A neighbour that does not even take control messages is of no use to anybody.
                self.warn(alloc::format!("link {} takes no control messages any more", id.0));
                self.shut_link(id);
            }
            Pushed::Queued | Pushed::Dropped | Pushed::Gone => {}
        }
    }

    pub(super) fn push_data(&mut self, id: LinkId, frame: BytesMut) {
        self.push(id, Priority::Data, frame);
    }

    /// Does with a data frame what the router said.
    fn dispose(&mut self, now: Now, verdict: DataVerdict, frame: BytesMut) {
        match verdict {
            DataVerdict::Forward(link) => self.push_data(link, frame),
            DataVerdict::Port(port, header) => self.deliver(now, Some(Owner::Port(port)), &header, payload(frame)),
            DataVerdict::Deliver(header) => self.arrive(now, &header, payload(frame)),
            DataVerdict::Consumed | DataVerdict::Drop(_) => {}
        }
    }

    /// Messages of this node to itself. Returns whether there were any.
    pub(super) fn deliver_loopback(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some((verdict, frame)) = self.loopback.pop_front() {
            progress = true;
            self.dispose(now, verdict, frame);
        }
        progress
    }

    fn deliver(&mut self, now: Now, owner: Option<Owner>, header: &Header, payload: Bytes) {
        match owner {
            Some(Owner::Port(port)) => {
                let Some(from) = self.router.name_of(header.from).cloned() else {
                    return;
                };
                let event = Event::Datagram {
                    port,
                    from,
                    from_service: header.from_service,
                    data: payload,
                };
                self.outputs.push_back(Output::Event(event));
            }
            Some(Owner::Stream) | None => self.arrive(now, header, payload),
            Some(Owner::Probe(_)) => {}
        }
    }

    /// Carries out what the router wants. Returns whether there was anything.
    pub(super) fn mesh_outputs(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(output) = self.router.poll_output() {
            progress = true;
            match output {
                RouterOutput::Send(link, Class::Control, frame) => self.push(link, Priority::Control, frame),
                RouterOutput::Send(link, Class::Data, frame) => self.push_data(link, frame),
                RouterOutput::Local { owner, header, payload } => self.deliver(now, Some(owner), &header, payload),
                RouterOutput::Unreachable {
                    service,
                    owner,
                    from,
                    to_node,
                    to_service,
                    problem,
                } => {
                    self.unreachable(now, service, owner, from, &to_node, &to_service, problem);
                }
                RouterOutput::PingDone { token, result } => self.ping_done(token, ping_reply(result)),
                RouterOutput::TracerouteDone { token, hops } => self.traceroute_done(token, hops),
                RouterOutput::RoutesChanged => {
                    self.retry_unrouted(now);
                    self.retry_awaited(now);
                    self.outputs.push_back(Output::Event(Event::RoutesChanged));
                }
                RouterOutput::RaiseEpoch(epoch) => {
                    self.task(TaskOwner::StoreEpoch(epoch), Task::StoreEpoch(epoch));
                }
                RouterOutput::Duplicate => self.outputs.push_back(Output::Event(Event::Duplicate)),
                RouterOutput::PeerCloses { link, reason } => {
                    self.info(alloc::format!("the other side closes link {}: {reason}", link.0));
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
        progress
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn unreachable(
        &mut self,
        now: Now,
        service: ServiceName,
        owner: Option<Owner>,
        from: NodeId,
        to_node: &str,
        to_service: &str,
        problem: String,
    ) {
        let Ok(to_service) = ServiceName::new(to_service) else {
            return;
        };
        match owner {
            Some(Owner::Port(port)) => {
                let to = NodeId::new(to_node);
                self.outputs.push_back(Output::Event(Event::Unreachable {
                    port,
                    from,
                    to,
                    to_service,
                    problem,
                }));
            }
            Some(Owner::Stream) => {
                let remote = self.router.resolve(to_node);
                self.streams
                    .on_unreachable(now.mono, remote, to_service, service, &problem);
            }
            Some(Owner::Probe(_)) | None => {}
        }
    }
}

fn payload(frame: BytesMut) -> Bytes {
    frame.freeze().slice(HEADER_LEN..)
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
