//! Calls: streams to an executor's control service for one deed of one unit each.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::super::api::{PeerKey, Severity, WorkOutput};
use super::super::id::UnitId;
use super::super::peer::{MAX_LINE, OPEN_WAIT, check_greeting};
use super::super::signing::Signer;
use super::super::target::Target;
use super::super::timer::{Timer, back_off};
use super::super::unit::Verb;
use super::super::{SESSION_WINDOW, Workceptor, unknown_unit};
use super::text;
use crate::time::Duration;

/// Submissions to one executor that are under way at a time, bodies included.
const MAX_SUBMITS: usize = 16;

/// Units of one executor whose output is streamed at a time. A stream that has nothing to tell makes room for others.
const MAX_FETCHES: usize = 32;

/// Cancels and releases of one executor that are under way at a time.
const MAX_FINISHES: usize = 16;

/// How long the first answer to a command may take.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// How long the start may take once the executor has all of stdin: what comes later is found by asking the status.
pub(super) const START_WAIT: Duration = Duration::from_secs(60);

/// How long a cancel or release may take: a classic executor waits for the process, 10 s and more.
const FINISH_WAIT: Duration = Duration::from_secs(120);

/// How long to wait with a release that is owed when its stream was lost.
const OWED_RETRY: Duration = Duration::from_secs(60);

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Submit,
    Fetch,
    Finish(Verb),
    /// Releases what is left of a submission that broke.
    Withdraw,
    /// Releases what is left of a unit that is gone here.
    Owed,
}

impl Kind {
    pub(super) const COUNT: usize = 3;
    pub(super) const FETCH: usize = 1;

    const fn slot(self) -> (usize, usize) {
        match self {
            Self::Submit => (0, MAX_SUBMITS),
            Self::Fetch => (Self::FETCH, MAX_FETCHES),
            Self::Finish(_) | Self::Withdraw | Self::Owed => (2, MAX_FINISHES),
        }
    }
}

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Opening,
    Greeting,
    /// The command is being signed.
    Signing,
    /// The command was sent.
    Asked,
    /// Stdin goes out.
    Stdin,
    /// The end of stdin was sent.
    Closing,
    /// Raw output comes in.
    Output,
}

/// One call.
#[derive(Debug)]
pub(in super::super) struct Call {
    pub(super) node: Target,
    pub(super) unit: UnitId,
    pub(super) kind: Kind,
    pub(super) step: Step,
    buffer: BytesMut,
    /// Bytes that the stream may still be given.
    pub(super) window: usize,
    /// Stdin sent.
    pub(super) sent: u64,
    pub(super) reading: bool,
    /// Output has come.
    progress: bool,
    /// Its bytes were not wanted.
    pub(super) paused: bool,
}

impl Call {
    pub(in super::super) fn node(&self) -> &str {
        &self.node.node
    }

    pub(super) fn unit(&self) -> &UnitId {
        &self.unit
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.step == Step::Output
    }
}

