//! Releases that an executor has not heard of. Their units are gone here: only tombstones tell of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::api::{Severity, WorkOutput};
use super::super::id::UnitId;
use super::super::signing::Signer;
use super::super::target::Target;
use super::super::task::UnitTask;
use super::super::timer::Timer;
use super::super::tombstone::Owed;
use super::super::{Purpose, TaskKey, Workceptor, unknown_unit};
use super::{IDLE_WAIT, Phase};
use crate::time::Duration;
use crate::wire::work::Message;

/// Releases of one executor that are under way on its session at a time.
const MAX_TELLING: usize = 64;

/// How long an executor is waited for.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

impl Workceptor {
    /// What a tombstone says is owed.
    pub(in super::super) fn owed(&self, id: &UnitId) -> Option<&Owed> {
        self.released.get(id)?.owed.as_ref()
    }

    /// A unit went without its executor being told.
    pub(in super::super) fn owe(&mut self, id: &UnitId) {
        let Some(node) = self.owed(id).map(Target::of_owed) else {
            return;
        };
        let peer = self.peers.entry(node.clone()).or_default();
        peer.owed.insert(id.clone());
        let phase = peer.phase;
        self.timers.clear(&Timer::PeerIdle(node.clone()));
        match phase {
            Phase::Up => self.tell_owed(&node),
            Phase::Polling => self.call_owed(id),
            Phase::Offline if !self.timers.is_set(&Timer::PeerRetry(node.clone())) => self.connect(&node),
            Phase::Offline | Phase::Opening | Phase::Greeting | Phase::Upgrading => {}
        }
    }

    /// Sends what is owed on a session.
    pub(super) fn tell_owed(&mut self, node: &Target) {
        while let Some(peer) = self.peers.get_mut(node)
            && peer.is_up()
            && peer.telling.len() < MAX_TELLING
        {
            let is_new = |id: &&UnitId| !peer.telling.values().any(|told| told == *id);
            let Some(id) = peer.owed.iter().find(is_new).cloned() else {
                return;
            };
            let channel = peer.fresh_channel();
            peer.telling.insert(channel, id.clone());
            if self.owed(&id).is_some_and(|owed| owed.sign_work) {
                self.sign(Signer::Owed(id, channel), &node.node);
            } else {
                self.send_owed(node, channel, &id, String::new());
            }
        }
    }

    fn send_owed(&mut self, node: &Target, channel: u32, id: &UnitId, signature: String) {
        let Some(unit) = self.owed(id).map(|owed| owed.unit.clone()) else {
            return;
        };
        let force = true;
        self.send_peer(node, channel, &Message::Release { unit, force, signature });
    }

    /// The signature of a release that is owed was made, or could not be.
    pub(in super::super) fn owed_signed(&mut self, id: &UnitId, channel: u32, result: Result<String, String>) {
        let Some(node) = self.owed(id).map(Target::of_owed) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.telling.get(&channel) != Some(id) {
            return;
        }
        match result {
            Ok(token) => self.send_owed(&node, channel, id, token),
            // Its channel stays taken: it is tried again on the next session.
            Err(text) => self.log(
                Severity::Warning,
                format!("unit {id}: node {node} cannot be told of its release: {text}"),
            ),
        }
    }

    /// An answer on a channel that no unit has.
    pub(in super::super) fn owed_answered(&mut self, node: &Target, channel: u32, message: &Message) {
        let refusal = match message {
            Message::Done => None,
            Message::Failed { text } => Some(text.as_str()),
            _ => return,
        };
        let Some(id) = self.peers.get_mut(node).and_then(|peer| peer.telling.remove(&channel)) else {
            return;
        };
        self.send_peer(node, channel, &Message::Detach);
        self.paid(&id, refusal);
        self.tell_owed(node);
    }

    /// An executor has been told and has answered. It is not told again, whatever it said.
    pub(in super::super) fn paid(&mut self, id: &UnitId, refusal: Option<&str>) {
        let Some(owed) = self.settle_debt(id) else { return };
        if let Some(text) = refusal.filter(|text| !text.contains(&unknown_unit(""))) {
            let text = format!("unit {id}: released by force, node {} says: {text}", owed.node);
            self.log(Severity::Warning, text);
        }
    }

    /// Nothing is owed for this unit any more.
    fn settle_debt(&mut self, id: &UnitId) -> Option<Owed> {
        let tombstone = self.released.get_mut(id)?;
        let owed = tombstone.owed.take()?;
        let tombstone = tombstone.clone();
        let key = TaskKey(self.fresh_key());
        self.tasks.insert(key, (id.clone(), 0, Purpose::Bury));
        self.out
            .push_back(WorkOutput::Task(key, id.clone(), UnitTask::Bury { tombstone }));
        self.forget_debt(id, &owed);
        Some(owed)
    }

    /// Nothing is known any more of what was owed.
    pub(in super::super) fn forget_debt(&mut self, id: &UnitId, owed: &Owed) {
        let node = Target::of_owed(owed);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.owed.remove(id);
        if !peer.is_needed() {
            let at = self.after(IDLE_WAIT);
            self.timers.set(Timer::PeerIdle(node), at);
        }
    }

    /// Gives up what an executor could not be told for too long.
    pub(super) fn expire_owed(&mut self, node: &Target) {
        let Some(peer) = self.peers.get(node) else { return };
        let is_old = |id: &&UnitId| {
            let tombstone = self.released.get(id);
            tombstone.is_none_or(|tombstone| tombstone.at + KEPT < self.now.wall)
        };
        let old: Vec<UnitId> = peer.owed.iter().filter(is_old).cloned().collect();
        for id in old {
            self.settle_debt(&id);
            let days = KEPT.as_secs() / 86_400;
            self.log(
                Severity::Warning,
                format!("unit {id}: released by force, node {node} could not be told for {days} days"),
            );
        }
    }

    /// Tells an executor without work sessions, on a stream of its own.
    pub(in super::super) fn call_owed(&mut self, id: &UnitId) {
        let Some(node) = self.owed(id).map(Target::of_owed) else {
            return;
        };
        if !self.timers.is_set(&Timer::RetryCall(id.clone())) {
            self.open_owed_call(&node, id);
        }
    }

    /// The control session with an executor without work sessions is ready.
    pub(in super::super) fn call_all_owed(&mut self, node: &Target) {
        let owed: Vec<UnitId> = self
            .peers
            .get(node)
            .map(|peer| peer.owed.iter().cloned().collect())
            .unwrap_or_default();
        for id in owed {
            self.timers.clear(&Timer::RetryCall(id.clone()));
            self.call_owed(&id);
        }
    }
}
