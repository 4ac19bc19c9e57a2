//! What goes to a submitter: answers, status, output.

use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use bytes::Bytes;
use highway::{HighwayHash as _, HighwayHasher, Key};

use super::super::api::{SessionKey, Severity, WorkOutput};
use super::super::id::UnitId;
use super::super::spool::Source;
use super::super::task::{UnitTask, UnitTaskResult};
use super::super::unit::{Digest, Stage, Unit};
use super::super::{Purpose, READ_MAX, SESSION_WINDOW, Workceptor, unit_window};
use super::{CONTROL_RESERVE, Channel};
use crate::wire::work::{End, Message, Status, output_head};

impl Workceptor {
    /// Something happened to the unit.
    pub(in super::super) fn wake_channels(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        if unit.channels.is_empty() {
            return;
        }
        let channels: Vec<(SessionKey, u32)> = unit.channels.iter().copied().collect();
        self.compute_digest(id);
        for (key, number) in channels {
            self.wake_channel(key, number);
        }
    }

    pub(in super::super) fn wake_channel(&mut self, key: SessionKey, number: u32) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.ready.push(number);
            self.pump_session(key);
        }
    }

    /// Sends what the window allows.
    pub(super) fn pump_session(&mut self, key: SessionKey) {
        while let Some(session) = self.sessions.get_mut(&key)
            && session.window > 0
            && let Some(number) = session.next_ready()
        {
            self.send_channel(key, number);
        }
    }

    /// Sends what a channel has to say: a handful of small messages, and begins to read one piece of output.
    fn send_channel(&mut self, key: SessionKey, number: u32) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let active = session.channels.len();
        let has_room = session.window > CONTROL_RESERVE;
        let Some(channel) = session.channels.get_mut(&number) else {
            return;
        };
        let mut messages = Vec::new();
        let mut read = None;
        if let Some(text) = channel.refused.take() {
            messages.push(Message::Refused { text });
        }
        if let Some(id) = channel.unit.clone()
            && let Some(unit) = self.units.get(&id)
            && !matches!(unit.stage, Stage::Creating { .. })
        {
            speak(
                channel,
                &id,
                unit,
                Source::Channel(key, number),
                unit_window(active),
                &mut messages,
            );
            let known = available(unit);
            let until = known.min(channel.credit);
            let has_data = !channel.reading && !channel.short && !channel.end_sent && channel.pos < until;
            if has_data && !has_room {
                session.starved.push(number);
            } else if has_data {
                let left = usize::try_from(until - channel.pos).unwrap_or(usize::MAX);
                channel.reading = true;
                read = Some((id, channel.pos, READ_MAX.min(left)));
            }
        }
        while let Some(answer) = channel.answers.pop_front() {
            channel.asked = channel.asked.saturating_sub(1);
            messages.push(answer.map_or_else(|text| Message::Failed { text }, |()| Message::Done));
        }
        for message in messages {
            self.send_session(key, number, &message);
        }
        if let Some((id, offset, max)) = read {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.window = session.window.saturating_sub(max);
            }
            let purpose = Purpose::SessionRead {
                session: key,
                channel: number,
                max,
            };
            self.task(&id, purpose, UnitTask::ReadOutput { offset, max });
        }
    }

    pub(super) fn send_session(&mut self, key: SessionKey, number: u32, message: &Message) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let mut bytes = Vec::new();
        match message.encode(number, &mut bytes) {
            Ok(()) => {
                session.window = session.window.saturating_sub(bytes.len());
                self.out.push_back(WorkOutput::SessionSend(key, bytes.into()));
            }
            Err(error) => self.log(Severity::Error, format!("message to a submitter: {error}")),
        }
    }

    /// A piece of output for a submitter was read.
    pub(in super::super) fn session_read(&mut self, key: SessionKey, number: u32, max: usize, result: UnitTaskResult) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.window = (session.window + max).min(SESSION_WINDOW);
        if let Some(channel) = session.channels.get_mut(&number)
            && channel.reading
        {
            channel.reading = false;
            match result {
                UnitTaskResult::Data(data) if !data.is_empty() && data.len() <= max => {
                    let head = output_head(number, channel.pos, data.len());
                    channel.pos += data.len() as u64;
                    session.window = session.window.saturating_sub(head.len() + data.len());
                    self.out
                        .push_back(WorkOutput::SessionSend(key, Bytes::copy_from_slice(&head)));
                    self.out.push_back(WorkOutput::SessionSend(key, data));
                }
                // The submitter finds at the end that something is missing.
                _ => channel.short = true,
            }
            session.ready.push(number);
        }
        self.pump_session(key);
    }

    /// Length and checksum of a finished unit's output: from the record if its runner left them there.
    fn compute_digest(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if !unit.is_complete() || unit.digest != Digest::Unknown || unit.stage != Stage::Live {
            return;
        }
        let total = unit.record.stdout_size;
        let known = unit.record.extra.command().and_then(|extra| extra.checksum);
        if let Some(checksum) = known {
            unit.digest = Digest::Known { total, checksum };
        } else if total == 0 {
            unit.digest = Digest::Known {
                total,
                checksum: HighwayHasher::new(Key([0; 4])).hash64(b""),
            };
        } else {
            unit.digest = Digest::Computing;
            self.task(id, Purpose::SessionHash, UnitTask::HashOutput { len: total });
        }
    }

    pub(in super::super) fn session_hashed(&mut self, id: &UnitId, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.digest = match result {
            UnitTaskResult::Hash { checksum, size } => Digest::Known {
                total: size.min(unit.record.stdout_size),
                checksum,
            },
            // What cannot be read cannot be sent: the declared length makes the submitter say so.
            _ => Digest::Known {
                total: unit.record.stdout_size,
                checksum: 0,
            },
        };
        self.wake_channels(id);
    }
}

