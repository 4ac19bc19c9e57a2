//! Commands that wait until fewer others run, first come first served. What waits is on the disk, so it waits on after a
//! restart.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Workceptor;
use super::api::WorkReply;
use super::change::Change;
use super::id::UnitId;
use super::unit::{Run, Stage, Unit};
use crate::wire::classic::AdvertTime;

/// Who runs and who waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Units that were started, some of them perhaps over. Empty without a limit.
    started: BTreeSet<UnitId>,
    /// Units that wait.
    waiting: VecDeque<UnitId>,
}

impl Workceptor {
    /// A unit is started, or was found running.
    pub(super) fn note_started(&mut self, id: &UnitId) {
        if self.limits.max_running.is_some() {
            self.queue.started.insert(id.clone());
        }
    }

    /// A unit does not wait any more, whatever has become of it.
    pub(super) fn leave_queue(&mut self, id: &UnitId) {
        self.queue.waiting.retain(|waiting| waiting != id);
    }

    /// The limit may be new: counts who runs.
    pub(super) fn count_running(&mut self) {
        let runs = |unit: &Unit| {
            matches!(
                unit.run,
                Run::Recording | Run::Spawning | Run::Attaching | Run::Up { .. }
            )
        };
        let running = self.units.iter().filter(|(_, unit)| runs(unit));
        self.queue.started = match self.limits.max_running {
            Some(_) => running.map(|(id, _)| id.clone()).collect(),
            None => BTreeSet::new(),
        };
    }

    /// Stdin is complete: starts the unit, or lets it wait.
    pub(super) fn start_or_queue(&mut self, id: &UnitId) {
        // Who came first goes first.
        if self.waiting_count() == 0 && self.has_place() {
            return self.start_command(id);
        }
        if let Err(text) = self.check_queue() {
            return self.start_failed(id, &text);
        }
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.cancelling || unit.run != Run::Waiting {
            return;
        }
        unit.run = Run::Queued;
        self.queue.waiting.push_back(id.clone());
        self.update(id, Change::Enqueued, true);
    }

    /// It is durable that a unit waits.
    pub(super) fn enqueued(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if let Some(client) = unit.starter.take()
            && self.clients.remove(&client).is_some()
        {
            self.reply(client, WorkReply::Submitted { unit: id.clone() });
        }
        self.start_queued();
    }

    /// Starts what waits, as far as there is room. Called whenever a unit is over or gone, and when limits have changed.
    pub(super) fn start_queued(&mut self) {
        while !self.queue.waiting.is_empty() && self.has_place() {
            let Some(id) = self.queue.waiting.pop_front() else {
                return;
            };
            if let Some(unit) = self.units.get_mut(&id)
                && unit.run == Run::Queued
            {
                unit.run = Run::Waiting;
                self.start_command(&id);
            }
        }
    }

    /// Takes up the units that waited when the node went, in their order.
    pub(super) fn restore_queue(&mut self) {
        let mut found: Vec<(i128, UnitId)> = Vec::new();
        for (id, unit) in self.units.iter().filter(|(_, unit)| unit.run == Run::Queued) {
            let created = unit.record.extra.times().map_or("", |times| &times.created);
            let time = AdvertTime::parse(created.as_bytes()).map_or(0, |time| time.nanos());
            found.push((time, id.clone()));
        }
        found.sort();
        self.queue.waiting.extend(found.into_iter().map(|(_, id)| id));
        self.start_queued();
    }

    /// Whether one more may wait, if it has to.
    ///
    /// # Errors
    /// The text for whoever submits it.
    pub(super) fn check_queue(&mut self) -> Result<(), String> {
        let Some(limit) = self.limits.max_queued else {
            return Ok(());
        };
        let waiting = self.waiting_count();
        if waiting < limit || (waiting == 0 && self.has_place()) {
            return Ok(());
        }
        Err(format!("too many work units wait: the limit of this node is {limit}"))
    }

    /// Units that wait.
    pub(super) fn waiting_count(&self) -> usize {
        self.queue.waiting.len()
    }

    fn has_place(&mut self) -> bool {
        let Some(limit) = self.limits.max_running else {
            return true;
        };
        let units = &self.units;
        self.queue.started.retain(|id| {
            units.get(id).is_some_and(|unit| {
                !unit.is_complete() && !unit.is_foreign() && unit.run != Run::Queued && unit.stage != Stage::Removing
            })
        });
        self.queue.started.len() < limit
    }
}
