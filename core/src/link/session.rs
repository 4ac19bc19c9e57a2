//! Who is on the other end, and may it stay? The hello exchange and the idle limit (`wire.md` §11, §15).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::state::{Action, Cause, State, step};
use crate::deadline::Deadline;
use crate::id::NodeId;
use crate::time::Instant;

/// What a session needs to know of its backend and node.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Own node ID.
    pub own: NodeId,
    /// The backend's cost.
    pub cost: f64,
    /// Costs for certain peers, instead of `cost`.
    pub node_costs: BTreeMap<NodeId, f64>,
    /// Who may connect; `None` is everybody.
    pub allowed_peers: Option<BTreeSet<NodeId>>,
    /// The node IDs in the other end's verified certificate; `None` if there is none.
    pub certified: Option<Vec<NodeId>>,
    /// Refuse a certificate that names no node.
    pub strict: bool,
    /// Close after this long without a received message.
    pub idle_timeout: Duration,
}

/// Why a session was refused or closed by us.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer has our own ID.
    OwnId,
    /// The peer is not in the list of allowed peers.
    NotAllowed(NodeId),
    /// The peer's certificate names other nodes.
    OtherCertificate {
        /// What the peer says it is.
        peer: NodeId,
        /// What its certificate says.
        names: Vec<NodeId>,
    },
    /// The peer's certificate names no node, and that is not enough here.
    NamelessCertificate(NodeId),
    /// A session with this peer exists.
    AlreadyConnected(NodeId),
    /// The other end changed its name.
    ForwarderChanged {
        /// What it was.
        was: NodeId,
        /// What it says now.
        says: String,
    },
    /// The peer no longer lists us.
    NotListed(NodeId),
    /// The two ends have different costs.
    CostMismatch {
        /// The peer.
        peer: NodeId,
        /// Our cost.
        ours: f64,
        /// Its cost.
        theirs: f64,
    },
    /// No answer to ten hellos.
    NoAnswer,
    /// Nothing received within the idle limit.
    Idle(Duration),
    /// The peer sent a reject.
    RejectedByPeer,
    /// The backend it came from is gone, or has other conditions now.
    Reconfigured,
    /// So many newer connections of peers that are not known wait.
    Crowded(usize),
    /// A newer session of the same peer has taken its place.
    Replaced(NodeId),
    /// There is no room for another node, or its name is too long.
    NoRoom,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnId => f.write_str("it tried to connect using our own node ID"),
            Self::NotAllowed(peer) => write!(f, "node {peer} is not in the list of allowed peers"),
            Self::OtherCertificate { peer, names } => {
                write!(f, "it says that it is node {peer}, but its certificate is valid for ")?;
                for (index, name) in names.iter().enumerate() {
                    write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::NamelessCertificate(peer) => {
                write!(f, "it says that it is node {peer}, but its certificate names no node")
            }
            Self::AlreadyConnected(peer) => {
                write!(f, "it connected using a node ID we are already connected to: {peer}")
            }
            Self::ForwarderChanged { was, says } => write!(f, "node {was} now calls itself {says:?}"),
            Self::NotListed(peer) => write!(f, "node {peer} no longer lists us as a connection"),
            Self::CostMismatch { peer, ours, theirs } => {
                write!(
                    f,
                    "we disagree about the connection cost with {peer}: {ours} here, {theirs} there"
                )
            }
            Self::NoAnswer => write!(f, "no answer to {} hellos", Session::HELLOS),
            Self::Idle(limit) => write!(f, "nothing received for {} s", limit.as_secs_f64()),
            Self::RejectedByPeer => f.write_str("rejected by the other side"),
            Self::Reconfigured => f.write_str("its backend has changed in the configuration"),
            Self::Crowded(limit) => write!(f, "{limit} newer connections wait for their peers' first word"),
            Self::Replaced(peer) => write!(f, "a newer connection of {peer} has taken its place"),
            Self::NoRoom => f.write_str("the table of nodes has no room for it"),
        }
    }
}