/// How far the output can be sent.
fn available(unit: &Unit) -> u64 {
    match unit.digest {
        Digest::Known { total, .. } => total,
        Digest::Unknown | Digest::Computing if unit.is_complete() => unit.record.stdout_size,
        Digest::Unknown | Digest::Computing => unit.output,
    }
}

/// What a channel has to say about its unit, in the order in which a submitter needs it.
fn speak(channel: &mut Channel, id: &UnitId, unit: &Unit, source: Source, window: u64, messages: &mut Vec<Message>) {
    let spool = unit.spool.as_ref();
    if !channel.accepted {
        channel.accepted = true;
        let stdin_offset = spool.map_or(u64::MAX, |spool| spool.file.received());
        messages.push(Message::Accepted {
            unit: id.to_string(),
            stdin_offset,
            fresh: channel.fresh,
        });
    }
    if let Some(spool) = spool.filter(|spool| spool.source == source && !spool.ended) {
        let credit = spool.file.written() + window;
        if channel.stdin_credit == 0 || credit >= channel.stdin_credit + window / 2 {
            channel.stdin_credit = credit;
            messages.push(Message::Credit { bytes: credit });
        }
    }
    if unit.has_started() && !channel.started_sent {
        channel.started_sent = true;
        messages.push(Message::Started);
    }
    let state = u8::try_from(unit.record.state.number()).unwrap_or(u8::MAX);
    let (exit_code, signal) = unit
        .record
        .extra
        .command()
        .map_or((None, None), |extra| (extra.exit_code, extra.signal));
    let told = Some((unit.record.state, unit.record.detail.clone()));
    if channel.status_sent != told {
        channel.status_sent = told;
        messages.push(Message::Status(Status {
            state,
            detail: unit.record.detail.clone(),
            stdout_size: unit.output,
            exit_code,
            signal,
        }));
    }
    if let Digest::Known { total, checksum } = unit.digest
        && unit.is_complete()
        && !channel.end_sent
        && !channel.reading
        && (channel.pos >= total || channel.short)
    {
        channel.end_sent = true;
        let detail = unit.record.detail.clone();
        messages.push(Message::End(End {
            state,
            detail,
            total,
            checksum,
            exit_code,
            signal,
        }));
    }
}
