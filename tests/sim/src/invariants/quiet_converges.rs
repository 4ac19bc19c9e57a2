//! When all is quiet, all nodes know the same: every cost, and every service that is advertised.

use std::collections::BTreeSet;

use super::Invariant;
use crate::users::{Users, name};
use crate::world::World;

#[derive(Debug, Default)]
pub(super) struct QuietConverges;

impl Invariant for QuietConverges {
    fn name(&self) -> &'static str {
        "quiet_converges"
    }

    fn at_rest(&mut self, world: &mut World, users: &Users) -> Result<(), String> {
        let wanted: BTreeSet<(String, String)> = users
            .advertised()
            .map(|(node, service)| (name(node), service))
            .collect();
        let mut first = None;
        for node in 0..world.len() {
            let status = world.status(node);
            let costs = status["KnownConnectionCosts"].clone();
            let known = first.get_or_insert_with(|| costs.clone());
            if *known != costs {
                return Err(format!("n0 knows the costs {known}, and n{node} {costs}"));
            }
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let empty = Vec::new();
            let seen: BTreeSet<(String, String)> = status["Advertisements"]
                .as_array()
                .unwrap_or(&empty)
                .iter()
                .map(|advert| (text(&advert["NodeID"]), text(&advert["Service"])))
                .collect();
            if let Some(missing) = wanted.difference(&seen).next() {
                return Err(format!("n{node} does not know the service {missing:?}"));
            }
        }
        Ok(())
    }
}
