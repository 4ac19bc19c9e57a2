//! The local half of a unit that runs elsewhere: what it needs of its executor.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::api::{ClientKey, Severity, WorkReply};
use super::change::{Change, ChangeKind};
use super::classic::Poll;
use super::extra::{NO_EXPIRATION, RemoteExtra};
use super::id::UnitId;
use super::record::Record;
use super::signing::Token;
use super::spool::Writer;
use super::target::Target;
use super::timer::Timer;
use super::unit::{Run, Stage, Unit, Verb};
use super::{Workceptor, unknown_unit};
use crate::time::{Duration, Wall};
use crate::wire::classic::{AdvertTime, format_rfc3339};
use crate::wire::work::{End, Status};

/// How long a client waits for the start of its unit on a node that can be reached: as long as with a classic node
/// (`work.md` §11.2).
const START_WAIT: Duration = Duration::from_secs(15);

/// What stands in the reason for the end of a stream if TLS refused one of its ends.
const TLS_REFUSAL: &str = "CRYPTO_ERROR";

/// What is known of the executor's half.
#[derive(Debug)]
pub(super) struct Remote {
    /// The executor.
    pub(super) node: Target,
    /// The executor may have heard of the unit.
    pub(super) submitted: bool,
    /// `Contacted` is being written.
    pub(super) contacting: bool,
    /// `LocalCancelled` or `LocalReleased` is being written.
    pub(super) marking: bool,
    /// The executor said that it has started.
    pub(super) start_seen: bool,
    /// The executor has cancelled it, or does not know it.
    pub(super) cancel_done: bool,
    /// The executor has removed its half, or never had one.
    pub(super) gone: bool,
    /// The local half goes by force; the executor is told later.
    pub(super) owes: bool,
    /// There is nothing more to learn from the executor.
    pub(super) over: bool,
    /// Length of stdin, once all of it is here.
    pub(super) stdin_total: Option<u64>,
    /// All of it is durable here, and that it is all.
    pub(super) stdin_durable: bool,
    /// Who waits for the unit to be adopted.
    pub(super) adopters: Vec<ClientKey>,
    /// Work type and parameters, if the executor told them before it accepted.
    pub(super) about: Option<(String, String)>,
    /// Output on its way to the file.
    pub(super) file: Writer,
    /// Failed writes in a row.
    pub(super) write_tries: u32,
    /// How it ended there.
    pub(super) end: Option<End>,
    /// The output here is being checked.
    pub(super) hashing: bool,
    /// How often output was asked for again because it did not fit its declaration.
    pub(super) fetches: u32,
    /// A state that is not final is being written.
    pub(super) mirroring: bool,
    /// The next one.
    pub(super) status: Option<Status>,
    /// Its channel on the session with the executor.
    pub(super) line: Option<Line>,
    /// The signature of the next request.
    pub(super) token: Token,
    /// Signatures in a row that could not be made.
    pub(super) sign_tries: u32,
    /// What is known by polling, where the executor grants no sessions.
    pub(super) poll: Poll,
}

/// What has passed over the present channel.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) channel: u32,
    /// The executor has heard of it.
    pub(super) is_used: bool,
    pub(super) opened: bool,
    pub(super) accepted: bool,
    pub(super) stdin_sent: u64,
    pub(super) stdin_credit: u64,
    pub(super) stdin_end_sent: bool,
    pub(super) reading: bool,
    /// Output up to this offset was allowed.
    pub(super) credit: u64,
    pub(super) cancel_sent: bool,
    pub(super) release_sent: bool,
    /// Requests not answered yet, in order.
    pub(super) asked: VecDeque<Verb>,
}

impl Remote {
    pub(super) fn new(node: Target) -> Self {
        Self {
            node,
            submitted: false,
            contacting: false,
            marking: false,
            start_seen: false,
            cancel_done: false,
            gone: false,
            owes: false,
            over: false,
            stdin_total: None,
            stdin_durable: false,
            adopters: Vec::new(),
            about: None,
            file: Writer::default(),
            write_tries: 0,
            end: None,
            hashing: false,
            fetches: 0,
            mirroring: false,
            status: None,
            line: None,
            token: Token::None,
            sign_tries: 0,
            poll: Poll::default(),
        }
    }

