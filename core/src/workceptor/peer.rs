//! Sessions with executors: one per node, opened when a unit needs it, kept while any does.

mod owed;
mod send;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::api::{PeerKey, Severity, WorkOutput};
use super::classic::{Call, Polling};
use super::id::UnitId;
use super::ready::Ready;
use super::remote::Line;
use super::target::Target;
use super::timer::{Timer, back_off};
use super::{MAX_CHANNELS, SESSION_WINDOW, Workceptor};
use crate::time::{Duration, Now, Wall};
use crate::wire::work::{Decoder, Message, Received};

/// Turns a control session into a work session. The clock is for the other side's error texts.
fn upgrade(wall: Wall) -> Bytes {
    let millis = wall.as_nanos() / 1_000_000;
    format!("{{\"command\":\"work\",\"subcommand\":\"upgrade\",\"version\":1,\"time\":{millis}}}\n").into()
}

/// Longest greeting or reply line before the session is a work session, in bytes.
pub(super) const MAX_LINE: usize = 4096;

/// Longest status line of an executor that is polled, in bytes: it shows the parameters of the unit.
const MAX_STATUS: usize = 1 << 20;

/// How long the opening of a session may take, greeting and upgrade included.
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(15);

/// First wait after a session was lost; it usually comes back at once.
const QUICK_RETRY: Duration = Duration::from_millis(250);

/// How long a session is kept without units.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// Data leaves this much of the window to everything else.
const CONTROL_RESERVE: usize = SESSION_WINDOW / 4;

/// One executor.
#[derive(Debug, Default)]
pub(super) struct Peer {
    key: Option<PeerKey>,
    phase: Phase,
    /// Lines before the work session.
    buffer: BytesMut,
    decoder: Decoder,
    /// Units that need it.
    wanting: BTreeSet<UnitId>,
    /// Released units of which the executor has not heard.
    owed: BTreeSet<UnitId>,
    /// Channels on which it is being told of some of them.
    telling: BTreeMap<u32, UnitId>,
    /// Those without a channel, because all are taken.
    parked: BTreeSet<UnitId>,
    lines: BTreeMap<u32, UnitId>,
    next_channel: u32,
    /// Channels that may have something to send, each once.
    ready: Ready,
    /// Channels whose data waits for room in the window.
    starved: Ready,
    window: usize,
    /// Attempts that failed in a row.
    failures: u32,
    /// The executor has said something of use on this session.
    is_useful: bool,
    /// It is known not to grant work sessions.
    classic: bool,
    /// What is asked of it instead.
    pub(super) polling: Polling,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Phase {
    #[default]
    Offline,
    Opening,
    Greeting,
    Upgrading,
    /// A work session.
    Up,
    /// A control session on which units are asked after.
    Polling,
}

impl Peer {
    fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(super) fn is_polling(&self) -> bool {
        self.phase == Phase::Polling
    }

    /// Whether the executor hears of units at once.
    pub(super) fn is_connected(&self) -> bool {
        self.is_up() || self.is_polling()
    }

    pub(super) fn key(&self) -> Option<PeerKey> {
        self.key
    }

    pub(super) fn wanting(&self) -> impl Iterator<Item = &UnitId> {
        self.wanting.iter()
    }

    pub(super) fn wants(&self, id: &UnitId) -> bool {
        self.wanting.contains(id)
    }

    fn is_needed(&self) -> bool {
        !self.wanting.is_empty() || !self.owed.is_empty()
    }

    fn fresh_channel(&mut self) -> u32 {
        loop {
            self.next_channel = self.next_channel.wrapping_add(1);
            let channel = self.next_channel;
            // Channel 0 is the session itself.
            if channel != 0 && !self.lines.contains_key(&channel) && !self.telling.contains_key(&channel) {
                return channel;
            }
        }
    }

    fn next_ready(&mut self) -> Option<u32> {
        let has_room = self.window > CONTROL_RESERVE;
        self.ready
            .pop()
            .or_else(|| if has_room { self.starved.pop() } else { None })
    }
}

impl Workceptor {
    /// The stream to a peer's `control` service is open. `classic` says that the node is known not to grant work
    /// sessions; a node of which nothing is known is asked.
    pub fn peer_opened(&mut self, now: Now, key: PeerKey, classic: bool) {
        self.now = now;
        if self.calls.contains_key(&key) {
            return self.call_opened(key);
        }
        if let Some(peer) = self.peer(key)
            && peer.phase == Phase::Opening
        {
            peer.phase = Phase::Greeting;
            peer.classic = classic;
            if classic {
                return;
            }
            // Without waiting for the greeting, which costs a round trip and is checked when it comes.
            self.out.push_back(WorkOutput::PeerSend(key, upgrade(now.wall)));
        }
    }

