//! Data messages: one procedure for local, transit and incoming ones (`wire.md` §17, §18).

use alloc::borrow::ToOwned;
use alloc::string::String;

use bytes::{Bytes, BytesMut};

use super::{Class, Owner, Route, Router, RouterOutput};
use crate::id::{LinkId, NameHash, PortId, ServiceName};
use crate::sabotage::{self, Bug};
use crate::time::Now;
use crate::wire::classic::Unreachable;
use crate::wire::data::{self, HEADER_LEN, Header, MAX_HOPS};

/// What becomes of a data frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataVerdict {
    /// Queue the frame on this link; its hops are patched already.
    Forward(LinkId),
    /// The payload is for a datagram port of the application.
    Port(PortId, Header),
    /// The payload is for a stream service, or for a service the router does not know: if nobody takes it, say so with
    /// [`Router::service_unknown`].
    Deliver(Header),
    /// Dealt with here.
    Consumed,
    /// Lost, for this reason.
    Drop(DropReason),
}

/// Why a data frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DropReason {
    /// Shorter than its header, or an unreachable message that does not decode.
    Malformed,
    /// No name is known for the hash of its source (`wire.md` §5).
    UnknownSource,
    /// No name is known for its destination, or it is not reachable. No message goes back (`wire.md` §17.3).
    NoRoute,
    /// Out of hops; the source was told.
    Expired,
    /// From `ping` to `ping`: an answer would be answered (`wire.md` §19).
    PingFromPing,
    /// A firewall rule said so; if it was to reject, the source was told.
    Firewall,
}

impl DropReason {
    /// For logs and counters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownSource => "unknown source",
            Self::NoRoute => "no route to node",
            Self::Expired => Unreachable::MESSAGE_EXPIRED,
            Self::PingFromPing => "ping from ping",
            Self::Firewall => Unreachable::BLOCKED_BY_FIREWALL,
        }
    }
}

/// Why a message could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The destination is unknown or not reachable.
    NoRoute,
    /// Nobody listens on that service of this node.
    ServiceUnknown,
    /// The frame is shorter than its header or longer than any backend can carry.
    BadLength,
}