    /// Whether the local half may go.
    pub(super) fn is_gone(&self, unit: &Unit) -> bool {
        unit.release.is_some() && (!self.submitted || self.gone)
    }

    /// Whether the executor must be told that the unit shall end.
    pub(super) fn wants_cancel(&self, unit: &Unit) -> bool {
        unit.release.is_none()
            && self.submitted
            && !self.cancel_done
            && !self.over
            && extra(unit).is_some_and(|e| e.local_cancelled)
    }

    /// Whether the executor must be told to drop its half.
    pub(super) fn wants_release(&self, unit: &Unit) -> bool {
        unit.release.is_some() && self.submitted && !self.gone && extra(unit).is_some_and(|e| e.local_released)
    }

    /// Whether the unit is to be run, or followed while it runs.
    pub(super) fn wants_run(&self, unit: &Unit) -> bool {
        unit.release.is_none() && !unit.is_complete() && unit.run != Run::Over && !self.over
    }

    /// Whether it needs a session with the executor.
    pub(super) fn wants_peer(&self, unit: &Unit) -> bool {
        unit.stage != Stage::Removing && (self.wants_run(unit) || self.wants_cancel(unit) || self.wants_release(unit))
    }
}

pub(super) fn extra(unit: &Unit) -> Option<&RemoteExtra> {
    unit.record.extra.remote()
}

/// The time by which a remote unit must have started.
pub(super) fn expiration(record: &Record) -> Option<Wall> {
    let extra = record.extra.remote()?;
    if extra.remote_started || extra.expiration == NO_EXPIRATION || record.state.is_complete() {
        return None;
    }
    let time = AdvertTime::parse(extra.expiration.as_bytes()).ok()?;
    (time > AdvertTime::default()).then(|| time.wall())
}

impl Workceptor {
    /// Everything a remote unit needs next.
    pub(super) fn advance_remote(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(mut remote) = unit.remote.take() else { return };
        let mark = mark(unit, &mut remote);
        let wants = remote.wants_peer(unit);
        let is_live = unit.stage == Stage::Live;
        unit.remote = Some(remote);
        if let Some(change) = mark {
            self.update(id, change, true);
        }
        if is_live {
            self.pump_output(id);
        }
        if wants {
            self.want_peer(id);
        } else {
            self.unwant_peer(id);
        }
    }

