//! The users of a world's nodes, and the reference model: what they asked for, and so what they must see.
//!
//! A model knows only what its users did and saw, and which faults hit whom. It looks into no node.

mod sessions;
mod transfers;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use receptor_core::id::{PipeId, ServiceName};
use receptor_core::node::io::{Command, Event, Reply};
use receptor_core::time::{Duration, Instant};

use crate::invariants::Violation;
use crate::plan::Action;
use crate::world::{NodeIndex, Observed, World};
use sessions::Session;
use transfers::{Server, Transfer};
pub use units::Unit;

/// The service that every node listens on for transfers.
const SERVICE: &str = "sim";

/// Within this time, besides that for which a node was stopped, every command but a traceroute is answered: a ping takes 10 s
/// at most, a dial 15 s and a handshake as long.
const ANSWER: Duration = Duration::from_secs(60);

/// A ping per hop.
const TRACE_ANSWER: Duration = Duration::from_secs(400);

/// The name of a node.
pub fn name(node: NodeIndex) -> String {
    format!("n{node}")
}

/// What a command was for.
#[derive(Clone, Debug)]
enum Asked {
    Probe { to: NodeIndex, must: bool },
    Dial(usize),
    Other,
}

#[derive(Clone, Debug)]
struct Pending {
    until: Instant,
    asked: Asked,
    what: String,
}

/// Who is at the local end of a pipe.
#[derive(Debug)]
enum User {
    Dialler(usize),
    Server(Server),
    Session(Session),
}

/// All users.
#[derive(Debug, Default)]
pub struct Users {
    pending: BTreeMap<(NodeIndex, u64), Pending>,
    pipes: BTreeMap<(NodeIndex, PipeId), User>,
    transfers: Vec<Transfer>,
    units: Vec<Unit>,
    adverts: BTreeSet<(NodeIndex, i64)>,
    /// Disks that fail at the moment.
    sick_disks: BTreeSet<i64>,
    /// Nodes stop being stopped at these times.
    frozen: BTreeMap<NodeIndex, Instant>,
    /// What was done and how it went.
    pub counts: Counts,
}

/// What users did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Pings, and those that came back.
    pub pings: [u64; 2],
    /// Transfers, and those that were whole.
    pub transfers: [u64; 2],
    /// Units accepted, and those that succeeded.
    pub units: [u64; 2],
}

impl Users {
    /// Does what a user does. A node that is down or stopped has no users.
    pub fn act(&mut self, world: &mut World, action: Action) {
        let at = |node: i64| usize::try_from(node).ok().filter(|&node| node < world.len());
        match action {
            Action::Ping { node, to } => {
                if let (Some(node), Some(to)) = (at(node), at(to)) {
                    self.ping(world, node, to, false);
                }
            }
            Action::Traceroute { node, to } => {
                if let (Some(node), Some(to)) = (at(node), at(to)) {
                    let target = name(to);
                    self.ask(world, node, Command::Traceroute { target }, Asked::Other);
                }
            }
            Action::Transfer {
                node,
                to,
                there,
                back,
                reads,
            } => {
                if let (Some(node), Some(to)) = (at(node), at(to)) {
                    let size = |number: i64| u64::try_from(number).unwrap_or(0);
                    let sizes = (size(there), size(back));
                    self.transfer(world, node, to, sizes, size(reads) << 10, false);
                }
            }
            Action::Advertise { node, service } => {
                let Some(node) = at(node) else { return };
                let listen = Command::Listen {
                    service: service_name(service),
                    advertise: Some(vec![("run".into(), "yes".into())]),
                    tls: None,
                };
                if is_free(world, node) && self.adverts.insert((node, service)) {
                    self.ask(world, node, listen, Asked::Other);
                }
            }
            Action::Withdraw { node, service } => {
                let Some(node) = at(node) else { return };
                let service_id = ServiceName::new(&service_name(service)).expect("a short name");
                if is_free(world, node) && self.adverts.remove(&(node, service)) {
                    self.ask(world, node, Command::Unlisten { service: service_id }, Asked::Other);
                }
            }
            Action::Submit {
                node,
                to,
                program,
                size,
            } => {
                if let (Some(node), Some(to)) = (at(node), at(to)) {
                    self.submit(world, node, to, program, usize::try_from(size).unwrap_or(0), false);
                }
            }
            Action::Results { node, back, offset } => {
                if let Some((node, unit)) = at(node).and_then(|node| self.unit_of(node, back)) {
                    self.read_results(world, node, unit, u64::try_from(offset).unwrap_or(0));
                }
            }
            Action::Status { node, back } => {
                if let Some((node, unit)) = at(node).and_then(|node| self.unit_of(node, back)) {
                    self.read_status(world, node, unit);
                }
            }
            Action::Cancel { node, back } => {
                if let Some((node, unit)) = at(node).and_then(|node| self.unit_of(node, back)) {
                    self.cancel(world, node, unit);
                }
            }
            Action::Release { node, back } => {
                if let Some((node, unit)) = at(node).and_then(|node| self.unit_of(node, back)) {
                    self.release(world, node, unit);
                }
            }
            fault => self.note_fault(world, fault),
        }
    }