impl SendError {
    /// The classic text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no route to node",
            Self::ServiceUnknown => Unreachable::SERVICE_UNKNOWN,
            Self::BadLength => "message too long",
        }
    }
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Router {
    /// Says what becomes of a data frame that came over an accepted link. Frames for other nodes are only looked at, and
    /// one byte is patched: nothing is allocated, no name is looked up.
    #[inline]
    pub fn classify_data(&mut self, now: Now, frame: &mut [u8]) -> DataVerdict {
        if let Some(reason) = self.refused(now, frame) {
            return DataVerdict::Drop(reason);
        }
        self.classify_allowed(now, frame)
    }

    /// As [`Router::classify_data`], behind the firewall.
    #[inline]
    fn classify_allowed(&mut self, now: Now, frame: &mut [u8]) -> DataVerdict {
        let Some(to) = data::to_hash(frame) else {
            return DataVerdict::Drop(DropReason::Malformed);
        };
        match self.forwarding.route(to) {
            Route::Via(link) => match data::hops(frame).checked_sub(1) {
                Some(hops) => {
                    if !sabotage::is(Bug::KeepsHops) {
                        data::set_hops(frame, hops);
                    }
                    DataVerdict::Forward(link)
                }
                None => self.expired(now, frame),
            },
            Route::Local => self.incoming(now, frame),
            // A known name without a route still lets hops expire first, as in the reference.
            Route::None if data::hops(frame) == 0 && self.names.by_hash(to).is_some() => self.expired(now, frame),
            Route::None => DataVerdict::Drop(DropReason::NoRoute),
        }
    }

    /// A message from a service of this node. `frame` is the payload behind [`HEADER_LEN`] bytes of room, which the header
    /// is written to. Answers [`DataVerdict::Forward`], or one of the others for a message to this very node.
    ///
    /// # Errors
    /// There is no route to the destination.
    pub fn send_data(
        &mut self,
        now: Now,
        from_service: ServiceName,
        to: NameHash,
        to_service: ServiceName,
        hops: u8,
        frame: &mut [u8],
    ) -> Result<DataVerdict, SendError> {
        let header = Header {
            hops: hops.min(MAX_HOPS),
            flags: 0,
            from: self.names.hash(super::names::OWN),
            to,
            from_service,
            to_service,
        };
        let too_long = frame.len() > crate::wire::MAX_FRAME;
        let Some(room) = frame.first_chunk_mut::<HEADER_LEN>().filter(|_| !too_long) else {
            return Err(SendError::BadLength);
        };
        header.emit(room);
        match self.classify_local(now, frame) {
            DataVerdict::Drop(DropReason::NoRoute) => Err(SendError::NoRoute),
            // The origin is told by an unreachable message, or not at all; the call succeeds.
            DataVerdict::Drop(DropReason::Expired | DropReason::Firewall) => Ok(DataVerdict::Consumed),
            verdict => Ok(verdict),
        }
    }

    /// As [`Router::classify_data`], for a message made here: it may name a destination that nobody has heard of, and then
    /// hops expire before the route is missed (`wire.md` §17.1).
    fn classify_local(&mut self, now: Now, frame: &mut [u8]) -> DataVerdict {
        if let Some(reason) = self.refused(now, frame) {
            return DataVerdict::Drop(reason);
        }
        let remote = data::to_hash(frame).is_some_and(|to| self.forwarding.route(to) != Route::Local);
        if remote && data::hops(frame) == 0 {
            return self.expired(now, frame);
        }
        self.classify_allowed(now, frame)
    }

    /// Nobody on this node takes messages for the service in `header`, which came in a [`DataVerdict::Deliver`]. Its source
    /// is told, unless that is this node: then the sender has to be told directly.
    pub fn service_unknown(&mut self, now: Now, header: &Header) {
        if header.from != self.names.hash(super::names::OWN) {
            self.send_unreachable(now, header, Unreachable::SERVICE_UNKNOWN);
        }
    }

    /// The link to the next node does not carry a frame as long as this one: its source is told.
    #[cold]
    pub fn too_long(&mut self, now: Now, frame: &[u8]) {
        if let Ok(header) = Header::parse(frame)
            && header.from_service != ServiceName::UNREACH
        {
            self.send_unreachable(now, &header, Unreachable::TOO_LONG);
        }
    }

    #[cold]
    fn expired(&mut self, now: Now, frame: &[u8]) -> DataVerdict {
        let Ok(header) = Header::parse(frame) else {
            return DataVerdict::Drop(DropReason::Malformed);
        };
        if header.from_service != ServiceName::UNREACH {
            self.send_unreachable(now, &header, Unreachable::MESSAGE_EXPIRED);
        }
        DataVerdict::Drop(DropReason::Expired)
    }

    /// A frame for this node.
    fn incoming(&mut self, now: Now, frame: &[u8]) -> DataVerdict {
        let Ok(header) = Header::parse(frame) else {
            return DataVerdict::Drop(DropReason::Malformed);
        };
        if self.names.by_hash(header.from).is_none() {
            return DataVerdict::Drop(DropReason::UnknownSource);
        }
        self.deliver(now, header, &frame[HEADER_LEN..])
    }

    /// Built-in services here, the rest by whoever owns the name.
    fn deliver(&mut self, now: Now, header: Header, payload: &[u8]) -> DataVerdict {
        match header.to_service {
            ServiceName::PING if header.from_service == ServiceName::PING => {
                DataVerdict::Drop(DropReason::PingFromPing)
            }
            ServiceName::PING => {
                // Lost if there is no way back, as any message may be.
                let _ = self.originate(now, ServiceName::PING, header.from, header.from_service, MAX_HOPS, &[]);
                DataVerdict::Consumed
            }
            ServiceName::UNREACH => self.on_unreachable(now, header, payload),
            service => match self.ports.owner(service) {
                Some(Owner::Port(port)) => DataVerdict::Port(port, header),
                Some(Owner::Probe(probe)) => {
                    self.on_probe_answer(now, probe, &header);
                    DataVerdict::Consumed
                }
                Some(Owner::Stream) | None => DataVerdict::Deliver(header),
            },
        }
    }

    /// Sends a message made by the router itself. Those to this node are delivered on the spot; that ends, since only pings
    /// are answered, and by something that is not a ping.
    pub(super) fn originate(
        &mut self,
        now: Now,
        from_service: ServiceName,
        to: NameHash,
        to_service: ServiceName,
        hops: u8,
        payload: &[u8],
    ) -> Result<(), SendError> {
        let mut frame = BytesMut::zeroed(HEADER_LEN);
        frame.extend_from_slice(payload);
        match self.send_data(now, from_service, to, to_service, hops, &mut frame)? {
            DataVerdict::Forward(link) => self.outputs.push_back(RouterOutput::Send(link, Class::Data, frame)),
            DataVerdict::Port(port, header) => self.push_local(Owner::Port(port), header, &frame),
            DataVerdict::Deliver(header) => match self.ports.owner(header.to_service) {
                Some(owner) => self.push_local(owner, header, &frame),
                None => return Err(SendError::ServiceUnknown),
            },
            DataVerdict::Consumed | DataVerdict::Drop(_) => {}
        }
        Ok(())
    }

    fn push_local(&mut self, owner: Owner, header: Header, frame: &[u8]) {
        self.outputs.push_back(RouterOutput::Local {
            owner,
            header,
            payload: Bytes::copy_from_slice(&frame[HEADER_LEN..]),
        });
    }

    /// Tells the source of a message what became of it. Both names must be known: the notice spells them out.
    pub(super) fn send_unreachable(&mut self, now: Now, header: &Header, problem: &str) {
        let Some(from_node) = self.name_of(header.from).map(|id| id.as_str().to_owned()) else {
            return;
        };
        let to_node = self.name_of(header.to).map(|id| id.as_str().to_owned());
        // A message of our own may name a node nobody knows; a probe keeps the name.
        let Some(to_node) = to_node.or_else(|| self.probe_target(header)) else {
            return;
        };
        let text = |service: ServiceName| String::from_utf8_lossy(service.as_bytes()).into_owned();
        let notice = Unreachable {
            from_node,
            to_node,
            from_service: text(header.from_service),
            to_service: text(header.to_service),
            problem: problem.into(),
        };
        // Lost if there is no way back, as any message may be.
        let _ = self.originate(
            now,
            ServiceName::UNREACH,
            header.from,
            ServiceName::UNREACH,
            MAX_HOPS,
            &notice.emit(),
        );
    }

    /// A message of ours could not be delivered, somebody says. Handed to the service that sent it.
    fn on_unreachable(&mut self, now: Now, header: Header, payload: &[u8]) -> DataVerdict {
        let (Ok(notice), Some(from)) = (Unreachable::parse(payload), self.name_of(header.from).cloned()) else {
            return DataVerdict::Drop(DropReason::Malformed);
        };
        if notice.from_node == self.node_id().as_str()
            && let Ok(service) = ServiceName::new(&notice.from_service)
        {
            match self.ports.owner(service) {
                Some(Owner::Probe(probe)) => self.on_probe_problem(now, probe, from.as_str(), notice.problem),
                owner => self.outputs.push_back(RouterOutput::Unreachable {
                    service,
                    owner,
                    from,
                    to_node: notice.to_node,
                    to_service: notice.to_service,
                    problem: notice.problem,
                }),
            }
        }
        DataVerdict::Consumed
    }
}
