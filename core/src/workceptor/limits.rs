//! Limits that an operator sets, and what they are measured by.

use alloc::format;
use alloc::string::String;

use serde_json::{Value, json};

use super::Workceptor;
use super::api::Severity;
use super::id::UnitId;
use super::state::State;
use super::timer::Timer;
use super::unit::{Run, Stage};
use crate::config::WorkLimits;
use crate::time::{Duration, Now, Wall};
use crate::wire::classic::AdvertTime;

/// The wall clock may be set: what depends on it is looked at so often at least.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Wait for a unit that has expired while its submitter follows it.
const FOLLOWED: Duration = Duration::from_secs(60);

impl Workceptor {
    /// Limits from now on. Units that wait are looked at again; those that run go on.
    pub fn set_limits(&mut self, now: Now, limits: WorkLimits) {
        self.now = now;
        if self.limits == limits {
            return;
        }
        self.limits = limits;
        let ids: alloc::vec::Vec<UnitId> = self.units.keys().cloned().collect();
        for id in ids {
            self.set_expiry(&id);
            self.expect_stdin(&id);
        }
        self.count_running();
        self.start_queued();
    }

    /// The most units that this node keeps.
    pub(super) fn unit_limit(&self) -> usize {
        self.limits
            .max_units
            .map_or(self.max_units, |limit| limit.min(self.max_units))
    }

    /// Whether so much stdin is allowed.
    ///
    /// # Errors
    /// The text for the unit.
    pub(super) fn check_stdin(&self, total: u64) -> Result<(), String> {
        match self.limits.max_stdin {
            Some(limit) if total > limit => Err(format!("stdin is longer than {limit} bytes")),
            _ => Ok(()),
        }
    }

    /// A unit waits for stdin, or has got some: the time begins anew.
    pub(super) fn expect_stdin(&mut self, id: &UnitId) {
        let timer = Timer::StdinSlow(id.clone());
        let waits = self.units.get(id).is_some_and(|unit| {
            unit.spool.as_ref().is_some_and(|spool| !spool.ended) && unit.run != Run::Over && !unit.is_complete()
        });
        match self.limits.stdin_timeout.filter(|_| waits) {
            Some(timeout) => {
                let at = self.after(timeout);
                self.timers.set(timer, at);
            }
            None => self.timers.clear(&timer),
        }
    }

    pub(super) fn stdin_is_slow(&mut self, id: &UnitId) {
        let Some(timeout) = self.limits.stdin_timeout else {
            return;
        };
        let Some(unit) = self.units.get(id) else { return };
        if unit.stage != Stage::Live || unit.is_complete() || unit.spool.as_ref().is_none_or(|spool| spool.ended) {
            return;
        }
        self.log(
            Severity::Warning,
            format!("unit {id}: no stdin for {} s", timeout.as_secs()),
        );
        self.stdin_failed(id, &format!("nothing came for {} s", timeout.as_secs()));
    }

    /// Sets the time at which a unit that is over is released.
    pub(super) fn set_expiry(&mut self, id: &UnitId) {
        let timer = Timer::Release(id.clone());
        match self.expiry(id) {
            None => self.timers.clear(&timer),
            Some(wall) => {
                let left = wall.as_nanos().saturating_sub(self.now.wall.as_nanos());
                let at = self.after(Duration::from_nanos(left).min(LOOK_AGAIN));
                self.timers.set(timer, at);
            }
        }
    }

    /// When a unit that is over is to be released.
    fn expiry(&self, id: &UnitId) -> Option<Wall> {
        let unit = self.units.get(id)?;
        if !unit.is_complete() || unit.release.is_some() || unit.is_foreign() {
            return None;
        }
        let after = if unit.is_submitted() {
            self.limits.expire_remote
        } else {
            self.limits.expire
        };
        let ended = unit.record.extra.times().map_or("", |times| &times.ended);
        // A classic node does not say when: from now on, then.
        let ended = AdvertTime::parse(ended.as_bytes()).ok().map(|time| time.wall());
        let ended = ended.or(unit.seen_over).unwrap_or(self.now.wall);
        Some(ended + after?)
    }

    /// A unit may have been over for long enough.
    pub(super) fn release_expired(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        if unit.release.is_some() {
            // A removal that fails is given up after a while.
            let at = self.after(LOOK_AGAIN);
            return self.timers.set(Timer::Release(id.clone()), at);
        }
        let Some(wall) = self.expiry(id) else { return };
        let Some(unit) = self.units.get_mut(id) else { return };
        if self.now.wall < wall {
            return self.set_expiry(id);
        }
        let is_used = !unit.channels.is_empty() || !unit.readers.is_empty();
        if unit.stage != Stage::Live || is_used {
            let at = self.after(FOLLOWED);
            return self.timers.set(Timer::Release(id.clone()), at);
        }
        unit.release.get_or_insert_default().tries = 0;
        unit.cancelling = true;
        let at = self.after(LOOK_AGAIN);
        self.timers.set(Timer::Release(id.clone()), at);
        self.log(Severity::Info, format!("unit {id}: released, it has expired"));
        self.finish_remote(id);
        self.advance(id);
    }

    /// The limits in force, for `status`.
    pub fn limits_view(&self) -> Value {
        let limits = &self.limits;
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        json!({
            "Expire": seconds(limits.expire),
            "ExpireRemote": seconds(limits.expire_remote),
            "MaxQueued": limits.max_queued,
            "MaxRunning": limits.max_running,
            "MaxStdin": limits.max_stdin,
            "MaxStdout": limits.max_stdout,
            "MaxUnits": self.unit_limit(),
            "StdinTimeout": seconds(limits.stdin_timeout),
            "TimeLimit": seconds(limits.time_limit),
        })
    }

    /// What there is of units, for `status`.
    pub fn units_view(&self) -> Value {
        let (mut pending, mut running, mut finished, mut stdout) = (0, 0, 0, 0_u64);
        let mut oldest: Option<&str> = None;
        for unit in self.units.values() {
            match unit.record.state {
                State::Pending => pending += 1,
                State::Running => running += 1,
                _ => finished += 1,
            }
            stdout = stdout.saturating_add(unit.output.max(unit.record.stdout_size));
            let created = unit.record.extra.times().map_or("", |times| &times.created);
            if !created.is_empty() && oldest.is_none_or(|oldest| created < oldest) {
                oldest = Some(created);
            }
        }
        json!({
            "Finished": finished,
            "Oldest": oldest,
            "Pending": pending,
            "Queued": self.waiting_count(),
            "Running": running,
            "StdoutBytes": stdout,
        })
    }
}
