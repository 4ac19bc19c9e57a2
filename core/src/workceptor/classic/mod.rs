//! Executors without work sessions: the polling protocol of classic nodes, as submitter (`work.md` §11).
//!
//! The stream on which a work session would have run stays a control session: on it the states of all units of that
//! executor are asked in turn. What would block it has a stream of its own, a *call*: a submission, a cancel or release,
//! output from an offset on. All streams to an executor are bounded, whatever the number of its units.
//!
//! **Never twice.** A classic executor runs a unit when it has seen the end of its stdin, and older ones know no key that
//! would make a repeated submission harmless. So the end is sent only when the executor's ID of the unit is durable here, and
//! a submission of which the answer is lost is looked up by that ID (or by ours, which newer executors take over) before
//! anything else: a unit that never had all of its stdin is released there and submitted anew, every other one is followed.

mod call;
mod submit;
mod text;
mod watch;

use alloc::collections::VecDeque;
use alloc::string::String;

use super::api::PeerKey;
use super::change::Change;
use super::id::UnitId;
use super::ready::Ready;
use super::remote::Remote;
use super::timer::Timer;
use super::unit::{Stage, Unit, Verb};
use super::{UNIT_WINDOW, Workceptor};
use call::Kind;
use text::Reported;

pub(super) use call::Call;

/// Bytes of polled output after which what was received is made durable: a machine that starts anew asks for the rest only.
const SYNC_STEP: u64 = 8 << 20;

/// The same on a work session, which is faster.
const SESSION_SYNC_STEP: u64 = 32 << 20;

/// What the polling protocol knows of a unit.
#[derive(Debug, Default)]
pub(super) struct Poll {
    /// The executor's name of the unit, if it said one in this life of the node.
    name: Option<String>,
    /// Nothing of the unit is there: it may be submitted although it was before.
    cleared: bool,
    /// The end of its stdin was not sent.
    pub(super) safe: bool,
    /// What is there never had all of its stdin and is to be released.
    withdrawing: bool,
    submit: Option<PeerKey>,
    fetch: Option<PeerKey>,
    finish: Option<PeerKey>,
    /// Failed calls in a row.
    tries: u32,
    /// A status is asked, or about to be.
    asked: bool,
    /// Answers without news.
    same: u32,
    /// The last answer.
    last: Option<Reported>,
    /// Output known to be durable.
    synced: u64,
    syncing: bool,
}

impl Poll {
    /// Of a unit found on disk: `synced` bytes of output were durable.
    pub(super) fn restored(is_named: bool, synced: u64) -> Self {
        Self {
            safe: !is_named,
            synced,
            ..Self::default()
        }
    }

    /// The unit is submitted on a work session.
    pub(super) fn submitted_by_session(&mut self, again: bool) {
        self.cleared = false;
        self.safe |= !again;
    }

    /// Output that is durable.
    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// The final state, once the executor has told it.
    fn end(&self) -> Option<&Reported> {
        self.last.as_ref().filter(|last| last.state.is_complete())
    }
}

/// The polling of one executor.
#[derive(Debug, Default)]
pub(super) struct Polling {
    /// Units whose status was asked, with the name it was asked by, in the order of the answers.
    asked: VecDeque<(UnitId, String)>,
    /// Units whose status is to be asked.
    due: Ready<UnitId>,
    /// Calls under way, by kind.
    active: [usize; Kind::COUNT],
    /// Units that wait for a call of a kind.
    queued: [Ready<UnitId>; Kind::COUNT],
}

impl Polling {
    /// The control session is gone; calls are on their own.
    pub(super) fn lose_session(&mut self) {
        self.asked.clear();
        self.due.clear();
    }
}

/// What a unit needs of its executor next.
#[derive(Default)]
struct Needs {
    /// Record first that the executor will hear of the unit.
    contact: bool,
    ask: bool,
    call: Option<Kind>,
    fetch: bool,
    /// The submission under way is not wanted any more.
    abandon: Option<PeerKey>,
}

