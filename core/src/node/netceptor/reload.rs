//! Backends that come, change and go while the node runs. Those that stay the same keep their listeners and links.

use alloc::string::String;
use alloc::vec::Vec;

use super::Netceptor;
use super::backends::{self, Backends};
use crate::config::{Backend, BackendKind, ListenerTransport};
use crate::id::BackendId;
use crate::link::Refusal;
use crate::node::io::{Level, Task};
use crate::time::Now;

/// What a new list of backends changes.
#[derive(Debug, Default)]
pub(in crate::node) struct BackendChanges {
    added: Vec<(BackendId, Backend)>,
    /// The same listener or peer with other conditions for its links.
    changed: Vec<(BackendId, Backend)>,
    removed: Vec<BackendId>,
    /// Listeners among the removed ones whose port a new one may want.
    in_the_way: Vec<BackendId>,
}

impl BackendChanges {
    /// Listeners that must give up their addresses before the new ones are bound.
    pub(in crate::node) fn in_the_way(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.in_the_way.iter().copied()
    }
}

/// A listener to bind.
#[derive(Debug)]
pub(in crate::node) struct Listening {
    pub(in crate::node) backend: BackendId,
    pub(in crate::node) address: String,
    pub(in crate::node) transport: ListenerTransport,
}

impl Listening {
    /// With the limits of the node.
    pub(in crate::node) fn task(self, handshakes: usize, links: usize) -> Task {
        Task::Listen {
            backend: self.backend,
            address: self.address,
            transport: self.transport,
            handshakes,
            links,
        }
    }
}

impl Netceptor {
    /// What these backends would change; nothing is done yet.
    ///
    /// # Errors
    /// A backend that no node can run with, in the classic words.
    pub(in crate::node) fn plan_reload(&self, new: &[Backend]) -> Result<BackendChanges, String> {
        backends::check(new)?;
        Ok(plan(&self.backends, new))
    }

    /// New backends may bring links from now on. Gives the listeners to bind.
    pub(in crate::node) fn begin_reload(&mut self, changes: &BackendChanges) -> Vec<Listening> {
        for (id, backend) in &changes.added {
            self.backends.insert(*id, backend.clone());
        }
        let added: Vec<_> = changes.added.iter().map(|&(id, _)| id).collect();
        self.listening(&added)
    }

    /// It cannot be done: the new backends go, and the listeners that were in their way are bound again.
    pub(in crate::node) fn revert_reload(&mut self, now: Now, changes: &BackendChanges) -> Vec<Listening> {
        for &(id, _) in &changes.added {
            self.retire(now, id);
        }
        self.listening(&changes.in_the_way)
    }

    /// Drops what is gone, renews what changed, and dials what is new. Gives the listeners to close that are still open.
    pub(in crate::node) fn finish_reload(&mut self, now: Now, changes: BackendChanges) -> Vec<BackendId> {
        let is_open = |id: &BackendId| !changes.in_the_way.contains(id) && self.backends.is_listener(*id);
        let to_close: Vec<_> = changes.removed.iter().copied().filter(is_open).collect();
        for &id in &changes.removed {
            self.retire(now, id);
        }
        for (id, backend) in changes.changed {
            let text = alloc::format!("backend {} has changed", self.backends.address(id));
            self.log(Level::Info, text);
            self.backends.update(id, backend, now.mono);
            // Its links were made under other conditions; what may stay comes again.
            self.close_links_of(now, id);
        }
        for (id, _) in changes.added {
            self.backends.dial(id, now.mono);
        }
        self.tell_datagrams(now);
        self.dial_due(now);
        to_close
    }

    fn retire(&mut self, now: Now, id: BackendId) {
        if !self.backends.address(id).is_empty() {
            let text = alloc::format!("backend {} is no longer configured", self.backends.address(id));
            self.log(Level::Info, text);
        }
        self.backends.remove(id);
        self.close_links_of(now, id);
    }

    fn close_links_of(&mut self, now: Now, id: BackendId) {
        for link in self.links.of_backend(id) {
            self.close_link(now, link, &Refusal::Reconfigured, false);
        }
    }

    fn listening(&self, ids: &[BackendId]) -> Vec<Listening> {
        self.backends
            .listeners()
            .filter(|(id, ..)| ids.contains(id))
            .map(|(backend, address, transport)| Listening {
                backend,
                address,
                transport,
            })
            .collect()
    }
}

