//! `reload`: what changed in the configuration, applied while the rest of the node runs on (`control.md` §5.4, `config.md` §8).
//!
//! ```text
//!  asked ─► Reading ─► Stopping ─► Binding ─► applied, answered
//!             │            ▲          │ a listener cannot be bound
//!             │            │          ▼
//!             └─ refused   │       Reverting ─► as before, answered
//! ```
//!
//! All is checked before anything changes, and listeners are bound before anything is closed; only those whose address a new
//! one takes over must go first. If that fails, they come back.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::commands::Asker;
use super::io::{Event, Level, Output, Reply, Task, TaskResult};
use super::netceptor::{BackendChanges, Listening};
use super::startup::Phase;
use super::{Node, TaskOwner};
use crate::config::Reloadable;
use crate::control::{self, ReloadCode, ReloadError};
use crate::error::CallerError;
use crate::id::BackendId;
use crate::time::Now;
use crate::workceptor::check_types;

/// A reload under way.
#[derive(Debug)]
pub(super) struct Reload {
    /// Who gets the answer.
    askers: Vec<Asker>,
    /// Who asked later: they may mean a newer file.
    later: Vec<Asker>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading,
    /// So many listeners have to give up their addresses first.
    Stopping(Box<Plan>, usize),
    /// So many answers of listeners are missing.
    Binding(Box<Plan>, usize),
    /// It is done but for so many listeners that are being closed.
    Closing(usize),
    /// It failed; so many answers are missing until all is as before.
    Reverting(Box<Plan>, usize, String),
}

#[derive(Debug)]
struct Plan {
    new: Reloadable,
    changes: BackendChanges,
    /// New listeners that are bound.
    bound: Vec<BackendId>,
    /// What the first listener that could not be bound said.
    failure: Option<String>,
}

fn failed(text: impl Into<String>) -> ReloadError {
    ReloadError {
        text: text.into(),
        code: ReloadCode::Failed,
    }
}

impl Node {
    /// Somebody wants the configuration to be read again.
    ///
    /// # Errors
    /// Not now; then there is no further answer.
    pub(super) fn start_reload(&mut self, asker: Asker) -> Result<(), ReloadError> {
        if self.phase != Phase::Running {
            return Err(failed("the node is starting"));
        }
        match &mut self.reload {
            Some(reload) => reload.later.push(asker),
            None => self.read_configuration(alloc::vec![asker]),
        }
        Ok(())
    }

    fn read_configuration(&mut self, askers: Vec<Asker>) {
        self.reload = Some(Reload {
            askers,
            later: Vec::new(),
            stage: Stage::Reading,
        });
        self.task(TaskOwner::Reload, Task::Reload);
    }

