//! Configured backends: which are listening, and which peers are to be dialled when.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{Backend, BackendKind, Config, ListenerTransport, PeerTransport};
use crate::deadline::Deadline;
use crate::id::{BackendId, NodeId};
use crate::link::{Redial, SessionConfig};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

#[derive(Debug)]
struct Entry {
    backend: Backend,
    /// Peers only, once dialling has begun; `None` again when there will be no further dial.
    redial: Option<Redial>,
}

/// The backends of one node. At the start their IDs are their places in the configuration; none is used again.
#[derive(Debug)]
pub(super) struct Backends {
    entries: BTreeMap<BackendId, Entry>,
    next: BackendId,
    is_dialing: bool,
    own: NodeId,
    idle_timeout: Duration,
    strict: bool,
    rng: Rng,
}

impl Backends {
    pub(super) fn new(config: &Config, rng: Rng) -> Self {
        let mut backends = Self {
            entries: BTreeMap::new(),
            next: BackendId(0),
            is_dialing: false,
            own: config.node_id.clone(),
            idle_timeout: config.idle_timeout,
            strict: config.strict,
            rng,
        };
        for backend in &config.backends {
            backends.insert(backends.next, backend.clone());
        }
        backends
    }

    /// All of them, in the order of their IDs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (BackendId, &Backend)> {
        self.entries.iter().map(|(&id, entry)| (id, &entry.backend))
    }

    /// The ID of the next one.
    pub(super) fn next_id(&self) -> BackendId {
        self.next
    }

    /// A new backend, which brings links but is not dialled yet.
    pub(super) fn insert(&mut self, id: BackendId, backend: Backend) {
        self.next = BackendId(self.next.0.max(id.0 + 1));
        self.entries.insert(id, Entry { backend, redial: None });
    }

    /// Other conditions for the links of a backend.
    pub(super) fn update(&mut self, id: BackendId, backend: Backend, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.backend = backend;
        if entry.redial.is_none() {
            // One that was not to be dialled again, or had been given up.
            self.dial(id, now);
        }
    }

    /// Forgets a backend.
    pub(super) fn remove(&mut self, id: BackendId) {
        self.entries.remove(&id);
    }

    /// Whether it accepts links.
    pub(super) fn is_listener(&self, id: BackendId) -> bool {
        self.get(id)
            .is_some_and(|entry| matches!(entry.backend.kind, BackendKind::Listener { .. }))
    }

    /// Whether its links are dialled here, or accepted; `None` if the program brings them.
    pub(super) fn is_peer(&self, id: BackendId) -> Option<bool> {
        match self.get(id)?.backend.kind {
            BackendKind::Peer { .. } => Some(true),
            BackendKind::Listener { .. } => Some(false),
            _ => None,
        }
    }

    /// Whether it was one of ours, though it may be gone.
    pub(super) fn was_known(&self, id: BackendId) -> bool {
        id < self.next
    }

    /// Listeners, the addresses they bind, and how frames travel there.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (BackendId, String, ListenerTransport)> + '_ {
        self.entries
            .iter()
            .filter_map(|(&id, entry)| match &entry.backend.kind {
                BackendKind::Listener { bind, transport } => Some((id, bind.clone(), transport.clone())),
                _ => None,
            })
    }

    /// From now on peers are dialled.
    pub(super) fn start_dialing(&mut self, now: Instant) {
        self.is_dialing = true;
        let ids: Vec<_> = self.entries.keys().copied().collect();
        for id in ids {
            self.dial(id, now);
        }
    }

    /// From now on this one is dialled, if it is a peer.
    pub(super) fn dial(&mut self, id: BackendId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id)
            && self.is_dialing
            && matches!(entry.backend.kind, BackendKind::Peer { .. })
        {
            entry.redial = Some(Redial::new(now, self.rng.fork()));
        }
    }

    /// A peer whose time has come; it counts as being dialled from now on.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(BackendId, String, PeerTransport)> {
        for (&id, entry) in &mut self.entries {
            let BackendKind::Peer { address, transport, .. } = &entry.backend.kind else {
                continue;
            };
            if let Some(redial) = &mut entry.redial
                && redial.due().is_some_and(|due| due <= now)
            {
                redial.on_dialing();
                return Some((id, address.clone(), transport.clone()));
            }
        }
        None
    }

    /// Whether the links of a backend are datagrams.
    pub(super) fn is_datagrams(&self, id: BackendId) -> bool {
        self.entries.get(&id).is_some_and(|entry| is_datagrams(&entry.backend))
    }

    /// Whether those of any are.
    pub(super) fn has_datagrams(&self) -> bool {
        self.entries.values().any(|entry| is_datagrams(&entry.backend))
    }

    /// What a session over this backend is told; `None` if there is no such backend.
    pub(super) fn session_config(&self, id: BackendId, certified: Option<Vec<NodeId>>) -> Option<SessionConfig> {
        let backend = &self.get(id)?.backend;
        Some(SessionConfig {
            own: self.own.clone(),
            cost: backend.cost,
            node_costs: backend.node_costs.clone(),
            allowed_peers: backend.allowed_peers.clone(),
            certified,
            strict: self.strict,
            idle_timeout: self.idle_timeout,
        })
    }

    /// For a link of a backend that is gone: to be closed at once.
    pub(super) fn session_of_nobody(&self) -> SessionConfig {
        SessionConfig {
            own: self.own.clone(),
            cost: 1.0,
            node_costs: BTreeMap::new(),
            allowed_peers: Some(BTreeSet::new()),
            certified: None,
            strict: self.strict,
            idle_timeout: self.idle_timeout,
        }
    }

    /// Whether there is such a backend.
    pub(super) fn contains(&self, id: BackendId) -> bool {
        self.entries.contains_key(&id)
    }

    /// A dial failed. The wait until the next, or `None` if that was all.
    pub(super) fn on_dial_failed(&mut self, id: BackendId, now: Instant) -> Option<Duration> {
        self.after(id, |redial| redial.on_failed(now))
    }

    /// A dialled connection ended. The wait until the next dial, or `None` if that was all or it was not dialled.
    pub(super) fn on_link_lost(&mut self, id: BackendId, now: Instant, was_accepted: bool) -> Option<Duration> {
        self.after(id, |redial| redial.on_lost(now, was_accepted))
    }

    fn after(&mut self, id: BackendId, wait: impl FnOnce(&mut Redial) -> Duration) -> Option<Duration> {
        let entry = self.entries.get_mut(&id)?;
        match entry.backend.kind {
            BackendKind::Peer { redial: true, .. } => entry.redial.as_mut().map(wait),
            _ => {
                entry.redial = None;
                None
            }
        }
    }

    /// The address a peer is dialled at, for logs.
    pub(super) fn address(&self, id: BackendId) -> &str {
        match self.get(id).map(|entry| &entry.backend.kind) {
            Some(BackendKind::Peer { address, .. }) => address,
            Some(BackendKind::Listener { bind, .. }) => bind,
            _ => "",
        }
    }

    pub(super) fn next_deadline(&self) -> Deadline {
        let due = self
            .entries
            .values()
            .filter_map(|entry| entry.redial.as_ref()?.due())
            .min();
        Deadline::at(due, "dial")
    }

    fn get(&self, id: BackendId) -> Option<&Entry> {
        self.entries.get(&id)
    }
}

fn is_datagrams(backend: &Backend) -> bool {
    matches!(
        backend.kind,
        BackendKind::Listener {
            transport: ListenerTransport::Udp,
            ..
        } | BackendKind::Peer {
            transport: PeerTransport::Udp,
            ..
        }
    )
}

/// What is wrong with a configuration, in the classic words.
pub(super) fn check(backends: &[Backend]) -> Result<(), String> {
    let positive = |cost: f64| cost > 0.0 && cost.is_finite();
    for backend in backends {
        if !positive(backend.cost) {
            return Err("connection cost must be positive".into());
        }
        let costs: &BTreeMap<NodeId, f64> = &backend.node_costs;
        if let Some((node, _)) = costs.iter().find(|&(_, &cost)| !positive(cost)) {
            return Err(alloc::format!("connection cost must be positive for {node}"));
        }
    }
    Ok(())
}
