//! Units that this node runs: start, runner, end.

use alloc::format;
use alloc::string::ToString as _;

use super::api::{Severity, WorkReply};
use super::change::{Change, Phase, phase};
use super::id::UnitId;
use super::process::{FoundRunner, RunnerKind};
use super::record::Record;
use super::split::split_words;
use super::task::{RunLimits, RunnerEvent, UnitTask, UnitTaskResult};
use super::timer::{Timer, back_off};
use super::unit::{Run, Stage};
use super::{Purpose, Workceptor, failure};
use crate::config::WorkKind;
use crate::time::Now;

/// Detail of a unit whose node stopped between the decision to start it and word of a runner. It is never run again.
pub(super) const START_UNKNOWN: &str = "start unknown: the node stopped while it was starting the command";

/// Detail of a unit whose runner is gone without a word.
pub(super) const RUNNER_LOST: &str = "runner lost: it is gone and has not said how the command ended";

/// Detail of a unit whose runner went down with the whole machine.
pub(super) const MACHINE_RESTARTED: &str = "node restarted: the machine was started anew while the command ran";

impl Workceptor {
    /// What a runner tells.
    pub fn handle_runner(&mut self, now: Now, id: &UnitId, event: RunnerEvent) {
        self.now = now;
        let Some(unit) = self.units.get_mut(id) else { return };
        match event {
            RunnerEvent::Running(record) => {
                unit.adopt(record);
                self.runner_up(id);
            }
            RunnerEvent::Output(size) => {
                if !unit.is_complete() && size > unit.output {
                    unit.output = size;
                }
            }
            RunnerEvent::Finished(record) => {
                let size = record.stdout_size;
                self.runner_gone(id, record, size, RUNNER_LOST);
            }
            RunnerEvent::Lost { record, stdout_size } => self.runner_gone(id, record, stdout_size, RUNNER_LOST),
        }
        self.advance(id);
    }

    /// Stdin is complete: make it known to the disk that a runner will be started.
    pub(super) fn start_command(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.cancelling || unit.run != Run::Waiting {
            return;
        }
        let params = unit.record.extra.command().map_or("", |extra| extra.params.as_str());
        if let Err(error) = split_words(params) {
            return self.start_failed(id, error.text());
        }
        unit.run = Run::Recording;
        self.note_started(id);
        self.update(id, Change::Starting, true);
    }

    /// `Starting` is durable: from here on the unit must not be started by anybody else.
    pub(super) fn start_recorded(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.run != Run::Recording || unit.is_complete() {
            return;
        }
        if unit.cancelling {
            unit.run = Run::Over;
            return self.update(id, Change::Canceled, true);
        }
        let params = unit.record.extra.command().map_or("", |extra| extra.params.as_str());
        let (Some(WorkKind::Command { command, .. }), Ok(args)) = (
            self.types.get(&unit.record.work_type).map(|t| &t.kind),
            split_words(params),
        ) else {
            return self.start_failed(id, "its work type is gone");
        };
        unit.run = Run::Spawning;
        let spawn = UnitTask::Spawn {
            program: command.clone(),
            args,
            limits: RunLimits {
                output: self.limits.max_stdout,
                time: self.limits.time_limit,
            },
        };
        self.task(id, Purpose::Spawn, spawn);
    }

    pub(super) fn spawned(&mut self, id: &UnitId, result: UnitTaskResult) {
        match result {
            UnitTaskResult::Spawned => self.runner_up(id),
            other => {
                let error = failure(other);
                self.log(Severity::Error, format!("unit {id}: cannot start a runner: {error}"));
                self.start_failed(id, &error);
            }
        }
        self.advance(id);
    }

    fn runner_up(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if matches!(unit.run, Run::Spawning | Run::Attaching) && !unit.is_complete() {
            unit.run = Run::Up { cancel_told: false };
        }
        self.tell_started(id);
    }

    /// The client that submitted the unit learns that it has started, once it is durable that it was submitted.
    pub(super) fn tell_started(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.remote.as_ref().is_some_and(|remote| !remote.stdin_durable) {
            return;
        }
        let Some(client) = unit.starter.take() else { return };
        self.timers.clear(&Timer::StartReply(id.clone()));
        if self.clients.remove(&client).is_some() {
            self.reply(client, WorkReply::Started { unit: id.clone() });
        }
    }

