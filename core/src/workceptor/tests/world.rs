//! The two nodes and everything around them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::super::*;
use super::disk::{Command, Disk};
use crate::config::{Config, WorkKeys, WorkKind, WorkLimits, WorkType};
use crate::time::{Duration, Instant, Wall};

/// The submitter.
pub(super) const S: usize = 0;
/// The executor.
pub(super) const E: usize = 1;
pub(super) const NAMES: [&str; 2] = ["submitter", "executor"];

/// What is under way; carried out one after the other.
#[derive(Debug)]
enum Event {
    Perform(usize, u32, TaskKey, UnitId, UnitTask),
    Done(usize, u32, TaskKey, UnitTaskResult),
    Open(usize, u32, PeerKey, String),
    ToExecutor(u64, Bytes),
    ToSubmitter(u64, Bytes),
    Client(usize, u32, ClientKey, Said),
    Signed(usize, u32, TaskKey, Result<String, String>),
    Verified(usize, u32, TaskKey, Verified),
}

/// What a client sees.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Reply(WorkReply),
    Credit(usize),
    Data(Bytes),
    End,
}

/// A stream from one node's submitter side to the other's executor side.
#[derive(Debug)]
pub(super) struct Pipe {
    from: usize,
    to: usize,
    key: PeerKey,
    /// The line before the upgrade.
    line: BytesMut,
    upgraded: bool,
    /// The submitter has seen the end of the upgrade.
    raw: bool,
}