/// What to do about a routing update.
#[derive(Clone, PartialEq, Debug)]
pub enum RouteVerdict {
    /// Nothing.
    Ignore,
    /// The peer is a neighbour from now on, at this cost. The update is not otherwise processed.
    Accepted {
        /// Its ID.
        peer: NodeId,
        /// The link's cost.
        cost: f64,
    },
    /// Process it.
    Process,
    /// It would be accepted, but for another session with this node. Nothing has changed: tell it again, or close.
    Contested(NodeId),
    /// The peer says that it has not heard of us as its neighbour: tell it again. The update is not otherwise processed.
    Hello,
    /// Send a reject and close; the link is lost if the peer had been accepted.
    Reject(Refusal),
}

/// What a due timer wants.
#[derive(Clone, PartialEq, Debug)]
pub enum TimeoutVerdict {
    /// Nothing.
    Nothing,
    /// Send a hello.
    Hello,
    /// Close without a word.
    Close(Refusal),
}

/// One session with one peer.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    peer: Option<(NodeId, f64)>,
    hellos: u32,
    hello_due: Option<Instant>,
    last_received: Instant,
}

impl Session {
    /// Hellos sent before the other end counts as silent.
    pub const HELLOS: u32 = 10;

    /// Time between hellos.
    pub const HELLO_INTERVAL: Duration = Duration::from_secs(1);

    /// Just connected: the first hello is due at once.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        Self {
            config,
            state: State::Open,
            peer: None,
            hellos: 0,
            hello_due: Some(now),
            last_received: now,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The accepted peer and the link's cost.
    pub fn peer(&self) -> Option<(&NodeId, f64)> {
        self.peer.as_ref().map(|(peer, cost)| (peer, *cost))
    }

    /// When the last message came; at first, when the session began.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Whether both ends have accepted each other.
    pub fn was_established(&self) -> bool {
        self.state == State::Up2
    }

    /// Anything arrived. Returns whether a message other than a routing update or a reject is to be processed.
    pub fn on_message(&mut self, now: Instant) -> bool {
        self.last_received = now;
        step(self.state, Cause::OtherMessage).0 == Action::Process
    }

    /// A routing update about `node`, passed on by `forwarder`, that lists us at cost `listed` or not at all. `taken`
    /// tells whether a session with a node already exists.
    pub fn on_route(
        &mut self,
        now: Instant,
        node: &str,
        forwarder: &str,
        listed: Option<f64>,
        taken: impl FnOnce(&NodeId) -> bool,
    ) -> RouteVerdict {
        self.last_received = now;
        match &self.peer {
            None => self.on_first_route(NodeId::new(forwarder), taken),
            Some((peer, cost)) => {
                let (cause, refusal) = if forwarder != peer.as_str() {
                    (
                        Cause::ForwarderChanged,
                        Some(Refusal::ForwarderChanged {
                            was: peer.clone(),
                            says: forwarder.into(),
                        }),
                    )
                } else if node != peer.as_str() {
                    (Cause::OtherNode, None)
                } else {
                    match listed {
                        None => (Cause::NotListed, Some(Refusal::NotListed(peer.clone()))),
                        // Exact equality, as the classic node has it.
                        Some(theirs) if theirs != *cost => (
                            Cause::CostMismatch,
                            Some(Refusal::CostMismatch {
                                peer: peer.clone(),
                                ours: *cost,
                                theirs,
                            }),
                        ),
                        Some(_) => (Cause::Listed, None),
                    }
                };
                match (self.take(cause), refusal) {
                    (Action::Process, _) => RouteVerdict::Process,
                    (Action::Hello, _) => RouteVerdict::Hello,
                    (Action::Reject, Some(refusal)) => RouteVerdict::Reject(refusal),
                    _ => RouteVerdict::Ignore,
                }
            }
        }
    }

    fn on_first_route(&mut self, peer: NodeId, taken: impl FnOnce(&NodeId) -> bool) -> RouteVerdict {
        if self.state != State::Open {
            return RouteVerdict::Ignore;
        }
        let allowed = self
            .config
            .allowed_peers
            .as_ref()
            .is_none_or(|list| list.contains(&peer));
        let refusal = if peer == self.config.own {
            Some(Refusal::OwnId)
        } else if peer.as_str().is_empty() || !allowed {
            // A classic node takes the empty name for a node; it must not become a neighbour (`wire.md` §23).
            Some(Refusal::NotAllowed(peer.clone()))
        } else {
            self.certificate_refuses(&peer)
        };
        if let Some(refusal) = refusal {
            self.take(Cause::Unacceptable);
            return RouteVerdict::Reject(refusal);
        }
        if taken(&peer) {
            return RouteVerdict::Contested(peer);
        }
        self.take(Cause::Acceptable);
        self.hello_due = None;
        let cost = self.config.node_costs.get(&peer).copied().unwrap_or(self.config.cost);
        self.peer = Some((peer.clone(), cost));
        RouteVerdict::Accepted { peer, cost }
    }

