//! What becomes of the units found on the disk (`work.md` §14).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::Workceptor;
use super::api::Severity;
use super::change::{Change, Phase, phase};
use super::classic::Poll;
use super::command::START_UNKNOWN;
use super::extra::Extra;
use super::id::UnitId;
use super::record::Record;
use super::remote::Remote;
use super::spool::{Source, Spool, Writer};
use super::state::State;
use super::target::Target;
use super::task::{Stored, StoredUnit};
use super::unit::{Removal, Run, Stage, Unit};
use crate::time::Now;

impl Workceptor {
    /// What is on the disk, told once, before anything else. Every unit is known afterwards and none is deleted; what
    /// does not fit the limit of units is shown all the same.
    pub fn handle_scan(&mut self, now: Now, stored: Stored) {
        self.now = now;
        self.boot_id = stored.boot_id;
        for tombstone in stored.released {
            self.bury(tombstone);
        }
        for found in stored.units {
            // Its directory is there: it was not removed after all, or has come anew.
            self.released.remove(&found.id);
            if !self.units.contains_key(&found.id) {
                self.restore(found);
            }
        }
        let owed: Vec<UnitId> = self
            .released
            .units()
            .filter(|id| self.owed(id).is_some())
            .cloned()
            .collect();
        for id in owed {
            self.owe(&id);
        }
        self.restore_queue();
    }

    fn restore(&mut self, found: StoredUnit) {
        let id = found.id;
        let record = match found.record {
            Ok(record) => record,
            Err(error) => {
                self.log(Severity::Error, format!("unit {id}: cannot read its record: {error}"));
                // Only shown: the file stays as it is.
                Record {
                    state: State::Failed,
                    detail: format!("Failed to restart: {error}"),
                    stdout_size: found.stdout_size,
                    ..Record::default()
                }
            }
        };
        let boot_id = self.boot_id.clone();
        let mut unit = Unit::new(self.fresh_key(), record, Stage::Live);
        unit.runner = found.runner;
        if !unit.is_complete() && unit.record.extra.remote().is_none() {
            unit.output = unit.output.max(found.stdout_size);
        }
        match &unit.record.extra {
            Extra::Command(extra) => unit.cancelling = extra.cancelling,
            Extra::Remote(extra) => {
                let mut remote = Remote::new(Target::of(extra));
                remote.submitted = extra.contacted || extra.remote_started || !extra.remote_unit_id.is_empty();
                remote.start_seen = extra.remote_started;
                remote.stdin_total = extra.stdin_complete.then_some(found.stdin_size);
                remote.stdin_durable = extra.stdin_complete;
                let durable = found.stdout_size.min(unit.record.stdout_size);
                // A file may be longer after a loss of power than what it really holds.
                let is_sure = !boot_id.is_empty() && extra.boot_id == boot_id;
                let here = if is_sure { found.stdout_size } else { durable };
                remote.file = Writer::at(here.max(extra.output_from));
                if !unit.record.state.is_complete() {
                    unit.output = remote.file.received();
                }
                let is_named = extra.remote_started || !extra.remote_unit_id.is_empty();
                remote.poll = Poll::restored(is_named, durable);
                remote.over = unit.record.state.is_complete() && !extra.local_cancelled;
                unit.cancelling = extra.local_cancelled;
                unit.release = extra.local_released.then(Removal::default);
                unit.remote = Some(Box::new(remote));
            }
            Extra::Other(_) => {}
        }
        if unit.is_complete() {
            unit.run = Run::Over;
        }
        self.units.insert(id.clone(), unit);
        self.resume(&id);
        self.set_expiration(&id);
        self.expect_stdin(&id);
        self.advance(&id);
    }

    /// Takes up a unit where the last process of this node left it.
    fn resume(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Extra::Command(extra) = &unit.record.extra else {
            return self.resume_remote(id);
        };
        match phase(&unit.record) {
            // Whatever the record says, it runs: a classic node died before it wrote down whom it had started.
            Phase::Waiting | Phase::Starting if unit.runner.is_some() => self.attach(id),
            Phase::Waiting if extra.stdin_complete => unit.run = Run::Queued,
            // Its submitter sends stdin again, from the start: what is in the file may not have been durable.
            Phase::Waiting if !extra.submitter.is_empty() => unit.spool = Some(Spool::new(Source::Nobody)),
            Phase::Waiting => self.fail(id, "Pending at restart".to_string()),
            // Refused if a runner comes up in this moment, which is then looked for.
            Phase::Starting => {
                self.note_started(id);
                self.fail(id, START_UNKNOWN.to_string());
            }
            Phase::Launched | Phase::Running => self.attach(id),
            Phase::Queued | Phase::Started | Phase::Interrupted | Phase::Complete | Phase::Foreign => {}
        }
    }

    fn resume_remote(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(extra) = unit.record.extra.remote() else {
            return;
        };
        if unit.record.state.is_complete() || unit.release.is_some() || extra.remote_started || extra.stdin_complete {
            return;
        }
        // Its stdin was never complete: nobody will send the rest.
        let detail = match unit.record.state {
            State::Pending if extra.contacted || unit.record.detail == "Waiting for Input Data" => "Pending at restart",
            _ => "Failed to restart: remote work had not previously started",
        };
        self.update(
            id,
            Change::Failed {
                detail: detail.to_string(),
            },
            true,
        );
        if let Some(unit) = self.units.get_mut(id) {
            unit.run = Run::Over;
        }
    }
}
