//! Stdin on its way from a client or a submitter to the disk.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::api::{ClientKey, Severity, WorkOutput};
use super::change::Change;
use super::id::UnitId;
use super::spool::{Source, Spool};
use super::task::{UnitTask, UnitTaskResult};
use super::timer::Timer;
use super::unit::{Run, Stage};
use super::{Client, Purpose, Workceptor, failure};
use crate::time::Now;

impl Workceptor {
    /// Stdin from a client; never more in total than the credit it was given.
    pub fn stdin(&mut self, now: Now, client: ClientKey, data: Bytes) {
        self.now = now;
        match self.clients.get(&client) {
            Some(Client::Spooling(id)) => {
                let id = id.clone();
                let Some(spool) = self.units.get_mut(&id).and_then(|unit| unit.spool.as_mut()) else {
                    return;
                };
                let total = spool.file.received() + data.len() as u64;
                if let Err(text) = self.check_stdin(total) {
                    return self.stdin_failed(&id, &text);
                }
                if let Some(spool) = self.units.get_mut(&id).and_then(|unit| unit.spool.as_mut()) {
                    spool.file.push(data);
                }
                self.expect_stdin(&id);
                self.pump_stdin(&id);
            }
            Some(Client::Discarding(_)) => self.out.push_back(WorkOutput::StdinCredit(client, data.len())),
            _ => {}
        }
    }

    /// The end of a client's stdin.
    pub fn stdin_end(&mut self, now: Now, client: ClientKey) {
        self.now = now;
        match self.clients.get(&client) {
            Some(Client::Spooling(id)) => {
                let id = id.clone();
                self.stdin_ended(&id);
            }
            Some(Client::Discarding(text)) => {
                let text = text.clone();
                self.clients.remove(&client);
                self.refuse(client, text);
            }
            _ => {}
        }
    }

    /// A client's connection broke before the end of its stdin. What has come is a torso, which must not run; a client that
    /// ended on its own account is [gone](Workceptor::client_gone).
    pub fn stdin_broken(&mut self, now: Now, client: ClientKey, error: &str) {
        self.now = now;
        match self.clients.get(&client) {
            Some(Client::Spooling(id)) => {
                let id = id.clone();
                self.stdin_failed(&id, error);
            }
            _ => self.client_gone(now, client),
        }
    }

