//! Changes of records, and what follows once they are written.

use crate::sabotage::{self, Bug};
use alloc::format;
use alloc::string::String;

use super::api::{Severity, WorkReply};
use super::change::{Change, ChangeKind};
use super::id::UnitId;
use super::record::Record;
use super::state::State;
use super::task::{UnitError, UnitTask, UnitTaskResult};
use super::timer::{Timer, back_off};
use super::unit::{Run, Stage, Verb};
use super::{Purpose, Workceptor, failure};

impl Workceptor {
    pub(super) fn update(&mut self, id: &UnitId, change: Change, sync: bool) {
        let sync = sync && !sabotage::is(Bug::SkipsSync);
        let purpose = Purpose::Update {
            change: change.clone(),
            sync,
        };
        self.task(id, purpose, UnitTask::Update { change, sync });
    }

    pub(super) fn updated(&mut self, id: &UnitId, change: Change, sync: bool, result: UnitTaskResult) {
        match result {
            UnitTaskResult::Record(record) => {
                if let Change::OutputSize(size) = change
                    && sync
                {
                    self.output_synced(id, Some(size));
                }
                self.written(id, change.kind(), record);
            }
            // Somebody else was first; what they wrote counts.
            UnitTaskResult::Failed(UnitError::Refused(record)) => {
                self.adopt(id, record);
                self.output_synced(id, None);
                self.refused(id, change.kind());
            }
            UnitTaskResult::Failed(UnitError::Missing) => self.vanished(id),
            other => self.unwritten(id, change, sync, failure(other)),
        }
        self.advance(id);
    }

    fn written(&mut self, id: &UnitId, kind: ChangeKind, record: Record) {
        self.adopt(id, record);
        if let Some(unit) = self.units.get_mut(id) {
            unit.tries = 0;
        }
        match kind {
            ChangeKind::Starting => self.start_recorded(id),
            ChangeKind::Enqueued => self.enqueued(id),
            ChangeKind::StdinComplete => self.stdin_recorded(id),
            ChangeKind::RemoteStarted => self.tell_started(id),
            ChangeKind::Mirror => self.mirrored(id),
            ChangeKind::LocalCancelled | ChangeKind::LocalReleased | ChangeKind::Contacted => self.marked(id, kind),
            _ => {}
        }
    }

    fn refused(&mut self, id: &UnitId, kind: ChangeKind) {
        let Some(unit) = self.units.get_mut(id) else { return };
        match kind {
            // A runner came up after all: look for it.
            ChangeKind::Failed | ChangeKind::Canceled | ChangeKind::Lost
                if !unit.is_complete() && unit.is_command() =>
            {
                self.attach(id);
            }
            ChangeKind::Starting | ChangeKind::Enqueued if !unit.is_complete() => unit.run = Run::Waiting,
            ChangeKind::Mirror => self.mirrored(id),
            ChangeKind::LocalCancelled | ChangeKind::LocalReleased | ChangeKind::Contacted => self.marked(id, kind),
            _ => {}
        }
    }