#[derive(Default, Debug)]
pub(super) struct ClientSide {
    pub(super) node: usize,
    pub(super) replies: Vec<WorkReply>,
    pub(super) stdin: Bytes,
    pub(super) credit: usize,
    pub(super) ready: bool,
    pub(super) ended: bool,
    /// Sends no end of stdin by itself.
    pub(super) holds: bool,
    pub(super) data: Vec<u8>,
    pub(super) results_end: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) machine: Option<Workceptor>,
    pub(super) disk: Disk,
    /// Rises with every crash; what was under way for an earlier life is lost.
    pub(super) life: u32,
    seen: BTreeMap<UnitId, State>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) clients: BTreeMap<ClientKey, ClientSide>,
    pub(super) command: Command,
    pub(super) logs: Vec<String>,
    pub(super) now: Now,
    pub(super) steps: usize,
    /// The nodes cannot reach each other.
    pub(super) cut: bool,
    /// Streams take until this ends to be opened.
    pub(super) slow: bool,
    held: Vec<Event>,
    /// What who opens a stream then is told.
    pub(super) refusal: &'static str,
    /// Streams that were opened, with their TLS configs.
    pub(super) opened: Vec<(String, Option<String>)>,
    /// Most bytes that were under way in one direction of a pipe.
    pub(super) peak: usize,
    pub(super) max_units: usize,
    pub(super) keys: WorkKeys,
    /// Of nodes that are started from now on.
    pub(super) limits: WorkLimits,
    /// By how much the submitter's clock is said to be ahead.
    pub(super) skew: Option<i64>,
    /// What is wrong with the key files.
    pub(super) broken_key: Option<String>,
    /// Claims that were signed, of each node.
    pub(super) signed: Vec<String>,
    /// Tokens that were looked at.
    pub(super) verified: usize,
    events: VecDeque<Event>,
    /// Bytes under way per pipe and direction.
    waiting: BTreeMap<(u64, bool), usize>,
    pipes: BTreeMap<u64, Pipe>,
    next_client: u64,
    seed: u8,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            clients: BTreeMap::new(),
            command: Command {
                times: 1,
                chunk: 1000,
                endless: false,
            },
            logs: Vec::new(),
            now: Now {
                mono: Instant::from_millis(1),
                wall: Wall::from_secs(1_730_203_265),
            },
            steps: 0,
            cut: false,
            slow: false,
            held: Vec::new(),
            refusal: "no route to node",
            opened: Vec::new(),
            peak: 0,
            max_units: 100,
            keys: WorkKeys::default(),
            limits: WorkLimits::default(),
            skew: None,
            broken_key: None,
            signed: Vec::new(),
            verified: 0,
            events: VecDeque::new(),
            waiting: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_client: 1,
            seed: 0,
        };
        for _ in NAMES {
            world.nodes.push(Node {
                machine: None,
                disk: Disk::default(),
                life: 0,
                seen: BTreeMap::new(),
            });
        }
        world.start(S);
        world.start(E);
        world
    }

    pub(super) fn start(&mut self, node: usize) {
        let mut config = Config::new(NAMES[node].into());
        config.limits.units = self.max_units;
        config.tls.clients = ["mine".into()].into();
        let command = |name: &str, program: &str, params: &str, allow| {
            let kind = WorkKind::Command {
                command: program.into(),
                params: params.into(),
                allow_runtime_params: allow,
            };
            WorkType::new(name, kind)
        };
        config.work_types = alloc::vec![
            command("cat", "cat", "", false),
            command("open", "sh", "-c", true),
            command("missing", "missing", "", false),
            WorkType {
                verify_signature: true,
                ..command("signed", "cat", "", false)
            },
            WorkType::new(
                "kube",
                WorkKind::Unavailable {
                    reason: "not built".into()
                }
            ),
        ];
        config.work_keys = self.keys.clone();
        config.work_limits = self.limits.clone();
        self.seed += 1;
        let mut machine = Workceptor::new(&config, Rng::from_seed([self.seed; 32]));
        machine.handle_scan(self.now, self.nodes[node].disk.scan());
        self.nodes[node].machine = Some(machine);
    }

    /// What was seen of units does not count any more: the node is another one, or somebody else had its disk.
    pub(super) fn forget_seen(&mut self, node: usize) {
        self.nodes[node].seen.clear();
    }

    /// The node is gone for ever, with its disk; another one takes its place.
    pub(super) fn replace(&mut self, node: usize) {
        self.crash(node, true);
        self.nodes[node].disk = Disk::default();
        self.forget_seen(node);
        self.start(node);
    }

    /// The node dies. With `machine` everything that was not durable goes too.
    pub(super) fn crash(&mut self, node: usize, machine: bool) {
        let dead = &mut self.nodes[node];
        dead.machine = None;
        dead.life += 1;
        dead.disk.crash_process();
        if machine {
            dead.disk.crash_machine();
        }
        self.clients.retain(|_, client| client.node != node);
        self.cut_pipes(|pipe| pipe.from == node || pipe.to == node, "the node is down");
    }

    pub(super) fn cut_pipes(&mut self, which: impl Fn(&Pipe) -> bool, reason: &str) {
        let cut: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| which(pipe))
            .map(|(id, _)| *id)
            .collect();
        for id in cut {
            let pipe = self.pipes.remove(&id).unwrap();
            let now = self.now;
            if let Some(machine) = &mut self.nodes[pipe.from].machine {
                machine.peer_closed(now, pipe.key, reason);
            }
            if let Some(machine) = &mut self.nodes[pipe.to].machine {
                machine.session_closed(now, SessionKey(id));
            }
        }
    }

    /// Bytes that a peer of `S` never sent.
    pub(super) fn forge(&mut self, data: Bytes) {
        let now = self.now;
        if let Some(key) = self
            .pipes
            .values()
            .find(|pipe| pipe.from == S && pipe.raw)
            .map(|pipe| pipe.key)
        {
            self.machine(S).peer_data(now, key, data);
        }
    }

    pub(super) fn cut_all(&mut self) {
        self.cut = true;
        self.cut_pipes(|_| true, "cut");
    }

    pub(super) fn machine(&mut self, node: usize) -> &mut Workceptor {
        self.nodes[node].machine.as_mut().unwrap()
    }

    pub(super) fn request(&mut self, node: usize, request: WorkRequest) -> ClientKey {
        self.request_from(node, &Requester::LOCAL, request)
    }

    pub(super) fn request_from(&mut self, node: usize, from: &Requester, request: WorkRequest) -> ClientKey {
        let key = ClientKey(self.next_client);
        self.next_client += 1;
        self.clients.insert(
            key,
            ClientSide {
                node,
                ..ClientSide::default()
            },
        );
        let now = self.now;
        self.machine(node).handle_request(now, key, from, request);
        key
    }

    pub(super) fn submit_request(&mut self, node: usize, request: SubmitRequest, stdin: &[u8]) -> ClientKey {
        let key = self.request(node, WorkRequest::Submit(request.into()));
        self.clients.get_mut(&key).unwrap().stdin = Bytes::copy_from_slice(stdin);
        key
    }

    pub(super) fn submit(&mut self, node: usize, target: &str, stdin: &[u8]) -> ClientKey {
        let request = SubmitRequest {
            node: target.into(),
            work_type: "cat".into(),
            ..SubmitRequest::default()
        };
        self.submit_request(node, request, stdin)
    }

    pub(super) fn results(&mut self, node: usize, id: &str) -> ClientKey {
        self.request(
            node,
            WorkRequest::Results {
                unit: id.into(),
                start: 0,
                signature: None,
            },
        )
    }

    pub(super) fn cancel(&mut self, node: usize, id: &str) -> ClientKey {
        self.request(
            node,
            WorkRequest::Cancel {
                unit: id.into(),
                signature: None,
            },
        )
    }

    pub(super) fn release(&mut self, node: usize, id: &str, force: bool) -> ClientKey {
        self.request(
            node,
            WorkRequest::Release {
                unit: id.into(),
                force,
                signature: None,
            },
        )
    }

    pub(super) fn status(&mut self, node: usize, id: &str) -> Option<UnitView> {
        let key = self.request(node, WorkRequest::Status { unit: id.into() });
        self.drain();
        while let Some(event) = self.events.pop_front() {
            if let Event::Client(_, _, client, Said::Reply(reply)) = &event
                && *client == key
            {
                return match reply {
                    WorkReply::Status(view) => Some((**view).clone()),
                    _ => None,
                };
            }
            self.carry_out(event);
            self.drain();
        }
        None
    }

    pub(super) fn replies(&self, client: ClientKey) -> &[WorkReply] {
        self.clients
            .get(&client)
            .map_or(&[], |client| client.replies.as_slice())
    }

    pub(super) fn last(&self, client: ClientKey) -> WorkReply {
        self.replies(client)
            .last()
            .cloned()
            .unwrap_or_else(|| panic!("no reply; logs: {:?}", self.logs))
    }

    /// The ID a submission was told.
    pub(super) fn id(&self, client: ClientKey) -> String {
        match self.replies(client).first() {
            Some(WorkReply::SubmitReady { unit }) => unit.to_string(),
            other => panic!("no unit: {other:?}"),
        }
    }

    /// Takes all outputs of all machines.
    fn drain(&mut self) {
        for node in [S, E] {
            let life = self.nodes[node].life;
            while let Some(output) = self.nodes[node].machine.as_mut().and_then(Workceptor::poll_output) {
                match output {
                    WorkOutput::Task(key, id, task) => self.events.push_back(Event::Perform(node, life, key, id, task)),
                    // A stand-in for signatures: the claims in clear.
                    WorkOutput::Sign { key, key_file, claims } => {
                        let token = match &self.broken_key {
                            Some(error) => Err(error.clone()),
                            None => Ok(format!("{key_file}!{claims}")),
                        };
                        self.signed.push(claims);
                        self.events.push_back(Event::Signed(node, life, key, token));
                    }
                    WorkOutput::Verify { key, key_file, token } => {
                        let result = match (&self.broken_key, token.split_once('!')) {
                            (Some(error), _) => Verified::NoKey(error.clone()),
                            (None, Some((signer, claims))) if signer == key_file => Verified::Claims(claims.into()),
                            (None, _) => Verified::Refused("crypto/rsa: verification error".into()),
                        };
                        self.verified += 1;
                        self.events.push_back(Event::Verified(node, life, key, result));
                    }
                    WorkOutput::Reply(client, reply) => self.say(node, client, Said::Reply(reply)),
                    WorkOutput::StdinCredit(client, n) => self.say(node, client, Said::Credit(n)),
                    WorkOutput::ResultsData(client, data) => self.say(node, client, Said::Data(data)),
                    WorkOutput::ResultsEnd(client) => self.say(node, client, Said::End),
                    WorkOutput::OpenPeer {
                        key,
                        node: name,
                        tls_client,
                    } => {
                        self.opened.push((name.clone(), tls_client));
                        self.events.push_back(Event::Open(node, life, key, name));
                    }
                    WorkOutput::PeerSend(key, data) => {
                        let pipe = self.pipes.iter().find(|(_, pipe)| pipe.from == node && pipe.key == key);
                        if let Some((id, _)) = pipe {
                            let id = *id;
                            self.count(id, true, data.len());
                            self.events.push_back(Event::ToExecutor(id, data));
                        }
                    }
                    // All executors here grant sessions.
                    WorkOutput::FinishPeer(_) | WorkOutput::PeerResume(_) => {}
                    WorkOutput::ClosePeer(key) | WorkOutput::AbortPeer(key) => {
                        let id = self
                            .pipes
                            .iter()
                            .find(|(_, pipe)| pipe.from == node && pipe.key == key)
                            .map(|(id, _)| *id);
                        if let Some(id) = id {
                            let pipe = self.pipes.remove(&id).unwrap();
                            let now = self.now;
                            self.nodes[pipe.to]
                                .machine
                                .as_mut()
                                .unwrap()
                                .session_closed(now, SessionKey(id));
                        }
                    }
                    WorkOutput::SessionSend(key, data) => {
                        self.count(key.0, false, data.len());
                        self.events.push_back(Event::ToSubmitter(key.0, data));
                    }
                    WorkOutput::CloseSession(key) => {
                        if let Some(pipe) = self.pipes.remove(&key.0) {
                            let now = self.now;
                            self.nodes[pipe.from]
                                .machine
                                .as_mut()
                                .unwrap()
                                .peer_closed(now, pipe.key, "closed");
                        }
                    }
                    WorkOutput::Log(severity, line) => self.logs.push(format!("{} {severity:?}: {line}", NAMES[node])),
                }
            }
        }
    }

    fn count(&mut self, pipe: u64, upstream: bool, len: usize) {
        let waiting = self.waiting.entry((pipe, upstream)).or_default();
        *waiting += len;
        self.peak = self.peak.max(*waiting);
    }

    fn say(&mut self, node: usize, client: ClientKey, said: Said) {
        let life = self.nodes[node].life;
        self.events.push_back(Event::Client(node, life, client, said));
    }

    fn carry_out(&mut self, event: Event) {
        let now = self.now;
        let is_alive = |world: &Self, node: usize, life: u32| {
            world.nodes[node].life == life && world.nodes[node].machine.is_some()
        };
        match event {
            Event::Perform(node, life, key, id, task) if is_alive(self, node, life) => {
                let result = self.nodes[node].disk.perform(&id, task);
                self.events.push_back(Event::Done(node, life, key, result));
            }
            Event::Done(node, life, key, result) if is_alive(self, node, life) => {
                self.machine(node).handle_done(now, key, result);
            }
            Event::Signed(node, life, key, result) if is_alive(self, node, life) => {
                self.machine(node).handle_signed(now, key, result);
            }
            Event::Verified(node, life, key, result) if is_alive(self, node, life) => {
                self.machine(node).handle_verified(now, key, result);
            }
            Event::Open(..) if self.slow => self.held.push(event),
            Event::Open(node, life, key, name) if is_alive(self, node, life) => {
                let to = NAMES.iter().position(|known| *known == name);
                match to.filter(|to| !self.cut && self.nodes[*to].machine.is_some()) {
                    Some(to) => {
                        let id = 1_000_000 * u64::from(self.nodes[node].life + 1) + 10 * key.0 + node as u64;
                        self.pipes.insert(
                            id,
                            Pipe {
                                from: node,
                                to,
                                key,
                                line: BytesMut::new(),
                                upgraded: false,
                                raw: false,
                            },
                        );
                        self.machine(node).peer_opened(now, key, false);
                        let greeting = format!("Receptor Control, node {}\n", NAMES[to]);
                        self.events.push_back(Event::ToSubmitter(id, greeting.into()));
                    }
                    None => {
                        let refusal = self.refusal;
                        self.machine(node).peer_closed(now, key, refusal);
                    }
                }
            }
            Event::ToExecutor(id, data) => self.deliver_upstream(id, data),
            Event::ToSubmitter(id, data) => {
                let Some(pipe) = self.pipes.get(&id) else { return };
                let (from, to, key, len, raw) = (pipe.from, pipe.to, pipe.key, data.len(), pipe.raw);
                let is_reply = data.starts_with(b"{\"upgraded\"");
                self.machine(from).peer_data(now, key, data);
                if raw {
                    *self.waiting.entry((id, false)).or_default() -= len;
                    self.machine(to).session_drained(now, SessionKey(id), len);
                } else if is_reply && let Some(pipe) = self.pipes.get_mut(&id) {
                    pipe.raw = true;
                }
            }
            Event::Client(node, life, client, said) if is_alive(self, node, life) => self.client(node, client, said),
            _ => {}
        }
    }

    fn deliver_upstream(&mut self, id: u64, mut data: Bytes) {
        let now = self.now;
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let (from, to, key, len) = (pipe.from, pipe.to, pipe.key, data.len());
        *self.waiting.entry((id, true)).or_default() -= len;
        if !pipe.upgraded {
            let end = data.iter().position(|&b| b == b'\n').unwrap();
            pipe.line.extend_from_slice(&data.split_to(end + 1));
            let line = alloc::string::String::from_utf8_lossy(&pipe.line);
            let start = "{\"command\":\"work\",\"subcommand\":\"upgrade\",\"version\":1,\"time\":";
            assert!(line.starts_with(start), "{line}");
            pipe.upgraded = true;
            let from = Requester {
                node: Some(NAMES[from].into()),
                clock_ahead: self.skew,
                ..Requester::default()
            };
            self.machine(to).session_opened(now, SessionKey(id), &from);
            self.events
                .push_back(Event::ToSubmitter(id, Bytes::from_static(b"{\"upgraded\":1}\n")));
        }
        self.machine(to).session_data(now, SessionKey(id), data);
        self.machine(from).peer_drained(now, key, len);
    }

    fn client(&mut self, node: usize, key: ClientKey, said: Said) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        match said {
            Said::Reply(reply) => {
                client.ready |= matches!(reply, WorkReply::SubmitReady { .. });
                client.replies.push(reply);
            }
            Said::Credit(n) => client.credit += n,
            Said::Data(data) => {
                client.data.extend_from_slice(&data);
                self.machine(node).results_drained(now, key, data.len());
                return;
            }
            Said::End => client.results_end = true,
        }
        if !client.ready || client.ended {
            return;
        }
        let data = client.stdin.split_to(client.credit.min(client.stdin.len()));
        client.credit -= data.len();
        let is_last = client.stdin.is_empty() && !client.holds;
        client.ended = is_last;
        let machine = self.nodes[node].machine.as_mut().unwrap();
        if !data.is_empty() {
            machine.stdin(now, key, data);
        }
        if is_last {
            machine.stdin_end(now, key);
        }
    }

    /// One thing happens. `false` if there is nothing to do but wait.
    pub(super) fn step(&mut self) -> bool {
        self.steps += 1;
        self.drain();
        if !self.slow {
            self.events.extend(self.held.drain(..));
        }
        if let Some(event) = self.events.pop_front() {
            self.carry_out(event);
            self.drain();
            self.check();
            return true;
        }
        for node in [S, E] {
            let ids: Vec<UnitId> = self.nodes[node].disk.runners.keys().cloned().collect();
            for id in ids {
                let command = self.command.clone();
                let Some(event) = self.nodes[node].disk.step(&id, &command) else {
                    continue;
                };
                if let Some(event) = event
                    && let Some(machine) = &mut self.nodes[node].machine
                {
                    machine.handle_runner(self.now, &id, event);
                }
                self.drain();
                self.check();
                return true;
            }
        }
        false
    }

    /// Everything that happens by itself, with virtual time passing, for at most `secs`.
    pub(super) fn run(&mut self, secs: u64) {
        let end = self.now.mono + Duration::from_secs(secs);
        loop {
            let mut busy = 0;
            while self.step() {
                busy += 1;
                assert!(busy < 200_000, "it never rests; logs: {:?}", self.logs);
            }
            let due = [S, E]
                .into_iter()
                .filter_map(|node| match self.nodes[node].machine.as_ref()?.next_deadline() {
                    Deadline::At(at, _) => Some(at),
                    Deadline::Idle => None,
                    Deadline::Now => panic!("outputs were left"),
                });
            let Some(at) = due.min().filter(|at| *at <= end) else {
                break;
            };
            let passed = at.since(self.now.mono);
            self.pass(passed);
            let now = self.now;
            for node in [S, E] {
                if let Some(machine) = &mut self.nodes[node].machine {
                    machine.handle_timeout(now);
                    let due = machine.next_deadline();
                    assert!(due == Deadline::Now || !due.is_due(now.mono), "a timer stays due");
                }
            }
        }
        self.pass(end.since(self.now.mono));
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Now {
            mono: self.now.mono + time,
            wall: self.now.wall + time,
        };
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        for node in &mut self.nodes {
            for (id, runs) in &node.disk.runs {
                assert!(*runs <= 1, "unit {id} ran {runs} times");
            }
            let Some(machine) = &node.machine else { continue };
            for (id, unit) in &machine.units {
                let state = unit.record.state;
                let seen = node.seen.entry(id.clone()).or_insert(state);
                let is_back = match (*seen, state) {
                    (before, now) if before.is_complete() => before != now,
                    (State::Running, State::Pending) => true,
                    _ => false,
                };
                // Only a crash of the machine forgets that a unit was running, which is not a barrier.
                assert!(
                    !is_back || (*seen == State::Running && node.disk.boot > 0),
                    "{id}: {seen:?} became {state:?}"
                );
                *seen = state;
                if state.is_complete()
                    && let Some(dir) = node.disk.durable.get(id)
                    && let Ok(record) = Record::parse(&dir.record)
                {
                    assert_eq!(
                        record.state, state,
                        "unit {id}: a final state was announced before it was durable"
                    );
                }
            }
            node.seen.retain(|id, _| machine.units.contains_key(id));
        }
    }

    /// The one unit of a node, if there is one.
    pub(super) fn only(&self, node: usize) -> Option<(UnitId, &Unit)> {
        let machine = self.nodes[node].machine.as_ref()?;
        assert!(machine.units.len() <= 1, "{:?}", machine.units.keys());
        machine.units.iter().next().map(|(id, unit)| (id.clone(), unit))
    }

    pub(super) fn stdout(&self, node: usize, id: &UnitId) -> &[u8] {
        self.nodes[node]
            .disk
            .live
            .get(id)
            .map_or(&[], |dir| dir.stdout.as_slice())
    }
}