    /// Bytes from a peer.
    pub fn peer_data(&mut self, now: Now, key: PeerKey, mut data: Bytes) {
        self.now = now;
        let Some(node) = self.peer_nodes.get(&key).cloned() else {
            return self.call_data(key, data);
        };
        while let Some(peer) = self.peer(key)
            && matches!(peer.phase, Phase::Greeting | Phase::Upgrading | Phase::Polling)
        {
            let Some(end) = data.iter().position(|&b| b == b'\n') else {
                peer.buffer.extend_from_slice(&data);
                let limit = if peer.is_polling() { MAX_STATUS } else { MAX_LINE };
                if peer.buffer.len() > limit {
                    self.drop_peer(key, "its answer is too long");
                }
                return;
            };
            peer.buffer.extend_from_slice(&data.split_to(end + 1));
            let line = core::mem::take(&mut peer.buffer);
            if let Err(reason) = self.peer_line(key, &node, &line) {
                return self.drop_peer(key, &reason);
            }
        }
        let Some(peer) = self.peer(key) else { return };
        peer.decoder.push(data);
        while let Some(peer) = self.peer(key) {
            match peer.decoder.next() {
                Ok(None) => break,
                Ok(Some(Received { channel, message })) => self.handle_executor(key, &node, channel, message),
                Err(error) => return self.drop_peer(key, &format!("broken message: {error}")),
            }
        }
    }

    /// A peer's stream took `n` bytes.
    pub fn peer_drained(&mut self, now: Now, key: PeerKey, n: usize) {
        self.now = now;
        if let Some(peer) = self.peer(key) {
            peer.window = (peer.window + n).min(SESSION_WINDOW);
            self.pump_peer(key);
        } else {
            self.call_drained(key, n);
        }
    }

    /// A peer's stream could not be opened or is gone.
    pub fn peer_closed(&mut self, now: Now, key: PeerKey, reason: &str) {
        self.now = now;
        if self.calls.contains_key(&key) {
            self.call_lost(key, reason);
        } else {
            self.peer_lost(key, reason);
        }
    }

    /// Nodes that units wait for and that no session leads to: [`Workceptor::route_changed`] is of use for these.
    pub fn awaited_nodes(&self) -> impl Iterator<Item = &str> {
        let waiting = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_connected() && peer.is_needed());
        waiting.map(|(target, _)| target.node.as_str())
    }

    /// A node has become reachable.
    pub fn route_changed(&mut self, now: Now, node: &str) {
        self.now = now;
        let there: Vec<Target> = self
            .peers
            .keys()
            .filter(|target| target.node == node)
            .cloned()
            .collect();
        there.iter().for_each(|target| self.hurry(target));
    }

    /// The node to which a stream that was asked for leads.
    pub fn peer_node(&self, key: PeerKey) -> Option<&str> {
        let of_call = || self.calls.get(&key).map(Call::node);
        self.peer_nodes
            .get(&key)
            .map(|target| target.node.as_str())
            .or_else(of_call)
    }

    fn peer(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let node = self.peer_nodes.get(&key)?;
        self.peers.get_mut(node).filter(|peer| peer.key == Some(key))
    }

