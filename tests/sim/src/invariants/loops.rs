//! When all is quiet, following the next hops from anywhere leads to every node, without passing one twice.

use std::collections::BTreeMap;

use super::Invariant;
use crate::users::{Users, name};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct Loops;

impl Invariant for Loops {
    fn name(&self) -> &'static str {
        "loops"
    }

    fn at_rest(&mut self, world: &mut World, _: &Users) -> Result<(), String> {
        let tables: BTreeMap<String, BTreeMap<String, String>> =
            (0..world.len()).map(|node| (name(node), world.routes(node))).collect();
        for (start, target) in tables.keys().flat_map(|a| tables.keys().map(move |b| (a, b))) {
            let mut at = start;
            for _ in 0..tables.len() {
                if at == target {
                    break;
                }
                let Some(next) = tables[at].get(target) else {
                    return Err(format!("on the way from {start} to {target}, {at} has no route"));
                };
                at = next;
            }
            if at != target {
                return Err(format!("the way from {start} to {target} is a loop through {at}"));
            }
        }
        Ok(())
    }
}