impl Workceptor {
    /// Opens a stream for a deed of a unit, as soon as there is one to spare.
    pub(super) fn open_call(&mut self, node: &Target, id: &UnitId, kind: Kind) {
        let (slot, limit) = kind.slot();
        let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.is_polling()) else {
            return;
        };
        let polling = &mut peer.polling;
        if polling.active[slot] >= limit {
            polling.queued[slot].push(id.clone());
            return;
        }
        polling.active[slot] += 1;
        let key = PeerKey(self.fresh_key());
        self.set_call(id, kind, Some(key));
        let call = Call {
            node: node.clone(),
            unit: id.clone(),
            kind,
            step: Step::Opening,
            buffer: BytesMut::new(),
            window: SESSION_WINDOW,
            sent: 0,
            reading: false,
            progress: false,
            paused: false,
        };
        self.calls.insert(key, call);
        self.call_wait(key, OPEN_WAIT);
        self.open_stream(key, node);
    }

    pub(in super::super) fn open_owed_call(&mut self, node: &Target, id: &UnitId) {
        let is_this = |call: &Call| call.kind == Kind::Owed && call.unit == *id;
        if !self.calls.values().any(is_this) {
            self.open_call(node, id, Kind::Owed);
        }
    }

    fn set_call(&mut self, id: &UnitId, kind: Kind, key: Option<PeerKey>) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        match kind {
            Kind::Submit => remote.poll.submit = key,
            Kind::Fetch => remote.poll.fetch = key,
            Kind::Finish(_) | Kind::Withdraw => remote.poll.finish = key,
            Kind::Owed => {}
        }
    }

    pub(super) fn call_wait(&mut self, key: PeerKey, wait: Duration) {
        let at = self.after(wait);
        self.timers.set(Timer::PeerSlow(key), at);
    }

    /// Forgets a call; its stream is closed by the caller.
    fn remove_call(&mut self, key: PeerKey) -> Option<Call> {
        let call = self.calls.remove(&key)?;
        self.timers.clear(&Timer::PeerSlow(key));
        self.set_call(&call.unit, call.kind, None);
        let (slot, limit) = call.kind.slot();
        if let Some(peer) = self.peers.get_mut(&call.node) {
            peer.polling.active[slot] = peer.polling.active[slot].saturating_sub(1);
        }
        while let Some(peer) = self.peers.get_mut(&call.node)
            && peer.polling.active[slot] < limit
            && let Some(next) = peer.polling.queued[slot].pop()
        {
            if next != call.unit {
                self.drive_classic(&next);
            }
        }
        Some(call)
    }

    /// Ends a call in good order.
    pub(super) fn close_call(&mut self, key: PeerKey) -> Option<Call> {
        let call = self.remove_call(key)?;
        self.out.push_back(WorkOutput::ClosePeer(key));
        Some(call)
    }

    /// Ends a call so that the executor cannot take what was sent for all there is.
    pub(super) fn abort_call(&mut self, key: PeerKey) {
        if self.remove_call(key).is_some() {
            self.out.push_back(WorkOutput::AbortPeer(key));
        }
    }

    /// Streams of output, which nobody has to answer on, are in doubt when the executor does not answer elsewhere: a classic
    /// node forgets its streams with the route, and ours would wait for as long as silence is borne. The output is asked for
    /// again from where it ends.
    pub(in super::super) fn abort_fetches(&mut self, node: &Target) {
        let is_fetch = |call: &Call| call.kind == Kind::Fetch && call.node == *node;
        let fetches = self.calls.iter().filter(|(_, call)| is_fetch(call));
        let keys: Vec<PeerKey> = fetches.map(|(&key, _)| key).collect();
        for key in keys {
            self.abort_call(key);
        }
    }

    /// A unit needs nothing of its executor any more.
    pub(in super::super) fn drop_calls(&mut self, id: &UnitId) {
        self.timers.clear(&Timer::Poll(id.clone()));
        self.timers.clear(&Timer::RetryCall(id.clone()));
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        remote.poll.asked = false;
        let keys = [remote.poll.submit, remote.poll.fetch, remote.poll.finish];
        for key in keys.into_iter().flatten() {
            self.abort_call(key);
        }
    }

    pub(in super::super) fn call_opened(&mut self, key: PeerKey) {
        if let Some(call) = self.calls.get_mut(&key)
            && call.step == Step::Opening
        {
            call.step = Step::Greeting;
        }
    }

    pub(in super::super) fn call_data(&mut self, key: PeerKey, mut data: Bytes) {
        while let Some(call) = self.calls.get_mut(&key) {
            if call.step == Step::Output {
                let id = call.unit.clone();
                call.progress |= !data.is_empty();
                return self.fetched(key, &id, data);
            }
            let Some(end) = data.iter().position(|&b| b == b'\n') else {
                call.buffer.extend_from_slice(&data);
                if call.buffer.len() > MAX_LINE {
                    self.break_call(key, "its answer is too long");
                }
                return;
            };
            call.buffer.extend_from_slice(&data.split_to(end + 1));
            let line = core::mem::take(&mut call.buffer);
            let line = String::from_utf8_lossy(&line);
            self.call_line(key, line.trim_end());
        }
    }

    fn call_line(&mut self, key: PeerKey, line: &str) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let (kind, step, id) = (call.kind, call.step, call.unit.clone());
        match (step, kind) {
            (Step::Greeting, _) => {
                if let Err(reason) = check_greeting(call.node(), line) {
                    return self.break_call(key, &reason);
                }
                let node = call.node.node.clone();
                let unit = self.units.get(&id).and_then(|unit| unit.record.extra.remote());
                let owed = self.released.get(&id).and_then(|tombstone| tombstone.owed.as_ref());
                if unit.is_some_and(|extra| extra.sign_work) || owed.is_some_and(|owed| owed.sign_work) {
                    call.step = Step::Signing;
                    return self.sign(Signer::Call(key), &node);
                }
                call.step = Step::Asked;
                self.send_command(key, &id, kind, "");
            }
            (Step::Asked, Kind::Submit) => self.submit_answered(key, &id, line),
            (Step::Stdin | Step::Closing, Kind::Submit) => self.submit_ended(key, &id, line),
            (Step::Asked, Kind::Fetch) if text::is_results_header(line) => {
                call.step = Step::Output;
                self.timers.clear(&Timer::PeerSlow(key));
            }
            (Step::Asked, Kind::Finish(verb)) => {
                self.close_call(key);
                self.finish_answered(&id, verb, line);
            }
            (Step::Asked, Kind::Owed) => {
                self.close_call(key);
                self.paid(&id, text::error(line));
            }
            (Step::Asked, Kind::Withdraw) => match text::error(line) {
                Some(text) if !text.contains(&unknown_unit("")) => {
                    self.break_call(key, &format!("cannot release unit {id} there: {line}"));
                }
                _ => {
                    self.close_call(key);
                    self.withdrawn(&id);
                }
            },
            _ => self.break_call(key, &format!("unexpected answer: {line}")),
        }
    }

    /// The signature of a call's command was made, or could not be.
    pub(in super::super) fn call_signed(&mut self, key: PeerKey, result: Result<String, String>) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.step == Step::Signing) else {
            return;
        };
        let (id, kind) = (call.unit.clone(), call.kind);
        match result {
            Ok(token) => {
                call.step = Step::Asked;
                self.send_command(key, &id, kind, &token);
            }
            Err(text) => {
                let remote = self.units.get_mut(&id).and_then(|unit| unit.remote.as_mut());
                let Some(remote) = remote.filter(|remote| kind == Kind::Submit && !remote.submitted) else {
                    return self.break_call(key, &text);
                };
                remote.over = true;
                self.close_call(key);
                self.start_failed(&id, &text);
                self.advance(&id);
            }
        }
    }

    fn send_command(&mut self, key: PeerKey, id: &UnitId, kind: Kind, token: &str) {
        if let Some(owed) = self.owed(id)
            && kind == Kind::Owed
        {
            let command = text::finish("release", &owed.unit, token);
            return self.say(key, command, FINISH_WAIT);
        }
        let name = self.remote_name(id);
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        let (command, wait) = match kind {
            Kind::Submit => {
                let Some(extra) = unit.record.extra.remote() else {
                    return;
                };
                remote.submitted = true;
                remote.poll.cleared = false;
                remote.poll.safe = true;
                (text::submit(id, extra, token), ANSWER_WAIT)
            }
            Kind::Fetch => (text::results(&name, remote.file.received(), token), ANSWER_WAIT),
            Kind::Finish(Verb::Cancel) => (text::finish("cancel", &name, token), FINISH_WAIT),
            Kind::Finish(Verb::Release) | Kind::Withdraw => (text::finish("release", &name, token), FINISH_WAIT),
            Kind::Owed => return,
        };
        self.say(key, command, wait);
    }

    fn say(&mut self, key: PeerKey, command: Bytes, wait: Duration) {
        self.call_wait(key, wait);
        if let Some(call) = self.calls.get_mut(&key) {
            call.window = call.window.saturating_sub(command.len());
        }
        self.out.push_back(WorkOutput::PeerSend(key, command));
    }

    fn finish_answered(&mut self, id: &UnitId, verb: Verb, line: &str) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        remote.poll.tries = 0;
        let result = text::error(line).map_or(Ok(()), |text| Err(text.to_string()));
        if let Err(text) = &result
            && verb == Verb::Release
            && unit.release.is_some_and(|release| release.force)
        {
            remote.gone = true;
            let text = format!("unit {id}: released by force, node {} says: {text}", remote.node);
            self.log(Severity::Warning, text);
        } else if result.is_err() && verb == Verb::Cancel {
            // Asked again only if somebody asks again.
            remote.cancel_done = true;
            self.executor_answered(id, verb, result);
        } else {
            if result.is_err() {
                self.wait_with_calls(id);
            }
            self.executor_answered(id, verb, result);
        }
        // The state comes with the next status.
        self.timers.clear(&Timer::Poll(id.clone()));
        self.advance(id);
    }

    /// No new calls of a unit for a while, longer each time.
    pub(super) fn wait_with_calls(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let wait = back_off(remote.poll.tries);
        remote.poll.tries += 1;
        let at = self.after(wait);
        self.timers.set(Timer::RetryCall(id.clone()), at);
    }

    /// The executor does not keep to the protocol, or does not answer.
    pub(in super::super) fn break_call(&mut self, key: PeerKey, reason: &str) {
        if self.calls.contains_key(&key) {
            self.out.push_back(WorkOutput::AbortPeer(key));
            self.call_lost(key, reason);
        }
    }

    /// The stream of a call is gone.
    pub(in super::super) fn call_lost(&mut self, key: PeerKey, reason: &str) {
        let Some(call) = self.remove_call(key) else { return };
        let id = call.unit;
        if call.kind == Kind::Owed {
            let at = self.after(OWED_RETRY);
            return self.timers.set(Timer::RetryCall(id), at);
        }
        let Some(remote) = self.units.get_mut(&id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let is_first = remote.poll.tries == 0;
        if call.kind == Kind::Fetch && call.progress {
            // The end of the output, or a break: the status tells which.
            remote.poll.tries = 0;
            self.timers.clear(&Timer::Poll(id.clone()));
        } else {
            self.wait_with_calls(&id);
            let severity = if is_first { Severity::Info } else { Severity::Debug };
            let text = format!("unit {id}: control session with node {}: {reason}", call.node);
            self.log(severity, text);
        }
        if call.kind != Kind::Fetch {
            self.tls_refused(&id, reason);
            self.settle(&id);
        }
        self.advance(&id);
    }
}
