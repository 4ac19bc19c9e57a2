//! What an executor says, and the output it sends.

use alloc::format;
use alloc::string::ToString as _;

use super::api::{PeerKey, Severity};
use super::change::Change;
use super::id::UnitId;
use super::spool::Writer;
use super::state::State;
use super::target::Target;
use super::task::{UnitTask, UnitTaskResult};
use super::timer::{Timer, back_off};
use super::unit::{Run, Stage};
use super::{Purpose, Workceptor, failure, unknown_unit};
use crate::wire::work::{Message, Status};

/// How often output that does not fit its declaration is asked for again.
const MAX_FETCHES: u32 = 3;

impl Workceptor {
    pub(super) fn handle_executor(&mut self, key: PeerKey, node: &Target, channel: u32, message: Message) {
        if let Message::Ping { token } = message {
            return self.answer_ping(node, token);
        }
        self.peer_is_well(node);
        // The rest belongs to a unit; what comes for one that is done with is late.
        let Some(id) = self.unit_of(node, channel) else {
            return self.owed_answered(node, channel, &message);
        };
        let Some(unit) = self.units.get_mut(&id) else { return };
        let is_over = unit.is_complete() || unit.run == Run::Over;
        let Some(remote) = unit.remote.as_mut() else { return };
        let Some(line) = remote.line.as_mut() else { return };
        if unit.stage == Stage::Adopting {
            return match message {
                Message::About { work_type, params } => remote.about = Some((work_type, params)),
                Message::Accepted { .. } => {
                    line.accepted = true;
                    let about = remote.about.take();
                    self.adoption_granted(&id, about);
                }
                Message::Refused { text } => self.adoption_failed(&id, &text),
                _ => {}
            };
        }
        match message {
            Message::Accepted {
                unit: name,
                stdin_offset,
                ..
            } => {
                line.accepted = true;
                line.stdin_sent = stdin_offset.min(remote.stdin_total.unwrap_or(stdin_offset));
                let is_known = unit
                    .record
                    .extra
                    .remote()
                    .is_none_or(|extra| extra.remote_unit_id == name);
                if UnitId::parse(&name).is_none() {
                    return self.break_peer(node, "it gave an illegal unit ID");
                }
                if !is_known && !remote.start_seen {
                    // Our own ID is found again without a record.
                    let sync = name != id.as_str();
                    self.update(&id, Change::RemoteAccepted { unit: name }, sync);
                }
            }
            Message::Refused { text } => self.executor_refused(&id, &text),
            Message::Credit { bytes } => line.stdin_credit = line.stdin_credit.max(bytes),
            Message::Started if !remote.start_seen => {
                remote.start_seen = true;
                self.timers.clear(&Timer::Expire(id.clone()));
                self.update(&id, Change::RemoteStarted, false);
            }
            Message::Status(status) => self.mirror(&id, status),
            Message::Output { offset, data } => {
                let end = offset.saturating_add(data.len() as u64);
                if end > line.credit {
                    return self.break_peer(node, "it sent more output than it was allowed");
                }
                if !remote.over && !remote.file.push_at(offset, data) {
                    return self.break_peer(node, "it left out a part of the output");
                }
            }
            Message::End(end) if State::from_number(i64::from(end.state)).is_complete() => {
                remote.end = Some(end);
                // If it was given up here, there is nothing left to be cancelled there.
                remote.over |= is_over;
            }
            Message::Done => {
                if let Some(verb) = line.asked.pop_front() {
                    self.executor_answered(&id, verb, Ok(()));
                }
            }
            Message::Failed { text } => {
                if let Some(verb) = line.asked.pop_front() {
                    self.executor_answered(&id, verb, Err(text));
                }
            }
            // Not for a submitter, or not known to this version.
            _ => {}
        }
        debug_assert!(self.peer_nodes.contains_key(&key) || self.unit_of(node, channel).is_none());
        self.advance(&id);
    }

