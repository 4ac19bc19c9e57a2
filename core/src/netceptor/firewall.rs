//! The firewall in the path of data messages: rules are asked once per flow, not per frame (`security.md` §13.3).

use alloc::boxed::Box;
use core::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::{DropReason, Router, RouterOutput, Severity};
use crate::firewall::{Action, Decision, Ends, Rules};
use crate::id::ServiceName;
use crate::time::{Duration, Now};
use crate::wire::classic::Unreachable;
use crate::wire::data::{FLOW, Header};

/// Flows whose verdict is remembered; a power of two. A flow takes 33 bytes.
const SLOTS: usize = 8192;

/// The bytes of a header that rules look at.
type Flow = [u8; FLOW.end - FLOW.start];

/// Between two log lines about refused flows.
const LOG_SPACING: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Slot {
    flow: Flow,
    verdict: Option<Action>,
}

/// Rules, and what they said.
///
/// What they say of a flow never changes: names are only added to the router, and keep their hashes.
#[derive(Debug)]
pub(super) struct Firewall {
    rules: Rules,
    /// Each flow has one place, which the last comer takes. Empty without rules.
    slots: Box<[Slot]>,
    /// Seeded, so that nobody can choose flows that share a place.
    hasher: FixedState,
}

impl Firewall {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rules: Rules::default(),
            slots: Box::default(),
            hasher: FixedState::with_seed(seed),
        }
    }

    fn set(&mut self, rules: Rules) {
        let empty = Slot {
            flow: [0; FLOW.end - FLOW.start],
            verdict: None,
        };
        let count = if rules.is_empty() { 0 } else { SLOTS };
        self.slots = alloc::vec![empty; count].into_boxed_slice();
        self.rules = rules;
    }

    #[inline]
    fn is_off(&self) -> bool {
        self.slots.is_empty()
    }

    fn slot(&self, flow: &Flow) -> usize {
        self.hasher.hash_one(flow) as usize & (SLOTS - 1)
    }
}

impl Router {
    /// Replaces the firewall rules at once.
    pub fn set_firewall(&mut self, rules: Rules) {
        self.firewall.set(rules);
    }

    /// The firewall rules in force.
    pub fn firewall(&self) -> &Rules {
        &self.firewall.rules
    }

    /// Why a data frame goes no further; `None` if it does. Without rules that is one comparison.
    #[inline]
    pub(super) fn refused(&mut self, now: Now, frame: &[u8]) -> Option<DropReason> {
        if self.firewall.is_off() {
            return None;
        }
        self.filter(now, frame)
    }

    fn filter(&mut self, now: Now, frame: &[u8]) -> Option<DropReason> {
        let flow: &Flow = frame.get(FLOW)?.try_into().ok()?;
        let slot = self.firewall.slot(flow);
        let known = &self.firewall.slots[slot];
        let verdict = known.verdict.filter(|_| known.flow == *flow);
        let action = match verdict {
            Some(action) => action,
            None => {
                let action = match self.judge_flow(now, frame) {
                    Ok(action) => action,
                    Err(reason) => return reason,
                };
                let verdict = Some(action);
                self.firewall.slots[slot] = Slot { flow: *flow, verdict };
                action
            }
        };
        match action {
            Action::Accept => None,
            Action::Drop => Some(DropReason::Firewall),
            Action::Reject => {
                self.reject(now, frame);
                Some(DropReason::Firewall)
            }
        }
    }

    /// What the rules say of a flow. They speak of names: without one for the source the message is lost as in a classic node,
    /// and one without a known destination goes nowhere anyway. Neither is remembered, since names may become known.
    fn judge_flow(&mut self, now: Now, frame: &[u8]) -> Result<Action, Option<DropReason>> {
        let header = Header::parse(frame).map_err(|_| Some(DropReason::Malformed))?;
        let from = self
            .name_of(header.from)
            .cloned()
            .ok_or(Some(DropReason::UnknownSource))?;
        let to = self.name_of(header.to).cloned().ok_or(None)?;
        let ends = Ends {
            from_node: from.as_str(),
            to_node: to.as_str(),
            from_service: header.from_service.as_bytes(),
            to_service: header.to_service.as_bytes(),
        };
        let Decision { action, rule } = self.firewall.rules.decide(&ends);
        if let Some(rule) = rule
            && action != Action::Accept
            && self.firewall_gate.pass(now.mono, LOG_SPACING)
        {
            let text = alloc::format!(
                "firewall rule {rule} says {}: message from {from:?} service {:?} to {to:?} service {:?}",
                action.as_str(),
                header.from_service,
                header.to_service
            );
            self.outputs.push_back(RouterOutput::Log(Severity::Info, text));
        }
        Ok(action)
    }

    #[cold]
    fn reject(&mut self, now: Now, frame: &[u8]) {
        if let Ok(header) = Header::parse(frame)
            && header.from_service != ServiceName::UNREACH
        {
            self.send_unreachable(now, &header, Unreachable::BLOCKED_BY_FIREWALL);
        }
    }
}