    /// A mark of this node is durable.
    pub(super) fn marked(&mut self, id: &UnitId, kind: ChangeKind) {
        if let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) {
            match kind {
                ChangeKind::Contacted => remote.contacting = false,
                _ => remote.marking = false,
            }
        }
    }

    /// Somebody asked for an end: try the executor at once, even if that failed a moment ago.
    pub(super) fn finish_remote(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        if let Some(line) = &mut remote.line
            && line.asked.is_empty()
        {
            (line.cancel_sent, line.release_sent) = (false, false);
        }
        let node = remote.node.clone();
        self.timers.clear(&Timer::RetryCall(id.clone()));
        self.hurry(&node);
    }

    /// All of stdin is durable here: the client waits for the start now.
    pub(super) fn expect_start(&mut self, id: &UnitId) {
        if self.units.get(id).is_some_and(|unit| unit.starter.is_some()) {
            let at = self.after(START_WAIT);
            self.timers.set(Timer::StartReply(id.clone()), at);
        }
    }

    pub(super) fn start_is_slow(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if let Some(client) = unit.starter.take()
            && self.clients.remove(&client).is_some()
        {
            self.reply(client, WorkReply::Submitted { unit: id.clone() });
        }
    }

    /// The executor cannot be reached: whoever waits learns that it will be done later.
    pub(super) fn settle(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        if remote.marking || unit.stage != Stage::Live {
            return;
        }
        let is_queued = remote.stdin_durable;
        if unit.release.is_some_and(|release| release.force) {
            remote.gone = true;
            remote.owes = true;
            let node = remote.node.clone();
            self.log(
                Severity::Warning,
                format!("unit {id}: released by force, node {node} is told when it can be reached"),
            );
            self.unwant_peer(id);
            return self.remove_if_due(id);
        }
        let (released, cancelled) = (unit.release.is_some(), unit.cancelling);
        // What has ended in this moment answers with its end, once that is recorded.
        if is_queued && unit.run != Run::Over {
            self.start_is_slow(id);
        }
        if released {
            self.answer_all(id, Verb::Release, &Ok(true));
        }
        if released || cancelled {
            self.answer_all(id, Verb::Cancel, &Ok(true));
        }
    }

    /// The unit's time to live is over.
    pub(super) fn expire(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(wall) = expiration(&unit.record) else { return };
        if unit.stage != Stage::Live || unit.remote.as_ref().is_none_or(|remote| remote.start_seen) {
            return;
        }
        if self.now.wall < wall {
            return self.set_expiration(id);
        }
        unit.run = Run::Over;
        let detail = format!("Work unit expired on {}", short_date(wall));
        self.update(id, Change::Expired { detail }, true);
        self.advance(id);
    }

    /// The stream to the executor was lost: if its TLS or ours refused the other side, there is no use in trying on for a unit
    /// that has not started (`work.md` §11.2).
    pub(super) fn tls_refused(&mut self, id: &UnitId, reason: &str) {
        let Some(unit) = self.units.get(id) else { return };
        let Some(remote) = &unit.remote else { return };
        let text = || format!("TLS error connecting to remote service: {reason}");
        if reason.contains(TLS_REFUSAL) && unit.stage == Stage::Adopting {
            return self.adoption_failed(id, &text());
        }
        let has_started = remote.start_seen || extra(unit).is_none_or(|extra| extra.remote_started);
        if reason.contains(TLS_REFUSAL) && !has_started && remote.wants_run(unit) {
            self.fail(id, text());
        }
    }

    /// The executor does not know the unit.
    pub(super) fn remote_is_gone(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        remote.gone = true;
        remote.cancel_done = true;
        remote.over = true;
        let is_complete = unit.is_complete();
        if unit.release.is_none() && !is_complete {
            self.fail(id, "Remote work unit is gone".into());
        }
    }

    /// The executor has answered a cancel or a release.
    pub(super) fn executor_answered(&mut self, id: &UnitId, verb: Verb, result: Result<(), String>) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let Some(remote) = unit.remote.as_mut() else { return };
        match (verb, result) {
            (Verb::Cancel, Ok(())) => {
                remote.cancel_done = true;
                self.answer_all(id, Verb::Cancel, &Ok(false));
            }
            (Verb::Release, Ok(())) => remote.gone = true,
            (verb, Err(text)) => {
                let is_unknown = text.contains(&unknown_unit(""));
                if is_unknown {
                    self.remote_is_gone(id);
                }
                if !is_unknown || verb == Verb::Cancel {
                    // The two blanks are the classic node's.
                    self.answer_all(id, verb, &Err(format!("error cancelling remote unit:  {text}")));
                }
            }
        }
    }
}

/// What must be durable before the executor is told of an end.
fn mark(unit: &Unit, remote: &mut Remote) -> Option<Change> {
    let extra = unit.record.extra.remote()?;
    if remote.marking || unit.stage != Stage::Live {
        return None;
    }
    let change = if unit.release.is_some() {
        (remote.submitted && !remote.gone && !extra.local_released).then_some(Change::LocalReleased)
    } else {
        // A unit that is over here although the executor may still have it at work must be ended there.
        let is_orphan = unit.run == Run::Over && remote.submitted && !remote.over;
        let is_wanted = (unit.cancelling && !unit.is_complete()) || is_orphan;
        (is_wanted && !extra.local_cancelled).then_some(Change::LocalCancelled)
    };
    remote.marking = change.is_some();
    change
}

/// `Mon Jan 2 15:04:05`, in UTC.
fn short_date(wall: Wall) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = format_rfc3339(wall);
    let number = |range: core::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse::<usize>().ok());
    let month = number(5..7)
        .and_then(|month| MONTHS.get(month.wrapping_sub(1)))
        .copied()
        .unwrap_or("???");
    // The epoch was a Thursday.
    let day = DAYS[(wall.as_secs() / 86_400 % 7) as usize];
    format!(
        "{day} {month} {} {}",
        number(8..10).unwrap_or(0),
        text.get(11..19).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_short() {
        assert_eq!(short_date(Wall::from_secs(0)), "Thu Jan 1 00:00:00");
        assert_eq!(short_date(Wall::from_secs(1_730_203_265)), "Tue Oct 29 12:01:05");
    }
}