fn needs(unit: &Unit, remote: &mut Remote, waits: bool) -> Needs {
    let mut needs = Needs::default();
    let Some(extra) = unit.record.extra.remote() else {
        return needs;
    };
    let finish = match unit.release {
        Some(_) if remote.wants_release(unit) => Some(Verb::Release),
        None if remote.wants_cancel(unit) => Some(Verb::Cancel),
        _ => None,
    };
    if let Some(verb) = finish {
        needs.abandon = remote.poll.submit;
        if remote.poll.finish.is_none() && !waits {
            needs.call = Some(Kind::Finish(verb));
        }
    }
    if !remote.wants_run(unit) {
        return needs;
    }
    let poll = &remote.poll;
    if remote.start_seen || extra.remote_started {
        let size = poll.last.as_ref().map_or(0, |last| last.stdout_size);
        needs.ask = !poll.asked;
        needs.fetch = poll.fetch.is_none() && remote.file.received() < size && !waits;
    } else if finish.is_some() || poll.submit.is_some() || !remote.stdin_durable {
        // In the middle of something, or too early.
    } else if poll.withdrawing {
        if poll.finish.is_none() && !waits {
            needs.call = Some(Kind::Withdraw);
        }
    } else if remote.submitted && !poll.cleared {
        needs.ask = !poll.asked;
    } else if !extra.contacted {
        needs.contact = !remote.contacting;
        remote.contacting = true;
    } else if !waits {
        needs.call = Some(Kind::Submit);
    }
    needs
}

impl Workceptor {
    /// Does what a unit needs next of an executor that is polled.
    pub(super) fn drive_classic(&mut self, id: &UnitId) {
        let waits = self.timers.is_set(&Timer::RetryCall(id.clone()));
        let polls_later = self.timers.is_set(&Timer::Poll(id.clone()));
        let Some(unit) = self.units.get_mut(id) else {
            return self.call_owed(id);
        };
        if unit.stage == Stage::Adopting {
            if let Some(remote) = &unit.remote
                && !remote.poll.asked
            {
                let node = remote.node.clone();
                self.ask_status(&node, id);
            }
            return;
        }
        if unit.stage != Stage::Live {
            return;
        }
        let Some(mut remote) = unit.remote.take() else { return };
        let needs = needs(unit, &mut remote, waits);
        let node = remote.node.clone();
        unit.remote = Some(remote);
        if needs.contact {
            self.update(id, Change::Contacted, true);
        }
        if let Some(key) = needs.abandon {
            self.abort_call(key);
        }
        if needs.ask && !polls_later {
            self.ask_status(&node, id);
        }
        if let Some(kind) = needs.call {
            self.open_call(&node, id, kind);
        }
        if needs.fetch {
            self.open_call(&node, id, Kind::Fetch);
        }
        self.pump_submission(id);
        self.finish_classic(id);
    }

    /// The name by which the executor knows a unit, or would.
    fn remote_name(&self, id: &UnitId) -> String {
        let unit = self.units.get(id);
        let recorded = unit
            .and_then(|unit| unit.record.extra.remote())
            .map(|extra| extra.remote_unit_id.clone());
        let said = unit.and_then(|unit| unit.remote.as_ref()?.poll.name.clone());
        said.or(recorded)
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| id.as_str().into())
    }

    /// Output was written: every now and then it is made durable.
    pub(super) fn sync_output(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let written = remote.file.written();
        let poll = &mut remote.poll;
        let step = if poll.fetch.is_some() {
            SYNC_STEP
        } else {
            SESSION_SYNC_STEP
        };
        if !poll.syncing && written >= poll.synced + step {
            poll.syncing = true;
            self.update(id, Change::OutputSize(written), true);
        }
        self.resume_fetch(id);
    }

    /// The length of the output was recorded, or not.
    pub(super) fn output_synced(&mut self, id: &UnitId, size: Option<u64>) {
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            remote.poll.syncing = false;
            remote.poll.synced = remote.poll.synced.max(size.unwrap_or(0));
        }
    }

    /// All of the output of a unit that is over there is here.
    fn finish_classic(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if unit.record.state.is_complete() || remote.over || unit.release.is_some() {
            return;
        }
        let file = &remote.file;
        let Some(end) = remote
            .poll
            .end()
            .filter(|end| file.is_idle() && file.received() >= end.stdout_size)
        else {
            return;
        };
        let change = Change::Mirror {
            state: end.state,
            detail: end.detail.clone(),
            // What came beyond the declared length is the executor's output all the same (`work.md` §10.4).
            stdout_size: file.received(),
            exit_code: end.exit_code(),
            signal: None,
        };
        remote.over = true;
        let fetch = remote.poll.fetch;
        self.update(id, change, true);
        if let Some(key) = fetch {
            self.abort_call(key);
        }
        self.advance(id);
    }

    /// Whether a stream's bytes are wanted now. If not, [`WorkOutput::PeerResume`](super::WorkOutput::PeerResume) says
    /// when they are.
    pub fn peer_takes(&self, key: PeerKey) -> bool {
        let Some(call) = self.calls.get(&key).filter(|call| call.is_streaming()) else {
            return true;
        };
        let remote = self.units.get(call.unit()).and_then(|unit| unit.remote.as_ref());
        remote.is_none_or(|remote| remote.file.received() - remote.file.written() < UNIT_WINDOW)
    }
}