    /// The runner is gone and has left this record. If that has no terminal state, this node writes one.
    fn runner_gone(&mut self, id: &UnitId, record: Record, stdout_size: u64, why: &str) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.is_classic() && unit.cancelling && !unit.is_complete() && phase(&record) == Phase::Interrupted {
            // Not announced: it was a cancel, and a unit has one terminal state only.
            if unit.run != Run::Over {
                unit.run = Run::Over;
                let stdout_size = unit.output.max(record.stdout_size);
                self.update(id, Change::ClassicCanceled { stdout_size }, true);
            }
            return;
        }
        unit.adopt(record);
        if unit.is_complete() {
            // The start was a success even if its end came first.
            return self.tell_started(id);
        }
        if unit.run != Run::Over {
            unit.run = Run::Over;
            let (cancelling, is_classic) = (unit.cancelling, unit.is_classic());
            if cancelling && is_classic {
                // It has written the record anew without what it does not know.
                self.update(id, Change::CancelRequested, false);
            }
            if !cancelling {
                self.log(Severity::Warning, format!("unit {id}: {why}"));
            }
            self.update(
                id,
                Change::Lost {
                    detail: why.to_string(),
                    stdout_size,
                },
                true,
            );
        }
    }

    /// Looks for a runner left by an earlier process of this node.
    pub(super) fn attach(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.is_complete() || unit.stage != Stage::Live {
            return;
        }
        let Some(extra) = unit.record.extra.command() else {
            return;
        };
        let recorded = || FoundRunner {
            identity: extra.runner().unwrap_or_default(),
            kind: RunnerKind::Ours,
        };
        let runner = unit.runner.clone().unwrap_or_else(recorded);
        unit.run = Run::Attaching;
        self.note_started(id);
        self.task(id, Purpose::Attach, UnitTask::Attach { runner });
    }

    /// The runner lives. What the record lacks of its identity is added, unless the runner is about to write it itself.
    fn identify(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let recorded = unit.record.extra.command().and_then(super::extra::CommandExtra::runner);
        if let Some(found) = &unit.runner
            && recorded.as_ref() != Some(&found.identity)
            && matches!(phase(&unit.record), Phase::Waiting | Phase::Launched | Phase::Running)
        {
            let identity = found.identity.clone();
            self.update(id, Change::Identified { identity }, false);
        }
    }

    pub(super) fn attached(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        match result {
            UnitTaskResult::Attached {
                record,
                stdout_size,
                alive,
                same_boot,
            } => {
                unit.tries = 0;
                if alive {
                    unit.adopt(record);
                    if !unit.is_complete() {
                        unit.output = unit.output.max(stdout_size);
                    }
                    self.identify(id);
                    self.runner_up(id);
                } else {
                    let why = if same_boot { RUNNER_LOST } else { MACHINE_RESTARTED };
                    self.runner_gone(id, record, stdout_size, why);
                }
            }
            // Nothing is known of the runner, so nothing is said of it.
            other => {
                let wait = back_off(unit.tries);
                unit.tries += 1;
                let first = unit.tries == 1;
                let at = self.after(wait);
                self.timers.set(Timer::RetryAttach(id.clone()), at);
                if first {
                    let error = failure(other);
                    self.log(
                        Severity::Error,
                        format!("unit {id}: cannot reach its runner, trying again: {error}"),
                    );
                }
            }
        }
        self.advance(id);
    }

    pub(super) fn runner_told(&mut self, id: &UnitId, result: &UnitTaskResult) {
        if *result != UnitTaskResult::Done {
            let error = failure(result.clone());
            self.log(
                Severity::Warning,
                format!("unit {id}: cannot tell its runner to end, trying again: {error}"),
            );
            let at = self.after(back_off(0));
            self.timers.set(Timer::RetryCancel(id.clone()), at);
        }
    }

    /// A runner that could not be told is told again, as long as there is one.
    pub(super) fn retry_cancel(&mut self, id: &UnitId) {
        if let Some(unit) = self.units.get(id)
            && matches!(unit.run, Run::Up { cancel_told: true })
            && !unit.is_complete()
        {
            self.task(id, Purpose::CancelRunner, UnitTask::Cancel);
        }
    }

    /// Ends a command that is to be cancelled, as far as it has come.
    pub(super) fn advance_command(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if !unit.is_command() || !unit.cancelling || unit.is_complete() {
            return;
        }
        match unit.run {
            Run::Waiting | Run::Queued => {
                let waits = unit.run == Run::Queued;
                unit.run = Run::Over;
                if waits {
                    self.leave_queue(id);
                }
                self.update(id, Change::Canceled, true);
            }
            Run::Up { cancel_told: false } => {
                unit.run = Run::Up { cancel_told: true };
                // A runner that is not up yet finds this in the record and does not start the command.
                self.update(id, Change::CancelRequested, false);
                self.task(id, Purpose::CancelRunner, UnitTask::Cancel);
            }
            Run::Recording | Run::Spawning | Run::Attaching | Run::Up { cancel_told: true } | Run::Over => {}
        }
    }
}