    /// The disk does not take a change. What decides the unit's fate is tried until it does; until then nothing of it is
    /// announced.
    fn unwritten(&mut self, id: &UnitId, change: Change, sync: bool, error: String) {
        let Some(unit) = self.units.get_mut(id) else { return };
        match change.kind() {
            ChangeKind::Starting | ChangeKind::Enqueued | ChangeKind::StdinComplete => {
                self.log(Severity::Error, format!("unit {id}: cannot record its start: {error}"));
                return self.start_failed(id, &error);
            }
            ChangeKind::CancelRequested | ChangeKind::OutputSize | ChangeKind::Identified => {
                self.output_synced(id, None);
                return self.log(Severity::Warning, format!("unit {id}: {error}"));
            }
            ChangeKind::Mirror if !matches!(&change, Change::Mirror { state, .. } if state.is_complete()) => {
                self.log(
                    Severity::Warning,
                    format!("unit {id}: cannot record its state: {error}"),
                );
                return self.mirrored(id);
            }
            _ => {}
        }
        let is_end = matches!(
            change.kind(),
            ChangeKind::Failed
                | ChangeKind::Canceled
                | ChangeKind::ClassicCanceled
                | ChangeKind::Lost
                | ChangeKind::Expired
        );
        // After a restart, a remote unit whose stdin is recorded as complete goes on with it.
        let resumable = unit.record.extra.remote().is_some_and(|remote| remote.stdin_complete);
        let first = unit.tries == 0;
        let wait = back_off(unit.tries);
        unit.tries += 1;
        if !unit.unwritten.iter().any(|(kept, _)| kept.kind() == change.kind()) {
            unit.unwritten.push((change, sync));
        }
        let at = self.after(wait);
        self.timers.set(Timer::RetryChange(id.clone()), at);
        if first {
            if is_end && !resumable {
                self.task(id, Purpose::DropStdin, UnitTask::DropStdin);
            }
            self.log(
                Severity::Error,
                format!("unit {id}: cannot write its record, trying again: {error}"),
            );
        }
    }

    pub(super) fn retry_change(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.stage == Stage::Live {
            for (change, sync) in core::mem::take(&mut unit.unwritten) {
                self.update(id, change, sync);
            }
        }
    }

    /// Somebody removed the directory behind our back. There is nothing left to write to.
    fn vanished(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.stage == Stage::Live && !unit.is_complete() {
            unit.record.state = State::Failed;
            unit.record.detail = "the unit's directory is gone".into();
            unit.run = Run::Over;
            self.log(Severity::Error, format!("unit {id}: its directory is gone"));
        }
    }

    pub(super) fn adopt(&mut self, id: &UnitId, record: Record) {
        if let Some(unit) = self.units.get_mut(id) {
            unit.adopt(record);
        }
    }

    /// Ends a unit for a reason of this node.
    pub(super) fn fail(&mut self, id: &UnitId, detail: String) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if !unit.is_complete() {
            if core::mem::replace(&mut unit.run, Run::Over) == Run::Queued {
                self.leave_queue(id);
            }
            let Some(unit) = self.units.get(id) else { return };
            let output = unit.output;
            if unit.remote.is_some() && output > unit.record.stdout_size {
                // What has come stays readable.
                self.update(id, Change::OutputSize(output), false);
            }
            self.update(id, Change::Failed { detail }, true);
        }
    }

    /// Looks at what a unit needs next. Called after everything that happens to it; does nothing twice.
    pub(super) fn advance(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        if unit.stage != Stage::Live {
            return;
        }
        if unit.is_complete() {
            self.complete(id);
        }
        self.advance_command(id);
        self.advance_remote(id);
        self.wake_readers(id);
        self.wake_channels(id);
        self.remove_if_due(id);
    }

    /// The unit is over: nobody waits for its start or its end any longer, and its stdin is not wanted.
    fn complete(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.run = Run::Over;
        let is_news = unit.seen_over.is_none();
        unit.seen_over.get_or_insert(self.now.wall);
        let detail = unit.record.detail.clone();
        let starter = unit.starter.take();
        let succeeded = unit.record.state == State::Succeeded;
        let spool = unit.spool.take();
        let text = detail.strip_prefix("Error starting worker: ").unwrap_or(&detail);
        if let Some(spool) = spool {
            self.stop_spooling(&spool, text);
        }
        if let Some(client) = starter {
            let reply = if succeeded {
                WorkReply::Started { unit: id.clone() }
            } else {
                WorkReply::Error(text.into())
            };
            if self.clients.remove(&client).is_some() {
                self.reply(client, reply);
            }
        }
        self.timers.clear(&Timer::StartReply(id.clone()));
        self.timers.clear(&Timer::Expire(id.clone()));
        self.timers.clear(&Timer::StdinSlow(id.clone()));
        self.answer_all(id, Verb::Cancel, &Ok(false));
        if is_news {
            self.set_expiry(id);
            self.start_queued();
        }
    }
}
