//! The record of a unit goes forward: pending, running, over; once over it stays as it is. A power cut may take back what was
//! not synced, but never an end.

use std::collections::BTreeMap;

use receptor_core::workceptor::{State, UnitId};

use super::Invariant;
use crate::world::{NodeIndex, Observed, World};

#[derive(Debug, Default)]
pub(super) struct UnitRecords {
    known: BTreeMap<(NodeIndex, UnitId), (State, u64)>,
}

fn rank(state: State) -> u8 {
    match state {
        State::Pending => 0,
        State::Running => 1,
        _ => 2,
    }
}

impl Invariant for UnitRecords {
    fn name(&self) -> &'static str {
        "unit_records"
    }

    fn on(&mut self, world: &World, what: &Observed) -> Result<(), String> {
        match what {
            Observed::Stopped {
                node,
                by_power_cut: true,
            } => {
                let disk = &world.host(*node).disk;
                for ((_, unit), known) in self.known.iter_mut().filter(|((at, _), _)| at == node) {
                    let record = disk.unit(unit).and_then(|dir| dir.record.as_ref());
                    let left = record.map_or((State::Pending, 0), |record| (record.state, record.stdout_size));
                    if known.0.is_complete() && left.0 != known.0 {
                        return Err(format!(
                            "unit {unit} of n{node} was {known:?}, and after a power cut {left:?}"
                        ));
                    }
                    *known = left;
                }
            }
            Observed::Removed { node, unit } => {
                self.known.remove(&(*node, unit.clone()));
            }
            Observed::Recorded { node, unit, record } => {
                let now = (record.state, record.stdout_size);
                let Some(before) = self.known.insert((*node, unit.clone()), now) else {
                    return Ok(());
                };
                let is_over = before.0.is_complete();
                if rank(now.0) < rank(before.0) || is_over && now.0 != before.0 {
                    return Err(format!("unit {unit} of n{node} went from {before:?} to {now:?}"));
                }
                if now.1 < before.1 && !is_over && rank(now.0) < 2 {
                    return Err(format!(
                        "the output of unit {unit} of n{node} shrank: {before:?} to {now:?}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