    /// Greeting and reply to the upgrade.
    fn peer_line(&mut self, key: PeerKey, node: &Target, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let Some(peer) = self.peer(key) else { return Ok(()) };
        if peer.is_polling() {
            return self.polled(key, node, text.trim_end());
        }
        if peer.phase == Phase::Greeting {
            check_greeting(&node.node, &text)?;
            if peer.classic {
                peer.phase = Phase::Polling;
                self.begin_polling(key, node);
            } else {
                peer.phase = Phase::Upgrading;
            }
            return Ok(());
        }
        let reply: Value = serde_json::from_str(text.trim_end()).unwrap_or_default();
        if reply.get("upgraded").and_then(Value::as_u64) != Some(1) {
            if !text.starts_with("ERROR") {
                return Err(format!(
                    "while expecting a work session, got message: {}",
                    text.trim_end()
                ));
            }
            // The command was refused; the session goes on as it was.
            peer.classic = true;
            peer.phase = Phase::Polling;
            self.begin_polling(key, node);
            return Ok(());
        }
        peer.phase = Phase::Up;
        self.timers.clear(&Timer::PeerSlow(key));
        let wanting: Vec<UnitId> = self
            .peers
            .get(node)
            .map(|peer| peer.wanting.iter().cloned().collect())
            .unwrap_or_default();
        for id in wanting {
            self.open_line(node, &id);
        }
        self.tell_owed(node);
        self.pump_peer(key);
        Ok(())
    }

    /// A unit needs the executor.
    pub(super) fn want_peer(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get(id).and_then(|unit| unit.remote.as_ref()) else {
            return;
        };
        let node = remote.node.clone();
        let peer = self.peers.entry(node.clone()).or_default();
        let is_new = peer.wanting.insert(id.clone());
        self.timers.clear(&Timer::PeerIdle(node.clone()));
        match (peer.phase, peer.key) {
            (Phase::Up, Some(key)) => {
                self.open_line(&node, id);
                self.wake_line(&node, id);
                self.pump_peer(key);
            }
            (Phase::Polling, _) => self.drive_classic(id),
            (Phase::Offline, _) if is_new => self.connect(&node),
            (Phase::Offline, _) if peer.failures > 0 => self.settle(id),
            _ => {}
        }
    }

    /// A unit needs the executor no more.
    pub(super) fn unwant_peer(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let node = remote.node.clone();
        let line = remote.line.take();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.wanting.remove(id) {
            return;
        }
        self.drop_calls(id);
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.parked.remove(id);
        let is_idle = !peer.is_needed();
        if let Some(line) = line {
            self.close_line(&node, &line);
        }
        if is_idle {
            let at = self.after(IDLE_WAIT);
            self.timers.set(Timer::PeerIdle(node), at);
        }
    }

