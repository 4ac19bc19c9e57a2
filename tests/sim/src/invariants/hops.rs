//! A node that passes a data frame on has taken a hop from it, and passes nothing on that did not come.

use std::collections::{BTreeMap, VecDeque};

use receptor_core::id::NodeId;

use super::Invariant;
use crate::world::{NodeIndex, Observed, Seen, World};

/// Frames that are remembered per node: more than its queues hold.
const KEPT: usize = 200_000;

#[derive(Debug, Default)]
struct Passing {
    /// Hops of frames that came, by their contents.
    came: BTreeMap<(u64, u64), Vec<u8>>,
    order: VecDeque<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Hops {
    nodes: BTreeMap<NodeIndex, Passing>,
}

/// What says that two frames are the same one: all but hops and flags.
fn key(frame: &Seen) -> Option<(u64, u64)> {
    let header = frame.header?;
    let flow = receptor_core::wire::data::Header {
        hops: 0,
        flags: 0,
        ..header
    };
    let bytes = flow.to_bytes();
    let mut sum = 0_u64;
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        sum = sum
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from_le_bytes(word));
    }
    Some((frame.digest, sum))
}

impl Invariant for Hops {
    fn name(&self) -> &'static str {
        "hops"
    }

    fn on(&mut self, _: &World, what: &Observed) -> Result<(), String> {
        match what {
            Observed::Started(node) => {
                self.nodes.insert(*node, Passing::default());
            }
            Observed::Arrived { node, frame, .. } => {
                let Some(header) = frame.header else { return Ok(()) };
                let own = NodeId::from(crate::users::name(*node).as_str()).hash();
                let (Some(key), true) = (key(frame), header.to != own) else {
                    return Ok(());
                };
                let passing = self.nodes.entry(*node).or_default();
                passing.came.entry(key).or_default().push(header.hops);
                passing.order.push_back(key);
                if passing.order.len() > KEPT
                    && let Some(oldest) = passing.order.pop_front()
                {
                    passing.came.remove(&oldest);
                }
            }
            Observed::Sent { node, frame, .. } => {
                let Some(header) = frame.header else { return Ok(()) };
                let own = NodeId::from(crate::users::name(*node).as_str()).hash();
                let (Some(key), true) = (key(frame), header.from != own) else {
                    return Ok(());
                };
                let came = self.nodes.get(node).and_then(|passing| passing.came.get(&key));
                if !came.is_some_and(|came| came.contains(&(header.hops.saturating_add(1)))) {
                    return Err(format!(
                        "n{node} passed on a frame with {} hops left that came with {came:?}: {header:?}",
                        header.hops
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