    fn executor_refused(&mut self, id: &UnitId, text: &str) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        let was_accepted = remote.line.as_ref().is_some_and(|line| line.accepted) || remote.start_seen;
        if text.contains(&unknown_unit("")) {
            return self.remote_is_gone(id);
        }
        remote.over = true;
        if was_accepted {
            self.fail(id, format!("error from remote: {text}"));
        } else {
            self.start_failed(id, &format!("could not parse response: ERROR: {text}"));
        }
    }

    pub(super) fn mirror(&mut self, id: &UnitId, status: Status) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        let state = State::from_number(i64::from(status.state));
        // A final state counts when the output is here: it comes again with the end of the output.
        if !matches!(state, State::Pending | State::Running) || unit.record.state.is_complete() || remote.over {
            return;
        }
        if remote.mirroring {
            remote.status = Some(status);
            return;
        }
        let is_news = (state, &status.detail) != (unit.record.state, &unit.record.detail);
        if is_news && !(state == State::Pending && unit.record.state == State::Running) {
            remote.mirroring = true;
            let change = Change::Mirror {
                state,
                detail: status.detail,
                // What is recorded must be durable.
                stdout_size: remote.poll.synced().max(unit.record.stdout_size),
                exit_code: status.exit_code,
                signal: status.signal,
            };
            self.update(id, change, false);
        }
    }

    /// A state was written: is there a newer one?
    pub(super) fn mirrored(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        remote.mirroring = false;
        if let Some(status) = remote.status.take() {
            self.mirror(id, status);
        }
    }

    /// Writes output that came in; when all of it is there it is checked.
    pub(super) fn pump_output(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if unit.stage != Stage::Live || unit.record.state.is_complete() || unit.release.is_some() {
            return;
        }
        if let Some((offset, data)) = remote.file.start() {
            return self.task(id, Purpose::WriteOutput, UnitTask::WriteOutput { offset, data });
        }
        if !remote.file.is_idle() || remote.hashing || remote.over || unit.run == Run::Over {
            return;
        }
        let Some(total) = remote.end.as_ref().map(|end| end.total) else {
            return;
        };
        let is_part = unit.record.extra.remote().is_some_and(|extra| extra.output_from > 0);
        if remote.file.received() < total {
            let from = remote.file.received();
            return self.fetch_again(id, from);
        }
        if is_part {
            // Its checksum is that of the whole.
            return self.output_is_whole(id);
        }
        remote.hashing = true;
        self.task(id, Purpose::HashOutput { total }, UnitTask::HashOutput { len: total });
    }

    pub(super) fn output_written(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if result == UnitTaskResult::Done {
            let (offset, data) = remote.file.finish();
            remote.write_tries = 0;
            unit.output = unit.output.max(remote.file.written());
            self.pass_results(id, offset, &data);
            self.sync_output(id);
            return self.advance(id);
        }
        // Nothing that was received is given up; no more is allowed until it is written.
        let wait = back_off(remote.write_tries);
        let first = remote.write_tries == 0;
        remote.write_tries += 1;
        let at = self.after(wait);
        self.timers.set(Timer::RetryOutput(id.clone()), at);
        if first {
            let error = failure(result);
            self.log(
                Severity::Error,
                format!("unit {id}: cannot write its output, trying again: {error}"),
            );
        }
    }

    pub(super) fn retry_output(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if unit.stage == Stage::Live
            && let Some((offset, data)) = remote.file.again()
        {
            self.task(id, Purpose::WriteOutput, UnitTask::WriteOutput { offset, data });
        }
    }

    pub(super) fn output_hashed(&mut self, id: &UnitId, total: u64, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        remote.hashing = false;
        // Without it the session was lost meanwhile, and the end will be told again.
        let Some(end) = remote.end.clone().filter(|end| end.total == total) else {
            return self.advance(id);
        };
        match result {
            UnitTaskResult::Hash { checksum, size } if checksum == end.checksum && size >= total => {
                self.output_is_whole(id);
            }
            UnitTaskResult::Hash { .. } => self.fetch_again(id, 0),
            other => {
                let error = failure(other);
                self.log(Severity::Error, format!("unit {id}: cannot read its output: {error}"));
                self.fetch_again(id, 0);
            }
        }
    }

    /// All of the output that was declared is here.
    fn output_is_whole(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let Some(end) = remote.end.clone() else { return };
        remote.over = true;
        let change = Change::Mirror {
            state: State::from_number(i64::from(end.state)),
            detail: end.detail,
            stdout_size: end.total,
            exit_code: end.exit_code,
            signal: end.signal,
        };
        self.update(id, change, true);
        self.advance(id);
    }

    /// The output does not fit its declaration: asks for it again, a few times.
    fn fetch_again(&mut self, id: &UnitId, from: u64) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        let total = remote.end.take().map_or(0, |end| end.total);
        remote.fetches += 1;
        if remote.fetches > MAX_FETCHES {
            remote.over = true;
            let have = remote.file.written().min(total);
            let text = if have < total {
                format!("output incomplete ({have} of {total})")
            } else {
                format!("output incomplete (checksum of {total} bytes differs)")
            };
            self.log(Severity::Error, format!("unit {id}: {text}"));
            self.fail(id, text.to_string());
            return self.advance(id);
        }
        remote.file = Writer::at(from);
        self.log(
            Severity::Warning,
            format!("unit {id}: output does not fit its declaration, asking again from byte {from}"),
        );
        self.reopen_line(id);
        self.advance(id);
    }
}