fn plan(old: &Backends, new: &[Backend]) -> BackendChanges {
    let mut rest: Vec<_> = old.iter().collect();
    let mut take = |is_it: &dyn Fn(&Backend) -> bool| {
        let index = rest.iter().position(|&(_, backend)| is_it(backend))?;
        Some(rest.swap_remove(index).0)
    };
    // All that are the same first, so that a changed one beside an equal one does not take its place.
    let unequal: Vec<_> = new.iter().filter(|&new| take(&|old| old == new).is_none()).collect();
    let mut changes = BackendChanges::default();
    let mut next = old.next_id();
    for new in unequal {
        match take(&|old| is_same_place(&old.kind, &new.kind)) {
            Some(id) => changes.changed.push((id, new.clone())),
            None => {
                changes.added.push((next, new.clone()));
                next = BackendId(next.0 + 1);
            }
        }
    }
    // In their old order, for logs and tests.
    rest.sort_unstable_by_key(|&(id, _)| id);
    for (id, backend) in rest {
        changes.removed.push(id);
        let wants_port = |(_, new): &(BackendId, Backend)| port(new) == port(backend);
        if port(backend).is_some() && changes.added.iter().any(wants_port) {
            changes.in_the_way.push(id);
        }
    }
    changes
}

/// Whether one can become the other without closing a socket.
fn is_same_place(old: &BackendKind, new: &BackendKind) -> bool {
    match (old, new) {
        (
            BackendKind::Listener { bind, transport },
            BackendKind::Listener {
                bind: new_bind,
                transport: new_transport,
            },
        ) => bind == new_bind && transport == new_transport,
        (
            BackendKind::Peer { address, transport, .. },
            BackendKind::Peer {
                address: new_address,
                transport: new_transport,
                ..
            },
        ) => address == new_address && transport == new_transport,
        _ => false,
    }
}

/// The port a listener holds for itself. Two addresses with one port may overlap, as one of them may be the wildcard.
fn port(backend: &Backend) -> Option<&str> {
    match &backend.kind {
        BackendKind::Listener { bind, .. } => {
            let (_, port) = bind.rsplit_once(':')?;
            Some(port).filter(|&port| port != "0")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::config::Config;

    fn listener(bind: &str, cost: f64) -> Backend {
        let mut backend = Backend::new(BackendKind::listener(bind));
        backend.cost = cost;
        backend
    }

    fn peer(address: &str) -> Backend {
        Backend::new(BackendKind::peer(address))
    }

    fn changes(old: Vec<Backend>, new: &[Backend]) -> BackendChanges {
        let mut config = Config::new("node".into());
        config.backends = old;
        plan(&Backends::new(&config, crate::rng::Rng::from_seed([0; 32])), new)
    }

    fn ids<T>(list: &[(BackendId, T)]) -> Vec<u64> {
        list.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn the_same_in_another_order_changes_nothing() {
        let (a, b, c) = (listener(":1", 1.0), peer("x:1"), peer("x:1"));
        let all = changes(vec![a.clone(), b.clone(), c.clone()], &[c, a, b]);
        assert!(all.added.is_empty() && all.changed.is_empty() && all.removed.is_empty());
    }

    #[test]
    fn what_comes_changes_and_goes_is_told_apart() {
        let old = vec![listener(":1", 1.0), peer("x:1"), listener(":2", 1.0), peer("y:1")];
        let new = [listener(":1", 2.0), peer("y:1"), peer("z:1"), listener(":3", 1.0)];
        let all = changes(old, &new);
        assert_eq!(ids(&all.changed), [0]);
        assert_eq!(all.removed, [BackendId(1), BackendId(2)]);
        assert_eq!(ids(&all.added), [4, 5]);
        assert!(all.in_the_way.is_empty());
    }

    #[test]
    fn a_listener_gives_way_to_one_that_wants_its_port() {
        let mut secure = listener("127.0.0.1:7", 1.0);
        secure.kind = BackendKind::Listener {
            bind: "127.0.0.1:7".into(),
            transport: ListenerTransport::Tcp { tls: Some("t".into()) },
        };
        let all = changes(vec![listener("0.0.0.0:7", 1.0), listener(":8", 1.0)], &[secure]);
        assert_eq!(all.removed, [BackendId(0), BackendId(1)]);
        assert_eq!(all.in_the_way, [BackendId(0)]);
        // Any free port is in nobody's way.
        let all = changes(vec![listener("0.0.0.0:0", 1.0)], &[listener("127.0.0.1:0", 1.0)]);
        assert!(all.in_the_way.is_empty());
    }

    #[test]
    fn of_two_that_are_alike_the_one_that_did_not_change_stays() {
        let (cheap, dear) = (listener(":1", 1.0), listener(":1", 5.0));
        let all = changes(vec![cheap, dear.clone()], &[listener(":1", 7.0), dear]);
        assert_eq!(ids(&all.changed), [0]);
        assert!(all.removed.is_empty());
    }
}
