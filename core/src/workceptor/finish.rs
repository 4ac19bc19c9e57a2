//! Cancel and release (`work.md` §13).

use alloc::format;
use alloc::string::{String, ToString as _};

use super::api::{ClientKey, Severity, WorkReply};
use super::id::UnitId;
use super::task::{UnitError, UnitTask, UnitTaskResult};
use super::timer::Timer;
use super::tombstone::Tombstone;
use super::unit::{Asker, Removal, Stage, Verb, Waiter};
use super::{Purpose, Workceptor, failure};
use crate::time::Duration;

/// Attempts to remove a directory, a second apart (`work.md` §13).
const REMOVE_TRIES: u32 = 3;

/// Done, or (`true`) remembered for when the remote node can be reached; or why not.
pub(super) type Outcome = Result<bool, String>;

impl Workceptor {
    /// Somebody wants a unit to end or to go. Answered once that has happened.
    pub(super) fn finish(&mut self, id: &UnitId, asker: Asker, verb: Verb, force: bool) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let is_over = unit.is_complete() || unit.is_foreign();
        unit.waiters.push(Waiter { asker, verb });
        match verb {
            Verb::Cancel if is_over => return self.answer_all(id, Verb::Cancel, &Ok(false)),
            Verb::Cancel => unit.cancelling = true,
            Verb::Release => {
                let removal = unit.release.get_or_insert_default();
                removal.force |= force;
                removal.tries = 0;
                unit.cancelling = true;
            }
        }
        self.finish_remote(id);
        self.advance(id);
    }

    /// Removes the directory once nothing is left that needs it.
    pub(super) fn remove_if_due(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.stage != Stage::Live || unit.release.is_none() {
            return;
        }
        let is_due = match &unit.remote {
            Some(remote) => remote.is_gone(unit),
            None => unit.is_complete() || unit.is_foreign(),
        };
        if is_due && !self.timers.is_set(&Timer::RetryRemove(id.clone())) {
            unit.stage = Stage::Removing;
            let Some(unit) = self.units.get(id) else { return };
            let tombstone = Some(self.tombstone(id, unit));
            self.task(
                id,
                Purpose::Remove {
                    tombstone: tombstone.clone(),
                },
                UnitTask::Remove { tombstone },
            );
        }
    }

    pub(super) fn removed(&mut self, id: &UnitId, tombstone: Option<Tombstone>, result: UnitTaskResult) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let gone = matches!(
            result,
            UnitTaskResult::Done | UnitTaskResult::Failed(UnitError::Missing)
        );
        let removal = unit.release.unwrap_or_default();
        if gone || removal.force {
            if !gone {
                let error = failure(result);
                self.log(
                    Severity::Warning,
                    format!("unit {id}: forgotten, but its directory stays: {error}"),
                );
            }
            if let Some(tombstone) = tombstone {
                self.bury(tombstone);
            }
            self.unit_gone(id);
            return self.owe(id);
        }
        let error = failure(result);
        unit.stage = Stage::Live;
        let tries = removal.tries + 1;
        if tries < REMOVE_TRIES {
            unit.release = Some(Removal { tries, ..removal });
            let at = self.after(Duration::from_secs(1));
            self.timers.set(Timer::RetryRemove(id.clone()), at);
        } else {
            unit.release = None;
            self.log(
                Severity::Error,
                format!("unit {id}: cannot remove its directory: {error}"),
            );
            self.answer_all(id, Verb::Release, &Err(error));
        }
    }

    /// The unit is no more.
    fn unit_gone(&mut self, id: &UnitId) {
        self.answer_all(id, Verb::Cancel, &Ok(false));
        self.answer_all(id, Verb::Release, &Ok(false));
        let Some(unit) = self.forget(id) else { return };
        for reader in unit.readers {
            self.end_results(reader);
        }
        for (session, channel) in unit.channels {
            self.refuse_channel(session, channel, self.unknown(id.as_str()));
        }
        // Somebody released the unit while its submitter still sends stdin or waits for the start.
        let text = format!("unit {id} was released");
        if let Some(spool) = unit.spool {
            self.stop_spooling(&spool, &text);
        }
        if let Some(client) = unit.starter
            && self.clients.remove(&client).is_some()
        {
            self.refuse(client, text);
        }
    }

    /// Answers everybody who asked a unit to end, or to go.
    pub(super) fn answer_all(&mut self, id: &UnitId, verb: Verb, outcome: &Outcome) {
        let Some(unit) = self.units.get_mut(id) else { return };
        let due: alloc::vec::Vec<Waiter> = unit.waiters.extract_if(.., |waiter| waiter.verb == verb).collect();
        for waiter in due {
            match waiter.asker {
                Asker::Client(client, unit) => {
                    if self.clients.remove(&client).is_none() {
                        continue;
                    }
                    let reply = match (verb, outcome) {
                        (Verb::Cancel, Ok(pending)) => WorkReply::Cancelled {
                            unit,
                            pending: *pending,
                        },
                        (Verb::Release, Ok(pending)) => WorkReply::Released {
                            unit,
                            pending: *pending,
                        },
                        (_, Err(text)) => WorkReply::Error(text.to_string()),
                    };
                    self.reply(client, reply);
                }
                Asker::Channel(session, channel) => {
                    let outcome = match outcome {
                        Ok(_) => Ok(()),
                        Err(text) => Err(text.clone()),
                    };
                    self.answer_channel(session, channel, outcome);
                }
            }
        }
    }

    pub(super) fn forget_asker(&mut self, id: &UnitId, client: ClientKey) {
        if let Some(unit) = self.units.get_mut(id) {
            unit.waiters
                .retain(|waiter| !matches!(&waiter.asker, Asker::Client(asker, _) if *asker == client));
        }
    }
}
