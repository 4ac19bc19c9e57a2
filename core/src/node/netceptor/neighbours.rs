//! What links bring: who is a neighbour, and what becomes of frames.

use bytes::BytesMut;

use super::links::Pushed;
use super::{NetOutput, Netceptor};
use crate::config::PeerTransport;
use crate::id::{LinkId, NodeId};
use crate::link::transport::datagram::{FITTING_FRAME, MAX_DATAGRAM};
use crate::link::transport::{Url, proxy_for};
use crate::link::{Priority, Refusal, RouteVerdict, TimeoutVerdict};
use crate::netceptor::DataVerdict;
use crate::node::io::{Level, LinkOutput};
use crate::sabotage::{self, Bug};
use crate::time::Now;
use crate::wire::classic::{self, RoutingUpdate};
use crate::wire::extended::FRAME_TARGET;
use crate::wire::{self, Kind};

impl Netceptor {
    /// What depends on a link that is gone or closing.
    pub(super) fn drop_neighbour(&mut self, now: Now, id: LinkId) {
        if sabotage::is(Bug::CriesOut) {
            self.log(Level::Error, alloc::format!("link {} is lost", id.0));
        }
        self.router.link_lost(now, id);
        self.outputs.push_back(NetOutput::Lost(id));
    }

    /// One frame from a link: the hot path.
    pub(super) fn frame(&mut self, now: Now, id: LinkId, mut frame: BytesMut) {
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
                match verdict {
                    DataVerdict::Forward(link) if self.links.is_too_long(link, frame.len()) => {
                        self.router.too_long(now, &frame);
                    }
                    _ => self.dispose(verdict, frame),
                }
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
            .and_then(|list| list.get(self.node_id.as_str()).copied());
        // Asked before the session is borrowed, though only the first update needs it.
        let taken = self.links.is_connected(&update.forwarding_node);
        let Some(link) = self.links.live(id) else { return };
        let verdict = link
            .session
            .on_route(now.mono, &update.node_id, &update.forwarding_node, listed, |_| taken);
        match verdict {
            RouteVerdict::Ignore => {}
            RouteVerdict::Process => self.router.on_route(now, id, &update),
            RouteVerdict::Hello => self.greet(now, id),
            RouteVerdict::Reject(refusal) => self.close_link(now, id, &refusal, true),
            RouteVerdict::Contested(peer) => self.contest(now, id, peer, update),
            RouteVerdict::Accepted { peer, cost } => self.accept_link(now, id, peer, cost, &update),
        }
    }

    /// The session has accepted its peer.
    pub(super) fn accept_link(&mut self, now: Now, id: LinkId, peer: NodeId, cost: f64, update: &RoutingUpdate) {
        let Some(link) = self.links.live(id) else { return };
        let remote = link.remote.clone();
        let text = alloc::format!("connection established with {peer} at {remote}, cost {cost}");
        let is_nameless = link.session.is_certified() == Some(false);
        self.log(Level::Info, text);
        if is_nameless {
            self.log(
                Level::Warning,
                alloc::format!("the certificate of {peer} at {remote} names no node, so that any node could use it"),
            );
        }
        self.links.set_peer(peer, id);
        self.links.rearm(id);
        let fill = match self.links.max_frame(id) {
            Some(MAX_DATAGRAM) => FITTING_FRAME,
            _ => FRAME_TARGET,
        };
        if !self.router.link_accepted(now, id, cost, update, fill) {
            self.close_link(now, id, &Refusal::NoRoom, true);
        }
        self.links.set_extended(id, self.router.is_extended(id));
    }

    fn greet(&mut self, now: Now, id: LinkId) {
        let hello = self.router.hello(now);
        self.push(id, Priority::Control, BytesMut::from(&hello[..]));
    }

    /// Closes a link with a reason in the log, after a reject message if the table of sessions says so.
    pub(super) fn close_link(&mut self, now: Now, id: LinkId, refusal: &Refusal, reject: bool) {
        let Some(link) = self.links.live(id) else { return };
        link.session.on_closed(!reject);
        let peer = link.session.peer().map(|(peer, _)| peer.clone());
        let remote = link.remote.clone();
        let level = match refusal {
            // A flood of these must not become one of the log.
            Refusal::Crowded(_) => Level::Debug,
            _ => Level::Warning,
        };
        let text = alloc::format!("connection with {remote} closed: {refusal}");
        match peer {
            Some(_) => self.log(level, text),
            None => self.complain(now, level, &text),
        }
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
    pub(super) fn shut_link(&mut self, id: LinkId) {
        if let Some(link) = self.links.any(id)
            && !link.closing
        {
            link.closing = true;
            self.outputs.push_back(NetOutput::Link(id, LinkOutput::Close));
            self.forget_contests(id);
        }
    }

    pub(super) fn link_timeouts(&mut self, now: Now) {
        while let Some(id) = self.links.pop_due(now.mono) {
            let Some(link) = self.links.live(id) else { continue };
            match link.session.handle_timeout(now.mono) {
                TimeoutVerdict::Nothing => {}
                TimeoutVerdict::Hello => self.greet(now, id),
                TimeoutVerdict::Close(refusal) => self.close_link(now, id, &refusal, false),
            }
            self.links.rearm(id);
        }
        self.dial_due(now);
    }

    pub(super) fn dial_due(&mut self, now: Now) {
        while let Some((backend, address, transport)) = self.backends.pop_due(now.mono) {
            let url = match transport {
                PeerTransport::WebSocket { .. } => Url::parse(&address).map(Some),
                _ => Ok(None),
            };
            let proxy = match url {
                Ok(Some(url)) => proxy_for(&self.proxies, &url),
                Ok(None) => Ok(None),
                Err(error) => Err(alloc::format!("address {address} is not a valid URL: {error}")),
            };
            match proxy {
                Ok(proxy) => self.outputs.push_back(NetOutput::Dial {
                    backend,
                    address,
                    transport,
                    proxy,
                }),
                Err(error) => self.dial_failed(now, backend, &error),
            }
        }
    }

    pub(super) fn push(&mut self, id: LinkId, priority: Priority, frame: BytesMut) {
        let len = frame.len();
        match self.links.push(id, priority, frame) {
            Pushed::Signal => self.outputs.push_back(NetOutput::Link(id, LinkOutput::Ready)),
            Pushed::Dropped if priority == Priority::Control => {
                // A neighbour that does not even take control messages is of no use to anybody.
                self.log(
                    Level::Warning,
                    alloc::format!("link {} takes no control messages any more", id.0),
                );
                self.shut_link(id);
            }
            Pushed::TooLong { is_first: true } => {
                let text = alloc::format!(
                    "link {} does not carry a message of {len} bytes, which is left out, and so are others as long",
                    id.0
                );
                self.log(Level::Warning, text);
            }
            Pushed::Queued | Pushed::Dropped | Pushed::TooLong { .. } | Pushed::Gone => {}
        }
    }
}