    /// Pings; one that `must` come back is a demand.
    pub fn ping(&mut self, world: &mut World, node: NodeIndex, to: NodeIndex, must: bool) {
        let ping = Command::Ping { target: name(to) };
        if self.ask(world, node, ping, Asked::Probe { to, must }) {
            self.counts.pings[0] += 1;
        }
    }

    fn ask(&mut self, world: &mut World, node: NodeIndex, command: Command, asked: Asked) -> bool {
        if !is_free(world, node) {
            return false;
        }
        let limit = if matches!(command, Command::Traceroute { .. }) {
            TRACE_ANSWER
        } else {
            ANSWER
        };
        let what = format!("{command:?}");
        let until = world.now() + limit;
        let id = world.command(node, command);
        self.pending.insert((node, id), Pending { until, asked, what });
        true
    }

    fn note_fault(&mut self, world: &World, fault: Action) {
        if let Action::Freeze { node, ms } = fault
            && let (Ok(node), Ok(ms)) = (usize::try_from(node), u64::try_from(ms))
        {
            let until = world.now() + Duration::from_millis(ms);
            let frozen = self.frozen.entry(node).or_insert(until);
            *frozen = (*frozen).max(until);
        }
        self.excuse(fault);
    }

    /// Something happened.
    ///
    /// # Errors
    /// It must not have.
    pub fn on(&mut self, world: &mut World, what: &Observed) -> Result<(), Violation> {
        match what {
            Observed::Started(node) => {
                let service = SERVICE.to_owned();
                let listen = Command::Listen {
                    service,
                    advertise: None,
                    tls: None,
                };
                self.ask(world, *node, listen, Asked::Other);
            }
            Observed::Stopped { node, .. } => self.stopped(*node),
            Observed::Replied { node, command, reply } => {
                let Some(pending) = self.pending.remove(&(*node, *command)) else {
                    return Ok(());
                };
                return self.replied(world, *node, &pending, reply);
            }
            Observed::Said {
                node,
                event: Event::Accepted { service, pipe, .. },
            } => {
                if service.as_bytes() == SERVICE.as_bytes() {
                    self.pipes.insert((*node, *pipe), User::Server(Server::default()));
                } else {
                    world.close(*node, *pipe);
                }
            }
            Observed::Pipe { node, pipe } => {
                let key = (*node, *pipe);
                let Some(user) = self.pipes.remove(&key) else {
                    return Ok(());
                };
                let kept = match user {
                    User::Dialler(transfer) => self.on_answer(world, key, transfer)?.then_some(User::Dialler(transfer)),
                    User::Server(server) => self.on_request(world, key, server)?.map(User::Server),
                    User::Session(session) => self.on_session(world, key, session)?.map(User::Session),
                };
                if let Some(user) = kept {
                    self.pipes.insert(key, user);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn stopped(&mut self, node: NodeIndex) {
        self.pending.retain(|&(at, _), _| at != node);
        self.adverts.retain(|&(at, _)| at != node);
        self.frozen.remove(&node);
        let gone: Vec<_> = self.pipes.keys().filter(|key| key.0 == node).copied().collect();
        for key in gone {
            if let Some(User::Dialler(transfer)) = self.pipes.remove(&key) {
                self.transfers[transfer].end("its node was stopped");
            }
        }
    }

    fn replied(
        &mut self,
        world: &mut World,
        node: NodeIndex,
        pending: &Pending,
        reply: &Reply,
    ) -> Result<(), Violation> {
        match pending.asked {
            Asked::Probe { to, must } => match reply {
                Reply::Pong { from, .. } => {
                    self.counts.pings[1] += 1;
                    if from.as_str() != name(to) {
                        return Violation::of("answered_once", format!("a ping of n{to} was answered by {from}"));
                    }
                }
                other if must => {
                    return Violation::of("fresh_service", format!("ping from n{node} to n{to}: {other:?}"));
                }
                _ => {}
            },
            Asked::Dial(transfer) => {
                if let Reply::Error(error) = reply {
                    return self.not_dialled(world, node, transfer, error);
                }
            }
            Asked::Other => {}
        }
        Ok(())
    }

    /// Looks whether something takes too long.
    ///
    /// # Errors
    /// It does.
    pub fn overdue(&mut self, world: &World) -> Result<(), Violation> {
        let now = world.now();
        self.frozen.retain(|_, until| *until + ANSWER > now);
        for (&(node, id), pending) in &self.pending {
            let allowed = self.frozen.get(&node).map_or(pending.until, |until| {
                // It was stopped meanwhile: the time begins anew.
                pending.until.max(*until + ANSWER)
            });
            if now > allowed {
                let text = format!("command {id} of n{node} was not answered: {}", pending.what);
                return Violation::of("answered_once", text);
            }
        }
        Ok(())
    }

    /// Services that must be seen by all, when all is quiet.
    pub fn advertised(&self) -> impl Iterator<Item = (NodeIndex, String)> + '_ {
        self.adverts
            .iter()
            .map(|&(node, service)| (node, service_name(service)))
    }

    /// What still goes on.
    pub fn unfinished(&self) -> Vec<String> {
        let commands = self.pending.values().map(|pending| pending.what.clone());
        let transfers = self.transfers.iter().filter(|transfer| transfer.is_open());
        let transfers = transfers.map(|transfer| format!("{transfer:?}"));
        let sessions = self.pipes.iter().filter_map(|(key, user)| match user {
            User::Session(session) => {
                let unit = session.unit().map(|unit| &self.units[unit]);
                // Whose directory a failing disk kept is never over: nothing is left that could run or be told.
                let is_limbo = unit.is_some_and(|unit| unit.is_released && unit.excuse.is_some());
                (!is_limbo).then(|| format!("session of n{}: {session:?} {unit:?}", key.0))
            }
            _ => None,
        });
        commands.chain(transfers).chain(sessions).collect()
    }
}

fn service_name(service: i64) -> String {
    format!("svc{service}")
}

/// Whether users can be served at once.
fn is_free(world: &World, node: NodeIndex) -> bool {
    world.host(node).is_up() && !world.host(node).is_frozen(world.now())
}

/// Bytes that tell where they belong: no two numbers have the same ones, and no two places nearby.
pub fn pattern(number: u64, from: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| ((at as u64 * 31 + (at as u64 >> 8) * 7 + number * 13 + 1) % 251) as u8;
    (from..from + len).map(byte).collect()
}
