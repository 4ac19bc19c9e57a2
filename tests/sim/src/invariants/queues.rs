//! What waits on links stays within the limits of link and node.

use std::collections::BTreeMap;

use super::Invariant;
use crate::world::{NodeIndex, Observed, World};

/// Every so many frames all links of the node are looked at, too.
const EVERY: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Queues {
    seen: BTreeMap<NodeIndex, u32>,
}

impl Invariant for Queues {
    fn name(&self) -> &'static str {
        "queues"
    }

    fn on(&mut self, world: &World, what: &Observed) -> Result<(), String> {
        let (Observed::Sent { node, .. } | Observed::Arrived { node, .. }) = what else {
            return Ok(());
        };
        let host = world.host(*node);
        if !host.is_up() {
            return Ok(());
        }
        let limits = &host.config().limits;
        let queued = host.node().queued_bytes();
        // Control messages are never refused for the node's limit; each link has as much again for them.
        if queued > limits.node_queue_bytes + world.network.wires() * limits.link_queue_bytes {
            return Err(format!("{queued} bytes wait in n{node}"));
        }
        let seen = self.seen.entry(*node).or_default();
        *seen += 1;
        if seen.is_multiple_of(EVERY) {
            for link in host.node().link_stats() {
                if link.egress.held_bytes > 2 * limits.link_queue_bytes {
                    return Err(format!("a queue of n{node} holds too much: {:?}", link.egress));
                }
            }
        }
        Ok(())
    }
}