    fn close_line(&mut self, node: &Target, line: &Line) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.lines.remove(&line.channel);
        if line.is_used {
            self.send_peer(node, line.channel, &Message::Detach);
        }
        if let Some(next) = self.peers.get_mut(node).and_then(|peer| peer.parked.pop_first()) {
            self.open_line(node, &next);
        }
    }

    /// Gives a unit a channel.
    fn open_line(&mut self, node: &Target, id: &UnitId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        if !peer.is_up() || remote.line.is_some() {
            return;
        }
        if peer.lines.len() >= MAX_CHANNELS {
            peer.parked.insert(id.clone());
            return;
        }
        let channel = peer.fresh_channel();
        peer.lines.insert(channel, id.clone());
        peer.ready.push(channel);
        remote.line = Some(Line {
            channel,
            ..Line::default()
        });
    }

    /// Takes a new channel for a unit, to begin anew.
    pub(super) fn reopen_line(&mut self, id: &UnitId) {
        let Some(remote) = self.units.get_mut(id).and_then(|unit| unit.remote.as_mut()) else {
            return;
        };
        let node = remote.node.clone();
        if let Some(line) = remote.line.take() {
            self.close_line(&node, &line);
        }
        self.open_line(&node, id);
    }

    fn wake_line(&mut self, node: &Target, id: &UnitId) {
        let Some(remote) = self.units.get(id).and_then(|unit| unit.remote.as_ref()) else {
            return;
        };
        if let Some(line) = &remote.line
            && let Some(peer) = self.peers.get_mut(node)
        {
            peer.ready.push(line.channel);
        }
    }

    fn connect(&mut self, node: &Target) {
        let key = PeerKey(self.fresh_key());
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.key = Some(key);
        peer.phase = Phase::Opening;
        peer.is_useful = false;
        peer.buffer.clear();
        peer.decoder = Decoder::default();
        peer.window = SESSION_WINDOW;
        self.peer_nodes.insert(key, node.clone());
        self.timers.clear(&Timer::PeerRetry(node.clone()));
        let at = self.after(OPEN_WAIT);
        self.timers.set(Timer::PeerSlow(key), at);
        self.open_stream(key, node);
    }

    pub(super) fn open_stream(&mut self, key: PeerKey, target: &Target) {
        self.out.push_back(WorkOutput::OpenPeer {
            key,
            node: target.node.clone(),
            tls_client: target.tls_client.clone(),
        });
    }

    /// Connects at once, if any unit needs it, instead of waiting.
    pub(super) fn hurry(&mut self, node: &Target) {
        let is_wanted = |peer: &Peer| peer.phase == Phase::Offline && peer.is_needed();
        if self.peers.get(node).is_some_and(is_wanted) {
            self.connect(node);
        }
    }

    pub(super) fn peer_slow(&mut self, key: PeerKey) {
        self.break_call(key, "no answer in time");
        if let Some(node) = self.peer_nodes.get(&key).cloned() {
            self.abort_fetches(&node);
        }
        self.drop_peer(key, "no answer in time");
    }

    /// Nobody has needed the peer for a while.
    pub(super) fn peer_idle(&mut self, node: &Target) {
        if self.peers.get(node).is_some_and(|peer| !peer.is_needed())
            && let Some(peer) = self.peers.remove(node)
        {
            self.timers.clear(&Timer::PeerRetry(node.clone()));
            if let Some(key) = peer.key {
                self.timers.clear(&Timer::PeerSlow(key));
                self.peer_nodes.remove(&key);
                self.out.push_back(WorkOutput::ClosePeer(key));
            }
        }
    }

    fn drop_peer(&mut self, key: PeerKey, reason: &str) {
        if self.peer(key).is_some() {
            self.out.push_back(WorkOutput::ClosePeer(key));
            self.peer_lost(key, reason);
        }
    }

    fn peer_lost(&mut self, key: PeerKey, reason: &str) {
        let Some(node) = self.peer_nodes.remove(&key) else {
            return;
        };
        self.timers.clear(&Timer::PeerSlow(key));
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.key == Some(key)) else {
            return;
        };
        let was_up = peer.is_connected();
        peer.polling.lose_session();
        peer.key = None;
        peer.phase = Phase::Offline;
        peer.lines.clear();
        peer.telling.clear();
        peer.parked.clear();
        peer.ready.clear();
        peer.starved.clear();
        // A session that was of no use counts as an attempt.
        let wait = if peer.is_useful {
            QUICK_RETRY
        } else {
            peer.failures += 1;
            back_off(peer.failures - 1)
        };
        let is_first = peer.failures <= 1;
        let wanting: Vec<UnitId> = peer.wanting.iter().cloned().collect();
        self.expire_owed(&node);
        if !self.peers.get(&node).is_some_and(Peer::is_needed) {
            return;
        }
        let severity = if is_first { Severity::Warning } else { Severity::Debug };
        self.log(severity, format!("session for work with node {node}: {reason}"));
        let at = self.after(wait);
        self.timers.set(Timer::PeerRetry(node), at);
        for id in wanting {
            self.tls_refused(&id, reason);
            if let Some(remote) = self.units.get_mut(&id).and_then(|unit| unit.remote.as_mut()) {
                remote.line = None;
                // What was received and not declared complete is asked for again from where it ends.
                remote.end = None;
            }
            self.timers.clear(&Timer::Poll(id.clone()));
            if !was_up {
                self.settle(&id);
                self.advance(&id);
            }
        }
    }

    pub(super) fn answer_ping(&mut self, node: &Target, token: u64) {
        self.send_peer(node, 0, &Message::Pong { token });
    }

    /// The session is of use.
    pub(super) fn peer_is_well(&mut self, node: &Target) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.failures = 0;
            peer.is_useful = true;
        }
    }

    pub(super) fn unit_of(&self, node: &Target, channel: u32) -> Option<UnitId> {
        self.peers.get(node)?.lines.get(&channel).cloned()
    }

    pub(super) fn break_peer(&mut self, node: &Target, reason: &str) {
        if let Some(key) = self.peers.get(node).and_then(|peer| peer.key) {
            self.drop_peer(key, reason);
        }
    }
}

/// A greeting that does not come from the node that was dialled is somebody else's (`work.md` §11.2).
pub(super) fn check_greeting(node: &str, line: &str) -> Result<(), String> {
    if line.contains(node) {
        return Ok(());
    }
    Err(format!(
        "while expecting node ID {node}, got message: {}",
        line.trim_end()
    ))
}
