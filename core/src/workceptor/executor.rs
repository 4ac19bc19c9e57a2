//! Sessions of submitters: this node runs units for others and pushes what happens to them.

mod push;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::api::{Requester, SessionKey, Severity, TaskKey, WorkOutput};
use super::id::UnitId;
use super::ready::Ready;
use super::signing::{Bearer, Ruling};
use super::spool::Source;
use super::state::State;
use super::submit::{check_size, in_use};
use super::unit::{Asker, Stage, Unit, Verb};
use super::{MAX_CHANNELS, SESSION_WINDOW, Workceptor};
use crate::config::WorkKind;
use crate::id::NodeId;
use crate::time::Now;
use crate::wire::work::{Decoder, Message, Received, Submit};

/// Requests of one channel that may wait for their answer.
const MAX_ASKED: usize = 4;

/// Bytes of requests of one session that may wait until signatures were looked at: 32 MiB.
const MAX_HELD: usize = 32 << 20;

/// Stands for submitters whose name is not known; no node can be called so.
const UNKNOWN_SUBMITTER: &str = "?";

/// Output leaves this much of the window to everything else.
const CONTROL_RESERVE: usize = SESSION_WINDOW / 4;

/// One submitter's session.
#[derive(Debug)]
pub(super) struct Session {
    /// The submitter.
    from: String,
    requester: Requester,
    /// Bytes of requests that wait until signatures were looked at.
    held: usize,
    decoder: Decoder,
    pub(super) channels: BTreeMap<u32, Channel>,
    ready: Ready,
    /// Channels whose output waits for room in the window.
    starved: Ready,
    window: usize,
}

impl Session {
    fn next_ready(&mut self) -> Option<u32> {
        let has_room = self.window > CONTROL_RESERVE;
        self.ready
            .pop()
            .or_else(|| if has_room { self.starved.pop() } else { None })
    }
}

/// One unit on a session.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Gone once it was refused.
    unit: Option<UnitId>,
    /// `Accepted` was sent.
    accepted: bool,
    fresh: bool,
    refused: Option<String>,
    started_sent: bool,
    status_sent: Option<(State, String)>,
    end_sent: bool,
    /// Stdin up to this offset was allowed.
    stdin_credit: u64,
    /// Output up to here was sent.
    pos: u64,
    /// Output up to here may be sent.
    credit: u64,
    reading: bool,
    /// The file is shorter than what the record says.
    short: bool,
    /// The token of the first of `held` is being looked at.
    checking: Option<TaskKey>,
    /// Requests in their order, until it is known whether they may be carried out.
    held: VecDeque<Message>,
    /// Requests under way.
    asked: usize,
    answers: VecDeque<Result<(), String>>,
}

impl Workceptor {
    /// A control session was upgraded.
    pub fn session_opened(&mut self, now: Now, key: SessionKey, from: &Requester) {
        self.now = now;
        let session = Session {
            from: from.node.as_ref().map_or(UNKNOWN_SUBMITTER, NodeId::as_str).into(),
            requester: from.clone(),
            held: 0,
            decoder: Decoder::default(),
            channels: BTreeMap::new(),
            ready: Ready::default(),
            starved: Ready::default(),
            window: SESSION_WINDOW,
        };
        self.sessions.insert(key, session);
    }

    /// Bytes from a submitter.
    pub fn session_data(&mut self, now: Now, key: SessionKey, data: Bytes) {
        self.now = now;
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.decoder.push(data);
        while let Some(session) = self.sessions.get_mut(&key) {
            match session.decoder.next() {
                Ok(None) => break,
                Ok(Some(Received { channel, message })) => {
                    if let Err(reason) = self.handle_submitter(key, channel, message) {
                        return self.break_session(key, &reason);
                    }
                }
                Err(error) => return self.break_session(key, &format!("broken message: {error}")),
            }
        }
    }

    /// A submitter's session took `n` bytes.
    pub fn session_drained(&mut self, now: Now, key: SessionKey, n: usize) {
        self.now = now;
        if let Some(session) = self.sessions.get_mut(&key) {
            session.window = (session.window + n).min(SESSION_WINDOW);
            self.pump_session(key);
        }
    }

    /// A submitter's session is gone. Its units go on.
    pub fn session_closed(&mut self, now: Now, key: SessionKey) {
        self.now = now;
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        self.drop_jobs_of(key);
        for (number, channel) in session.channels {
            self.unbind(key, number, &channel);
        }
    }