    /// The configuration was read, or cannot be.
    pub(super) fn configuration_read(&mut self, now: Now, result: TaskResult) -> Result<(), CallerError> {
        let result = match result {
            TaskResult::Reloaded(result) => result.map(|new| *new),
            TaskResult::Failed(text) => Err(failed(text)),
            other => {
                return Err(CallerError::Misuse(alloc::format!(
                    "a reload was answered with {other:?}"
                )));
            }
        };
        let planned = result.and_then(|new| {
            check_types(&new.work_types).map_err(failed)?;
            self.check_tls_names(&new).map_err(failed)?;
            let changes = self.net.plan_reload(&new.backends).map_err(failed)?;
            Ok((new, changes))
        });
        let (new, changes) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                self.end_reload(Err(error));
                return Ok(());
            }
        };
        let in_the_way: Vec<_> = changes.in_the_way().collect();
        let plan = Box::new(Plan {
            new,
            changes,
            bound: Vec::new(),
            failure: None,
        });
        for &backend in &in_the_way {
            self.task(TaskOwner::Unlisten(backend), Task::Unlisten { backend });
        }
        self.reload_stage(now, Stage::Stopping(plan, in_the_way.len()));
        Ok(())
    }

    /// A listener gave up its address.
    pub(super) fn unlistened(&mut self, now: Now) {
        let Some(reload) = &mut self.reload else { return };
        let stage = match core::mem::replace(&mut reload.stage, Stage::Reading) {
            Stage::Stopping(plan, missing) if missing > 0 => Stage::Stopping(plan, missing - 1),
            Stage::Closing(missing) => Stage::Closing(missing.saturating_sub(1)),
            Stage::Reverting(plan, missing, error) if missing > 0 => Stage::Reverting(plan, missing - 1, error),
            stage => stage,
        };
        self.reload_stage(now, stage);
    }

    /// A new listener is bound, or cannot be.
    pub(super) fn relistened(&mut self, now: Now, backend: BackendId, result: Result<String, String>) {
        let Some(reload) = &mut self.reload else { return };
        let stage = match core::mem::replace(&mut reload.stage, Stage::Reading) {
            Stage::Binding(mut plan, missing) => {
                match &result {
                    Ok(_) => plan.bound.push(backend),
                    Err(error) => {
                        plan.failure.get_or_insert_with(|| error.clone());
                    }
                }
                Stage::Binding(plan, missing.saturating_sub(1))
            }
            Stage::Reverting(plan, missing, error) => Stage::Reverting(plan, missing.saturating_sub(1), error),
            stage => stage,
        };
        match result {
            Ok(address) => self.log(Level::Info, alloc::format!("listening on {address}")),
            Err(error) => self.error(alloc::format!("a listener could not be opened: {error}")),
        }
        self.reload_stage(now, stage);
    }

    /// Goes on as far as no answer is missing.
    fn reload_stage(&mut self, now: Now, stage: Stage) {
        let stage = match stage {
            Stage::Stopping(plan, 0) => {
                // Links may come from new listeners before all are bound.
                let listeners = self.net.begin_reload(&plan.changes);
                let missing = self.listen_again(listeners);
                return self.reload_stage(now, Stage::Binding(plan, missing));
            }
            Stage::Binding(mut plan, 0) => match plan.failure.take() {
                None => return self.apply_reload(now, *plan),
                Some(error) => {
                    let listeners = self.net.revert_reload(now, &plan.changes);
                    let missing = plan.bound.len() + self.listen_again(listeners);
                    for &backend in &plan.bound {
                        self.task(TaskOwner::Unlisten(backend), Task::Unlisten { backend });
                    }
                    return self.reload_stage(now, Stage::Reverting(plan, missing, error));
                }
            },
            Stage::Closing(0) => return self.end_reload(Ok(())),
            Stage::Reverting(_, 0, error) => return self.end_reload(Err(failed(error))),
            stage => stage,
        };
        if let Some(reload) = &mut self.reload {
            reload.stage = stage;
        }
    }

    fn listen_again(&mut self, listeners: Vec<Listening>) -> usize {
        let count = listeners.len();
        for listening in listeners {
            let (handshakes, links) = (self.config.limits.handshakes, self.config.limits.links);
            let owner = TaskOwner::Relisten(listening.backend);
            self.task(owner, listening.task(handshakes, links));
        }
        count
    }

    /// Everything that could fail has succeeded.
    fn apply_reload(&mut self, now: Now, plan: Plan) {
        let to_close = self.net.finish_reload(now, plan.changes);
        for &backend in &to_close {
            self.task(TaskOwner::Unlisten(backend), Task::Unlisten { backend });
        }
        self.net.set_firewall(plan.new.firewall);
        self.work.set_tls_clients(plan.new.tls.clients.clone());
        self.config.tls = plan.new.tls;
        self.work.set_keys(plan.new.work_keys);
        self.work.set_limits(now, plan.new.work_limits);
        if self.work.set_types(&plan.new.work_types) {
            self.advertise_control_services(now);
        }
        self.reload_stage(now, Stage::Closing(to_close.len()));
    }

    fn end_reload(&mut self, result: Result<(), ReloadError>) {
        let Some(reload) = self.reload.take() else { return };
        match &result {
            Ok(()) => self.log(Level::Info, "configuration reloaded".into()),
            Err(error) => self.error(alloc::format!("configuration not reloaded: {}", error.text)),
        }
        self.outputs.push_back(Output::Event(Event::Reloaded(result.clone())));
        for asker in reload.askers {
            self.answer_reload(asker, result.clone());
        }
        if !reload.later.is_empty() {
            self.read_configuration(reload.later);
        }
    }

    fn answer_reload(&mut self, asker: Asker, result: Result<(), ReloadError>) {
        match asker {
            Asker::Session(key) => self.reply_to_session(key, control::Reply::Reload(result)),
            Asker::Command(id) => {
                let reply = result.map_or_else(Reply::NotReloaded, |()| Reply::Done);
                self.outputs.push_back(Output::Reply(id, reply));
            }
        }
    }
}

#[cfg(test)]
mod tests;
