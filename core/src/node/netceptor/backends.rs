//! Configured backends: which are listening, and which peers are to be dialled when.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{Backend, BackendKind, Config, ListenerTransport, PeerTransport};
use crate::deadline::Deadline;
use crate::id::{BackendId, NodeId};
use crate::link::{Redial, SessionConfig};
use crate::time::{Duration, Instant};

#[derive(Debug)]
struct Entry {
    backend: Backend,
    /// Peers only, once dialling has begun; `None` again when there will be no further dial.
    redial: Option<Redial>,
}

/// The backends of one node, by their index in the configuration.
#[derive(Debug)]
pub(super) struct Backends {
    entries: Vec<Entry>,
    own: NodeId,
    idle_timeout: Duration,
    strict: bool,
}

impl Backends {
    pub(super) fn new(config: &Config) -> Self {
        let entry = |backend: &Backend| Entry {
            backend: backend.clone(),
            redial: None,
        };
        Self {
            entries: config.backends.iter().map(entry).collect(),
            own: config.node_id.clone(),
            idle_timeout: config.idle_timeout,
            strict: config.strict,
        }
    }

    /// Listeners, the addresses they bind, and how frames travel there.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (BackendId, String, ListenerTransport)> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| match &entry.backend.kind {
                BackendKind::Listener { bind, transport } => {
                    Some((BackendId(index as u64), bind.clone(), transport.clone()))
                }
                _ => None,
            })
    }

    /// From now on peers are dialled.
    pub(super) fn start_dialing(&mut self, now: Instant) {
        for entry in &mut self.entries {
            if matches!(entry.backend.kind, BackendKind::Peer { .. }) {
                entry.redial = Some(Redial::new(now));
            }
        }
    }

    /// A peer whose time has come; it counts as being dialled from now on.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(BackendId, String, PeerTransport)> {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let BackendKind::Peer { address, transport, .. } = &entry.backend.kind else {
                continue;
            };
            if let Some(redial) = &mut entry.redial
                && redial.due().is_some_and(|due| due <= now)
            {
                redial.on_dialing();
                return Some((BackendId(index as u64), address.clone(), transport.clone()));
            }
        }
        None
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

    /// A dial failed. The wait until the next, or `None` if that was all.
    pub(super) fn on_dial_failed(&mut self, id: BackendId, now: Instant) -> Option<Duration> {
        self.after(id, |redial| redial.on_failed(now))
    }

    /// A dialled connection ended. The wait until the next dial, or `None` if that was all or it was not dialled.
    pub(super) fn on_link_lost(&mut self, id: BackendId, now: Instant, was_accepted: bool) -> Option<Duration> {
        self.after(id, |redial| redial.on_lost(now, was_accepted))
    }

    fn after(&mut self, id: BackendId, wait: impl FnOnce(&mut Redial) -> Duration) -> Option<Duration> {
        let entry = self.entries.get_mut(usize::try_from(id.0).ok()?)?;
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
            .iter()
            .filter_map(|entry| entry.redial.as_ref()?.due())
            .min();
        Deadline::at(due, "dial")
    }

    fn get(&self, id: BackendId) -> Option<&Entry> {
        self.entries.get(usize::try_from(id.0).ok()?)
    }
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