    fn break_session(&mut self, key: SessionKey, reason: &str) {
        let from = self
            .sessions
            .get(&key)
            .map(|session| session.from.clone())
            .unwrap_or_default();
        self.log(
            Severity::Warning,
            format!("work session from node {from} closed: {reason}"),
        );
        self.out.push_back(WorkOutput::CloseSession(key));
        self.session_closed(self.now, key);
    }

    /// Nothing of the unit is wanted on this channel any more.
    fn unbind(&mut self, key: SessionKey, number: u32, channel: &Channel) {
        let Some(unit) = channel.unit.as_ref().and_then(|id| self.units.get_mut(id)) else {
            return;
        };
        unit.channels.remove(&(key, number));
        unit.waiters
            .retain(|waiter| waiter.asker != Asker::Channel(key, number));
        if let Some(spool) = unit.spool.as_mut()
            && spool.source == Source::Channel(key, number)
        {
            spool.source = Source::Nobody;
        }
    }

    fn handle_submitter(&mut self, key: SessionKey, number: u32, message: Message) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else {
            return Ok(());
        };
        match message {
            Message::Ping { token } => {
                self.send_session(key, 0, &Message::Pong { token });
                return Ok(());
            }
            Message::Submit(_) | Message::Attach { .. } | Message::Cancel { .. } | Message::Release { .. } => {
                if number == 0 {
                    return Err("channel 0 carries no unit".into());
                }
                if !session.channels.contains_key(&number) && session.channels.len() >= MAX_CHANNELS {
                    return Err(format!("more than {MAX_CHANNELS} units"));
                }
                session.channels.entry(number).or_default();
                return self.hold(key, number, message);
            }
            Message::Detach => {
                if let Some(channel) = session.channels.remove(&number) {
                    session.held -= channel.held.iter().map(weight).sum::<usize>();
                    self.unbind(key, number, &channel);
                }
                return Ok(());
            }
            _ => {}
        }
        // What comes for a channel that was detached is late.
        let Some(channel) = session.channels.get_mut(&number) else {
            return Ok(());
        };
        match message {
            Message::Stdin { offset, data } => return self.stdin_from(key, number, offset, data),
            Message::StdinEnd { total } => return self.stdin_end_from(key, number, total),
            Message::Credit { bytes } => {
                channel.credit = channel.credit.max(bytes);
                self.wake_channel(key, number);
            }
            // Not for an executor, or not known to this version.
            _ => {}
        }
        Ok(())
    }

    /// A request that may need a signature. Those of one channel are carried out in their order.
    fn hold(&mut self, key: SessionKey, number: u32, message: Message) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else {
            return Ok(());
        };
        let Some(channel) = session.channels.get_mut(&number) else {
            return Ok(());
        };
        if channel.held.len() >= MAX_ASKED {
            return Err(format!(
                "more than {MAX_ASKED} requests of one channel are not answered"
            ));
        }
        session.held += weight(&message);
        if session.held > MAX_HELD {
            return Err(format!(
                "more than {MAX_HELD} bytes of requests wait for their signatures to be verified"
            ));
        }
        channel.held.push_back(message);
        self.carry_out_held(key, number)
    }

    /// Carries out what waits on a channel, up to a request of which the token has to be looked at first.
    fn carry_out_held(&mut self, key: SessionKey, number: u32) -> Result<(), String> {
        loop {
            let Some(session) = self.sessions.get(&key) else {
                return Ok(());
            };
            let Some(channel) = session
                .channels
                .get(&number)
                .filter(|channel| channel.checking.is_none())
            else {
                return Ok(());
            };
            let Some(message) = channel.held.front() else {
                return Ok(());
            };
            let verdict = match self.rule_message(message, session.requester.is_local) {
                Ruling::Accept => Ok(()),
                Ruling::Refuse(text) => Err(text),
                Ruling::Verify => {
                    let (token, from) = (signature_of(message).into(), session.requester.clone());
                    let job = self.verify(Bearer::Channel(key, number), from, token);
                    if let Some(channel) = self.channel(key, number) {
                        channel.checking = Some(job);
                    }
                    return Ok(());
                }
            };
            self.settle_held(key, number, verdict)?;
        }
    }

    /// The first request that waits on a channel may be carried out, or not.
    fn settle_held(&mut self, key: SessionKey, number: u32, verdict: Result<(), String>) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&key) else {
            return Ok(());
        };
        let Some(channel) = session.channels.get_mut(&number) else {
            return Ok(());
        };
        let Some(message) = channel.held.pop_front() else {
            return Ok(());
        };
        session.held -= weight(&message);
        let from = session.from.clone();
        let opens = matches!(message, Message::Submit(_) | Message::Attach { .. });
        if opens && channel.unit.is_some() {
            return Err("two units on one channel".into());
        }
        match (message, verdict) {
            (_, Err(text)) if opens => self.refuse_channel(key, number, text),
            (Message::Submit(submit), Ok(())) => {
                if let Err(text) = self.submitted(key, number, &from, submit) {
                    self.refuse_channel(key, number, text);
                }
            }
            (Message::Attach { unit, offset, .. }, Ok(())) => {
                channel.pos = offset;
                match self.find_shown(&unit) {
                    None => self.refuse_channel(key, number, self.unknown(&unit)),
                    Some(id) => {
                        self.describe(key, number, &id);
                        self.bind(key, number, &id, false);
                    }
                }
            }
            (Message::Cancel { unit, .. }, verdict) => {
                return self.finish_from(key, number, &unit, verdict, Verb::Cancel, false);
            }
            (Message::Release { unit, force, .. }, verdict) => {
                return self.finish_from(key, number, &unit, verdict, Verb::Release, force);
            }
            _ => {}
        }
        Ok(())
    }

    /// The token of a request on a channel was looked at.
    pub(super) fn channel_verified(&mut self, key: SessionKey, number: u32, job: TaskKey, verdict: Result<(), String>) {
        let Some(channel) = self
            .channel(key, number)
            .filter(|channel| channel.checking == Some(job))
        else {
            return;
        };
        channel.checking = None;
        let done = self
            .settle_held(key, number, verdict)
            .and_then(|()| self.carry_out_held(key, number));
        if let Err(reason) = done {
            self.break_session(key, &reason);
        }
    }

    fn channel(&mut self, key: SessionKey, number: u32) -> Option<&mut Channel> {
        self.sessions.get_mut(&key)?.channels.get_mut(&number)
    }

    /// A submission: a new unit, or one that the same submitter has sent before.
    fn submitted(&mut self, key: SessionKey, number: u32, from: &str, submit: Submit) -> Result<(), String> {
        if let Some(id) = self.find(&submit.unit) {
            let is_same = |unit: &Unit| unit.was_submitted_by(from, &submit.work_type);
            if !self.units.get(&id).is_some_and(is_same) {
                return Err(in_use(&id));
            }
            self.bind(key, number, &id, false);
            return Ok(());
        }
        if let Some(text) = self.refuses(&submit.unit) {
            return Err(text);
        }
        check_size(
            "",
            &submit.work_type,
            submit.params.iter().map(|(name, value)| (name, value)),
        )?;
        let params = submit
            .params
            .iter()
            .rfind(|(name, _)| name == "params")
            .map_or("", |(_, value)| value.as_str());
        let record = self.command_record(&submit.work_type, params, from)?;
        self.check_queue()?;
        let id = self.new_id(Some(&submit.unit))?;
        self.create(id.clone(), record, submit.unit.is_empty(), Source::Channel(key, number));
        self.bind(key, number, &id, true);
        Ok(())
    }

    fn bind(&mut self, key: SessionKey, number: u32, id: &UnitId, fresh: bool) {
        let Some(unit) = self.units.get_mut(id) else { return };
        unit.channels.insert((key, number));
        // The latest session is the one that goes on with stdin.
        if let Some(spool) = unit.spool.as_mut()
            && !matches!(spool.source, Source::Client(_))
            && !spool.ended
        {
            spool.source = Source::Channel(key, number);
        }
        let channel = self
            .sessions
            .get_mut(&key)
            .and_then(|session| session.channels.get_mut(&number));
        if let Some(channel) = channel {
            channel.unit = Some(id.clone());
            channel.fresh = fresh;
        }
        self.wake_channels(id);
    }

    /// A unit by the ID that a submitter gave; one that is just being made is there for it, one that is elsewhere is not.
    fn find_shown(&self, text: &str) -> Option<UnitId> {
        let is_here = |id: &UnitId| self.units.get(id).is_some_and(|unit| unit.stage != Stage::Adopting);
        self.find(text).filter(is_here)
    }

    /// Tells a node that may know the unit by its name only what it is.
    fn describe(&mut self, key: SessionKey, number: u32, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let work_type = unit.record.work_type.clone();
        let all = unit.record.extra.command().map_or("", |extra| extra.params.as_str());
        // What the submitter gave, without what is configured here.
        let params = match self.types.get(&work_type).map(|t| &t.kind) {
            Some(WorkKind::Command { params: base, .. }) => {
                let rest = all.strip_prefix(base.as_str()).unwrap_or(all);
                if base.is_empty() {
                    all
                } else {
                    rest.trim_start_matches(' ')
                }
            }
            _ => all,
        };
        let params = params.into();
        self.send_session(key, number, &Message::About { work_type, params });
    }

    fn spooling(&mut self, key: SessionKey, number: u32) -> Option<(UnitId, &mut super::spool::Spool)> {
        let id = self.sessions.get(&key)?.channels.get(&number)?.unit.clone()?;
        let spool = self.units.get_mut(&id)?.spool.as_mut()?;
        (spool.source == Source::Channel(key, number)).then_some((id, spool))
    }

    fn stdin_from(&mut self, key: SessionKey, number: u32, offset: u64, data: Bytes) -> Result<(), String> {
        let allowed = self
            .sessions
            .get(&key)
            .and_then(|s| s.channels.get(&number))
            .map_or(0, |c| c.stdin_credit);
        // The unit may have been cancelled, or another session may have taken over.
        let Some((id, spool)) = self.spooling(key, number) else {
            return Ok(());
        };
        if offset.saturating_add(data.len() as u64) > allowed {
            return Err("it sent more stdin than it was allowed".into());
        }
        if !spool.file.push_at(offset, data) {
            return Err("it left out a part of stdin".into());
        }
        let total = spool.file.received();
        if let Err(text) = self.check_stdin(total) {
            self.stdin_failed(&id, &text);
            return Ok(());
        }
        self.expect_stdin(&id);
        self.pump_stdin(&id);
        Ok(())
    }

    fn stdin_end_from(&mut self, key: SessionKey, number: u32, total: u64) -> Result<(), String> {
        let Some((id, spool)) = self.spooling(key, number) else {
            return Ok(());
        };
        if spool.file.received() != total {
            return Err(format!("stdin ends at {total} but has {} bytes", spool.file.received()));
        }
        spool.ended = true;
        self.pump_stdin(&id);
        Ok(())
    }

    fn finish_from(
        &mut self,
        key: SessionKey,
        number: u32,
        unit: &str,
        verdict: Result<(), String>,
        verb: Verb,
        force: bool,
    ) -> Result<(), String> {
        let Some(channel) = self.sessions.get_mut(&key).and_then(|s| s.channels.get_mut(&number)) else {
            return Ok(());
        };
        if channel.asked >= MAX_ASKED {
            return Err(format!(
                "more than {MAX_ASKED} requests of one channel are not answered"
            ));
        }
        channel.asked += 1;
        match (self.find_shown(unit), verdict) {
            (None, _) if verb == Verb::Release && self.is_released(unit) => self.answer_channel(key, number, Ok(())),
            (None, _) => {
                self.bar(unit);
                self.answer_channel(key, number, Err(self.unknown(unit)));
            }
            (_, Err(text)) => self.answer_channel(key, number, Err(text)),
            (Some(id), Ok(())) => {
                if verb == Verb::Release {
                    self.bar(unit);
                }
                self.finish(&id, Asker::Channel(key, number), verb, force);
            }
        }
        Ok(())
    }

    /// The answer to a cancel or a release.
    pub(super) fn answer_channel(&mut self, key: SessionKey, number: u32, outcome: Result<(), String>) {
        if let Some(channel) = self.sessions.get_mut(&key).and_then(|s| s.channels.get_mut(&number)) {
            channel.answers.push_back(outcome);
            self.wake_channel(key, number);
        }
    }

    /// There is no such unit for this channel, or no longer.
    pub(super) fn refuse_channel(&mut self, key: SessionKey, number: u32, text: String) {
        if let Some(channel) = self.sessions.get_mut(&key).and_then(|s| s.channels.get_mut(&number)) {
            channel.unit = None;
            channel.refused = Some(text);
            self.wake_channel(key, number);
        }
    }
}

fn signature_of(message: &Message) -> &str {
    match message {
        Message::Submit(submit) => &submit.signature,
        Message::Attach { signature, .. } | Message::Cancel { signature, .. } | Message::Release { signature, .. } => {
            signature
        }
        _ => "",
    }
}

/// Bytes that a request holds while it waits.
fn weight(message: &Message) -> usize {
    let texts = match message {
        Message::Submit(submit) => submit.params.iter().map(|(name, value)| name.len() + value.len()).sum(),
        _ => 0,
    };
    256 + texts + signature_of(message).len()
}