    /// A client has gone. One that was told of its unit has submitted it with what it had sent (`control.md` §6.1).
    pub fn client_gone(&mut self, now: Now, client: ClientKey) {
        self.now = now;
        match self.clients.remove(&client) {
            Some(Client::Spooling(id)) => {
                if let Some(spool) = self.units.get_mut(&id).and_then(|unit| unit.spool.as_mut()) {
                    spool.source = Source::Nobody;
                }
                self.stdin_ended(&id);
            }
            Some(Client::Creating(id)) => self.abandoned(&id),
            Some(Client::Starting(id)) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.starter = None;
                }
            }
            Some(Client::Reading(reader)) => {
                if let Some(unit) = self.units.get_mut(reader.unit()) {
                    unit.readers.remove(&client);
                }
            }
            Some(Client::Waiting(id)) => self.forget_asker(&id, client),
            Some(Client::Adopting(id)) => self.forget_adopter(&id, client),
            Some(Client::Discarding(_) | Client::Verifying(_)) | None => {}
        }
    }

    /// The client went before it heard of its unit, which therefore is not run.
    fn abandoned(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if let Some(spool) = unit.spool.as_mut() {
            spool.source = Source::Nobody;
        }
        // A unit that is still being made ends as soon as it exists.
        if unit.stage == Stage::Live {
            self.fail(id, "Error reading input data: the client has gone".into());
        } else {
            unit.cancelling = true;
        }
    }

    fn stdin_ended(&mut self, id: &UnitId) {
        if let Some(spool) = self.units.get_mut(id).and_then(|unit| unit.spool.as_mut()) {
            spool.ended = true;
        }
        self.pump_stdin(id);
    }

    /// Writes what came in; at its end the unit is started.
    pub(super) fn pump_stdin(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(spool) = unit.spool.as_mut() else { return };
        if unit.stage != Stage::Live || unit.run == Run::Over {
            return;
        }
        if let Some((offset, data)) = spool.file.start() {
            self.task(id, Purpose::WriteStdin, UnitTask::WriteStdin { offset, data });
        } else if spool.ended && spool.file.is_idle() {
            self.stdin_complete(id);
        }
    }

    pub(super) fn stdin_written(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(spool) = unit.spool.as_mut() else { return };
        if result != UnitTaskResult::Done {
            let error = failure(result);
            self.log(Severity::Error, format!("unit {id}: cannot write its stdin: {error}"));
            return self.stdin_failed(id, &error);
        }
        let (offset, data) = spool.file.finish();
        let source = spool.source;
        match source {
            Source::Client(client) => self.out.push_back(WorkOutput::StdinCredit(client, data.len())),
            Source::Channel(session, channel) => self.wake_channel(session, channel),
            Source::Nobody => {}
        }
        self.pass_stdin(id, offset, &data);
        self.pump_stdin(id);
        self.advance_remote(id);
    }

    pub(super) fn stdin_failed(&mut self, id: &UnitId, error: &str) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let source = unit.spool.take().map(|spool| spool.source);
        let text = format!("Error reading input data: {error}");
        if let Some(Source::Client(client)) = source
            && self.clients.remove(&client).is_some()
        {
            self.refuse(client, text.clone());
        }
        self.fail(id, text);
    }

    /// Nobody wants the rest of a client's stdin. It learns why once it has sent all of it.
    pub(super) fn stop_spooling(&mut self, spool: &Spool, text: &str) {
        let Source::Client(client) = spool.source else { return };
        let Some(state @ Client::Spooling(_)) = self.clients.get_mut(&client) else {
            return;
        };
        if spool.ended {
            self.clients.remove(&client);
            return self.refuse(client, text);
        }
        *state = Client::Discarding(text.into());
        // What was not written yet is never given back otherwise.
        let held = spool.file.received() - spool.file.written();
        self.out.push_back(WorkOutput::StdinCredit(
            client,
            usize::try_from(held).unwrap_or(usize::MAX),
        ));
    }

    /// All of stdin is in the file.
    fn stdin_complete(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(spool) = unit.spool.take() else { return };
        self.timers.clear(&Timer::StdinSlow(id.clone()));
        let Some(unit) = self.units.get_mut(id) else { return };
        if let Source::Client(client) = spool.source {
            unit.starter = Some(client);
            self.clients.insert(client, Client::Starting(id.clone()));
        }
        if let Some(remote) = unit.remote.as_mut() {
            remote.stdin_total = Some(spool.file.written());
            self.update(id, Change::StdinComplete, false);
        } else {
            self.start_or_queue(id);
        }
    }

    /// That stdin is complete is written, so that no death of this process hides it: the executor may hear of it while it is
    /// made durable. Whoever submitted the unit waits for both.
    pub(super) fn stdin_recorded(&mut self, id: &UnitId) {
        if self.units.get(id).is_some_and(|unit| unit.remote.is_some()) {
            self.task(id, Purpose::SyncStdin, UnitTask::Sync);
        }
    }

    pub(super) fn stdin_synced(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if result == UnitTaskResult::Done {
            remote.stdin_durable = true;
            if unit.record.extra.remote().is_some_and(|extra| extra.remote_started) {
                self.tell_started(id);
            } else {
                self.expect_start(id);
            }
        } else if !unit.is_complete() {
            let error = failure(result);
            self.log(
                Severity::Error,
                format!("unit {id}: cannot make its stdin durable: {error}"),
            );
            self.start_failed(id, &error);
        }
        self.advance(id);
    }

    /// A start that did not get beyond this node.
    pub(super) fn start_failed(&mut self, id: &UnitId, error: &str) {
        let text: String = format!("Error starting worker: {error}");
        let client = self.units.get_mut(id).and_then(|unit| unit.starter.take());
        if let Some(client) = client
            && self.clients.remove(&client).is_some()
        {
            self.refuse(client, error);
        }
        self.fail(id, text);
    }
}