    /// Whether the certificate, if there is one, belongs to somebody else.
    fn certificate_refuses(&self, peer: &NodeId) -> Option<Refusal> {
        match self.config.certified.as_deref()? {
            [] if self.config.strict => Some(Refusal::NamelessCertificate(peer.clone())),
            [] => None,
            names if names.contains(peer) => None,
            names => Some(Refusal::OtherCertificate {
                peer: peer.clone(),
                names: names.to_vec(),
            }),
        }
    }

    /// Whether the other end's certificate, if it showed one, names nodes.
    pub fn is_certified(&self) -> Option<bool> {
        self.config.certified.as_ref().map(|names| !names.is_empty())
    }

    /// A reject message, or the connection is gone.
    pub fn on_closed(&mut self, rejected: bool) {
        self.take(if rejected { Cause::Rejected } else { Cause::Lost });
        self.hello_due = None;
    }

    /// Acts on what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> TimeoutVerdict {
        if self.state == State::Open && self.hello_due.is_some_and(|due| due <= now) {
            self.hello_due = Some(now + Self::HELLO_INTERVAL);
            let cause = if self.hellos < Self::HELLOS {
                Cause::HelloDue
            } else {
                Cause::HellosExhausted
            };
            return match self.take(cause) {
                Action::Hello => {
                    self.hellos += 1;
                    TimeoutVerdict::Hello
                }
                _ => TimeoutVerdict::Close(Refusal::NoAnswer),
            };
        }
        let idle = matches!(self.state, State::Up1 | State::Up2) && self.idle_at() <= now;
        if idle && self.take(Cause::Idle) == Action::Close {
            return TimeoutVerdict::Close(Refusal::Idle(self.config.idle_timeout));
        }
        TimeoutVerdict::Nothing
    }

    /// When to call [`Session::handle_timeout`].
    pub fn next_deadline(&self) -> Deadline {
        match self.state {
            State::Open => Deadline::at(self.hello_due, "hello"),
            State::Up1 | State::Up2 => Deadline::At(self.idle_at(), "idle link"),
            State::Closed => Deadline::Idle,
        }
    }

    fn idle_at(&self) -> Instant {
        self.last_received + self.config.idle_timeout
    }

    fn take(&mut self, cause: Cause) -> Action {
        let (action, next) = step(self.state, cause);
        self.state = next;
        action
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let config = SessionConfig {
            own: "me".into(),
            cost: 1.0,
            node_costs: BTreeMap::from([("dear".into(), 2.5)]),
            allowed_peers: None,
            certified: None,
            strict: false,
            idle_timeout: Duration::from_secs(21),
        };
        Session::new(config, Instant::ZERO)
    }

    fn route(session: &mut Session, node: &str, forwarder: &str, listed: Option<f64>) -> RouteVerdict {
        session.on_route(Instant::ZERO, node, forwarder, listed, |id| id.as_str() == "taken")
    }

    #[test]
    fn ten_hellos_a_second_apart_then_the_close() {
        let mut s = session();
        for second in 0..10 {
            let due = Instant::from_millis(second * 1000);
            assert_eq!(s.next_deadline(), Deadline::At(due, "hello"));
            assert_eq!(s.handle_timeout(due), TimeoutVerdict::Hello);
            assert_eq!(s.handle_timeout(due), TimeoutVerdict::Nothing);
        }
        let end = Instant::from_millis(10_000);
        assert_eq!(s.handle_timeout(end), TimeoutVerdict::Close(Refusal::NoAnswer));
        assert_eq!(s.next_deadline(), Deadline::Idle);
    }

    #[test]
    fn the_first_update_names_the_peer_and_fixes_the_cost() {
        let mut s = session();
        assert!(
            !s.on_message(Instant::ZERO),
            "nothing is processed before the peer is known"
        );
        let verdict = route(&mut s, "dear", "dear", None);
        assert_eq!(
            verdict,
            RouteVerdict::Accepted {
                peer: "dear".into(),
                cost: 2.5
            }
        );
        assert!(s.on_message(Instant::ZERO));
        assert_eq!(
            route(&mut s, "dear", "dear", None),
            RouteVerdict::Hello,
            "a late hello, or one that was not answered because the answer was lost"
        );
        assert_eq!(route(&mut s, "else", "dear", None), RouteVerdict::Process);
        assert_eq!(s.state(), State::Up1);
        assert_eq!(route(&mut s, "dear", "dear", Some(2.5)), RouteVerdict::Process);
        assert!(s.was_established());
        assert_eq!(
            route(&mut s, "dear", "dear", None),
            RouteVerdict::Reject(Refusal::NotListed("dear".into()))
        );
        assert_eq!(
            route(&mut s, "dear", "dear", Some(2.5)),
            RouteVerdict::Ignore,
            "closed is final"
        );
    }

    #[test]
    fn refused_first_updates() {
        for (forwarder, refusal) in [("me", Refusal::OwnId), ("", Refusal::NotAllowed("".into()))] {
            let mut s = session();
            assert_eq!(route(&mut s, "x", forwarder, None), RouteVerdict::Reject(refusal));
            assert_eq!(s.state(), State::Closed);
        }
        let mut s = session();
        for _ in 0..2 {
            assert_eq!(
                route(&mut s, "x", "taken", None),
                RouteVerdict::Contested("taken".into())
            );
            assert_eq!(s.state(), State::Open);
        }
        let mut s = session();
        s.config.allowed_peers = Some(BTreeSet::new());
        assert_eq!(
            route(&mut s, "a", "a", None),
            RouteVerdict::Reject(Refusal::NotAllowed("a".into()))
        );
    }

    #[test]
    fn a_certificate_belongs_to_the_nodes_it_names() {
        let verdict = |names: &[&str], strict| {
            let mut s = session();
            s.config.certified = Some(names.iter().map(|&name| name.into()).collect());
            s.config.strict = strict;
            route(&mut s, "a", "a", None)
        };
        let accepted = RouteVerdict::Accepted {
            peer: "a".into(),
            cost: 1.0,
        };
        for strict in [false, true] {
            assert_eq!(verdict(&["b", "a"], strict), accepted);
            let RouteVerdict::Reject(refusal) = verdict(&["b", "A"], strict) else {
                panic!()
            };
            assert_eq!(
                alloc::format!("{refusal}"),
                "it says that it is node a, but its certificate is valid for b, A"
            );
        }
        assert_eq!(verdict(&[], false), accepted);
        assert_eq!(
            verdict(&[], true),
            RouteVerdict::Reject(Refusal::NamelessCertificate("a".into()))
        );
    }

    #[test]
    fn a_cost_of_another_opinion_ends_the_session() {
        let mut s = session();
        route(&mut s, "a", "a", None);
        let refusal = Refusal::CostMismatch {
            peer: "a".into(),
            ours: 1.0,
            theirs: 1.5,
        };
        assert_eq!(route(&mut s, "a", "a", Some(1.5)), RouteVerdict::Reject(refusal));
    }

    #[test]
    fn a_new_name_ends_the_session() {
        let mut s = session();
        route(&mut s, "a", "a", None);
        assert!(matches!(
            route(&mut s, "a", "b", Some(1.0)),
            RouteVerdict::Reject(Refusal::ForwarderChanged { .. })
        ));
    }

    #[test]
    fn any_message_keeps_a_link_alive() {
        let mut s = session();
        route(&mut s, "a", "a", None);
        s.on_message(Instant::from_millis(5_000));
        let due = Instant::from_millis(26_000);
        assert_eq!(s.next_deadline(), Deadline::At(due, "idle link"));
        assert_eq!(s.handle_timeout(Instant::from_millis(25_999)), TimeoutVerdict::Nothing);
        assert!(matches!(s.handle_timeout(due), TimeoutVerdict::Close(Refusal::Idle(_))));
    }
}
