//! What `status` shows.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::Router;
use super::adverts::Adverts;
use super::names::OWN;
use crate::id::{LinkId, NodeId};
use crate::time::Now;
use crate::wire::classic::{AdvertTime, WorkCommand};

/// One known service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdvertView {
    /// The advertising node.
    pub node: NodeId,
    /// Whether that is this node.
    pub own: bool,
    /// The service name.
    pub service: String,
    /// RFC 3339: of our nodes at most a minute old while they are reachable, of others as they said.
    pub time: String,
    /// 0 datagram, 1 stream with built-in TLS, 2 stream with user TLS.
    pub conn_type: u8,
    /// Free-form.
    pub tags: Option<BTreeMap<String, String>>,
    /// Work types of a control service.
    pub work_commands: Option<Vec<WorkCommand>>,
}

impl Router {
    /// Accepted links: peer and cost.
    pub fn connections(&self) -> Vec<(LinkId, NodeId, f64)> {
        let links = self.neighbours.iter();
        links
            .map(|(&link, n)| (link, self.names.id(n.peer).clone(), n.cost))
            .collect()
    }

    /// Whether an accepted link leads to one of our kind.
    pub fn is_extended(&self, link: LinkId) -> bool {
        self.neighbours.get(&link).is_some_and(|n| n.extended)
    }

    /// Next hops by destination, without the own node.
    pub fn routing_table(&self) -> BTreeMap<NodeId, NodeId> {
        let routes = self.forwarding.routes();
        routes
            .map(|(node, path)| (self.names.id(node).clone(), self.names.id(path.next).clone()))
            .collect()
    }

    /// How many other nodes can be reached.
    pub fn reachable_nodes(&self) -> usize {
        self.forwarding.routes().count()
    }

    /// Costs by node and neighbour, own node included once it has had a link.
    pub fn known_costs(&self) -> BTreeMap<NodeId, BTreeMap<NodeId, f64>> {
        let mut costs: BTreeMap<NodeId, BTreeMap<NodeId, f64>> = BTreeMap::new();
        for (node, record) in self.database.nodes() {
            if node == OWN && !self.had_link {
                continue;
            }
            let row = costs.entry(self.names.id(node).clone()).or_default();
            for &(neighbour, cost) in &record.connections {
                if self.database.is_shown(node, neighbour) || node == OWN {
                    row.insert(self.names.id(neighbour).clone(), cost);
                }
            }
        }
        for neighbour in self.neighbours.values() {
            let row = costs.entry(self.names.id(neighbour.peer).clone()).or_default();
            row.insert(self.node_id().clone(), neighbour.cost);
        }
        costs
    }

    /// All known services, own ones included.
    pub fn adverts(&self, now: Now) -> Vec<AdvertView> {
        let view = |(key, entry): (&super::adverts::Key, &super::adverts::Entry)| {
            let own = key.0 == OWN;
            let time = if own {
                AdvertTime::from_wall(now.wall).as_str().into()
            } else {
                let reachable = self.forwarding.path(key.0).is_some();
                Adverts::shown_time(entry, now.wall, reachable, self.forwarding.lost_at(key.0))
            };
            AdvertView {
                node: self.names.id(key.0).clone(),
                own,
                service: key.1.as_ref().into(),
                time,
                conn_type: entry.advert.conn_type,
                tags: entry.advert.tags.clone(),
                work_commands: entry.advert.work_commands.clone(),
            }
        };
        self.adverts.live().map(view).collect()
    }

    /// Whether a node advertises a service, for deciding how to speak to it.
    pub fn advertises(&self, node: &str, service: &str) -> bool {
        let index = self.names.find(node);
        index
            .and_then(|i| self.adverts.get(i, service))
            .is_some_and(|e| !e.advert.cancel)
    }
}
