//! A node says nothing at error level while its disk is well and its work types are right.

use std::collections::BTreeSet;

use receptor_core::node::io::{Event, Level};

use super::Invariant;
use crate::world::{NodeIndex, Observed, World};

#[derive(Debug, Default)]
pub(super) struct NoErrorLogs {
    /// Disks that have failed at some time: what they left behind is found later, too.
    sick: BTreeSet<NodeIndex>,
}

impl Invariant for NoErrorLogs {
    fn name(&self) -> &'static str {
        "no_error_logs"
    }

    fn on(&mut self, world: &World, what: &Observed) -> Result<(), String> {
        let Observed::Said { node, event } = what else {
            return Ok(());
        };
        let disk = &world.host(*node).disk;
        if disk.full || disk.broken {
            self.sick.insert(*node);
        }
        match event {
            Event::Log(Level::Error, text) if !self.sick.contains(node) => Err(format!("n{node} says: {text}")),
            Event::StartFailed(text) => Err(format!("n{node} did not start: {text}")),
            Event::Duplicate => Err(format!("n{node} believes that it runs twice")),
            _ => Ok(()),
        }
    }
}
