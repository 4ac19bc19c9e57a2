//! A submitted command is started once at most: not twice for a unit, and not by two units for one submission.

use std::collections::BTreeMap;

use super::Invariant;
use crate::world::{NodeIndex, Observed, World};

#[derive(Debug, Default)]
pub(super) struct Processes {
    started: BTreeMap<String, (NodeIndex, String)>,
}

impl Invariant for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn on(&mut self, _: &World, what: &Observed) -> Result<(), String> {
        let Observed::Spawned { node, unit, args } = what else {
            return Ok(());
        };
        let Some(submission) = args.last() else { return Ok(()) };
        let here = (*node, unit.to_string());
        match self.started.insert(submission.clone(), here.clone()) {
            Some(before) => Err(format!("{submission} was started twice: {before:?}, {here:?}")),
            None => Ok(()),
        }
    }
}
