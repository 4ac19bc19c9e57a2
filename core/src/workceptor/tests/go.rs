//! A submitter and a model of a classic executor, joined by streams that may break at any moment.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use bytes::Bytes;
use serde_json::Value;

use super::super::*;
use super::disk::Disk;
use crate::config::Signing;
use crate::time::{Duration, Instant, Wall};

/// A unit of the executor.
#[derive(Debug, Default)]
pub(super) struct GoUnit {
    pub(super) state: i64,
    pub(super) detail: String,
    pub(super) stdin: Vec<u8>,
    pub(super) stdout: Vec<u8>,
    pub(super) runs: u32,
}

/// A session of its control service.
#[derive(Debug, Default)]
struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    stdin_of: Option<String>,
    results_of: Option<(String, usize)>,
    ended: bool,
}

/// The executor.
#[derive(Debug)]
pub(super) struct Go {
    /// As release 1.5.5, it takes the submitter's ID.
    pub(super) takes_ids: bool,
    /// Bytes of output per look at a unit; its units end when they have given back their stdin.
    pub(super) chunk: usize,
    pub(super) endless: bool,
    pub(super) units: BTreeMap<String, GoUnit>,
    sessions: BTreeMap<PeerKey, Session>,
    next: u32,
    /// All command lines it was sent.
    pub(super) lines: Vec<String>,
    /// Most sessions at a time.
    pub(super) peak: usize,
    /// Says this to every command, instead of what it should.
    pub(super) nonsense: Option<&'static str>,
}

impl Go {
    fn status(unit: &GoUnit) -> String {
        let (state, detail, size) = (unit.state, &unit.detail, unit.stdout.len());
        let extra = if state == 1 {
            "{\"Pid\":7,\"Params\":\"-u x\"}"
        } else {
            "null"
        };
        format!(
            "{{\"Detail\":\"{detail}\",\"ExtraData\":{extra},\"State\":{state},\"StdoutSize\":{size},\"WorkType\":\"cat\"}}\n"
        )
    }

    fn command(&mut self, key: PeerKey, line: &str) -> String {
        self.lines.push(line.to_string());
        if let Some(nonsense) = self.nonsense {
            return nonsense.into();
        }
        let session = self.sessions.get_mut(&key).unwrap();
        if let Some(id) = line.strip_prefix("work status ") {
            return self
                .units
                .get(id)
                .map_or_else(|| format!("ERROR: unknown work unit {id}\n"), Self::status);
        }
        let request: Value = serde_json::from_str(line).unwrap();
        let id = request["unitid"].as_str().unwrap_or_default().to_string();
        match request["subcommand"].as_str().unwrap() {
            "submit" => {
                let wanted = request["workUnitID"].as_str().unwrap().to_string();
                self.next += 1;
                let id = if self.takes_ids {
                    wanted
                } else {
                    format!("go{}", self.next)
                };
                if self.units.contains_key(&id) {
                    return format!("ERROR: workunit ID {id} is already in use\n");
                }
                let detail = "Waiting for Input Data".into();
                self.units.insert(
                    id.clone(),
                    GoUnit {
                        detail,
                        ..GoUnit::default()
                    },
                );
                session.stdin_of = Some(id.clone());
                format!("Work unit created with ID {id}. Send stdin data and EOF.\n")
            }
            "results" if self.units.contains_key(&id) => {
                let start = request["startpos"].as_u64().unwrap() as usize;
                session.results_of = Some((id.clone(), start));
                format!("Streaming results for work unit {id}\n")
            }
            "cancel" if self.units.contains_key(&id) => {
                let unit = self.units.get_mut(&id).unwrap();
                if unit.state == 1 {
                    (unit.state, unit.detail) = (4, "Canceled".into());
                }
                format!("{{\"cancelled\":\"{id}\"}}\n")
            }
            "release" if self.units.remove(&id).is_some() => format!("{{\"released\":\"{id}\"}}\n"),
            _ => format!("ERROR: error doing it:  unknown work unit {id}\n"),
        }
    }

    fn receive(&mut self, key: PeerKey, data: &[u8]) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.input.extend_from_slice(data);
        while let Some(session) = self.sessions.get_mut(&key) {
            if let Some(id) = &session.stdin_of {
                let stdin = core::mem::take(&mut session.input);
                if let Some(unit) = self.units.get_mut(id) {
                    unit.stdin.extend_from_slice(&stdin);
                }
                return;
            }
            let Some(end) = session.input.iter().position(|&b| b == b'\n') else {
                return;
            };
            let line: Vec<u8> = session.input.drain(..=end).collect();
            let answer = self.command(key, String::from_utf8(line).unwrap().trim_end());
            let session = self.sessions.get_mut(&key).unwrap();
            session.output.extend_from_slice(answer.as_bytes());
        }
    }

    /// The end of a stdin: the unit runs.
    fn finish(&mut self, key: PeerKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let id = session.stdin_of.take().expect("only a submission ends its half");
        session.ended = true;
        if let Some(unit) = self.units.get_mut(&id) {
            unit.runs += 1;
            (unit.state, unit.detail) = (1, "Running: PID 7".into());
            let answer = format!("{{\"result\":\"Job Started\",\"unitid\":\"{id}\"}}\n");
            session.output.extend_from_slice(answer.as_bytes());
        }
    }

    fn lose(&mut self, key: PeerKey) {
        if let Some(session) = self.sessions.remove(&key)
            && let Some(unit) = session.stdin_of.and_then(|id| self.units.get_mut(&id))
        {
            (unit.state, unit.detail) = (3, "Error reading input data: stream broke".into());
        }
    }

    /// Units go on by themselves; whether anything happened.
    fn step(&mut self) -> bool {
        let mut busy = false;
        for unit in self.units.values_mut().filter(|unit| unit.state == 1) {
            let left = unit.stdin.len() - unit.stdout.len();
            let piece = left.min(self.chunk);
            let start = unit.stdout.len();
            unit.stdout.extend_from_slice(&unit.stdin[start..start + piece]);
            busy |= piece > 0 || !self.endless;
            if left == piece && !self.endless {
                (unit.state, unit.detail) = (2, "exit status 0".into());
            }
        }
        for session in self.sessions.values_mut() {
            let Some((id, pos)) = &mut session.results_of else {
                continue;
            };
            let Some(unit) = self.units.get(id) else {
                session.ended = true;
                continue;
            };
            if *pos < unit.stdout.len() {
                session.output.extend_from_slice(&unit.stdout[*pos..]);
                *pos = unit.stdout.len();
                busy = true;
            }
            // As the original: a cancelled unit's stream has no end.
            session.ended |= matches!(unit.state, 2 | 3);
        }
        busy
    }
}

/// The two.
#[derive(Debug)]
pub(super) struct Border {
    pub(super) machine: Workceptor,
    pub(super) disk: Disk,
    pub(super) go: Go,
    pub(super) now: Now,
    pub(super) replies: Vec<(ClientKey, WorkReply)>,
    pub(super) logs: Vec<String>,
    /// No stream opens.
    pub(super) cut: bool,
    /// Units are submitted to be signed.
    pub(super) signs: bool,
    /// What is wrong with the signing key.
    pub(super) broken_key: Option<String>,
    /// Every so many steps a stream breaks.
    pub(super) breaks: Option<u64>,
    rng: Rng,
    stdin: BTreeMap<ClientKey, Bytes>,
    next_client: u64,
}

fn machine(disk: &Disk, now: Now, seed: u8) -> Workceptor {
    let mut config = Config::new("submitter".into());
    config.work_keys.signing = Some(Signing {
        private_key: "key".into(),
        expiration: Signing::EXPIRATION,
    });
    let mut machine = Workceptor::new(&config, Rng::from_seed([seed; 32]));
    machine.handle_scan(now, disk.scan());
    machine
}

impl Border {
    pub(super) fn new(takes_ids: bool, seed: u8) -> Self {
        let now = Now {
            mono: Instant::from_millis(1),
            wall: Wall::from_secs(1_730_203_265),
        };
        let disk = Disk::default();
        Self {
            machine: machine(&disk, now, seed),
            disk,
            go: Go {
                takes_ids,
                chunk: 1000,
                endless: false,
                units: BTreeMap::new(),
                sessions: BTreeMap::new(),
                next: 0,
                lines: Vec::new(),
                peak: 0,
                nonsense: None,
            },
            now,
            replies: Vec::new(),
            logs: Vec::new(),
            cut: false,
            signs: false,
            broken_key: None,
            breaks: None,
            rng: Rng::from_seed([seed ^ 0x55; 32]),
            stdin: BTreeMap::new(),
            next_client: 1,
        }
    }

    pub(super) fn request(&mut self, request: WorkRequest) -> ClientKey {
        let client = ClientKey(self.next_client);
        self.next_client += 1;
        self.machine
            .handle_request(self.now, client, &Requester::LOCAL, request);
        client
    }

    /// Submits; the unit's ID.
    pub(super) fn submit(&mut self, stdin: &[u8]) -> String {
        let request = SubmitRequest {
            node: "go".into(),
            work_type: "cat".into(),
            sign_work: self.signs,
            ..SubmitRequest::default()
        };
        let client = self.request(WorkRequest::Submit(request.into()));
        self.stdin.insert(client, Bytes::copy_from_slice(stdin));
        loop {
            self.pump();
            let ready = self.replies.iter().find_map(|(to, reply)| match reply {
                WorkReply::SubmitReady { unit } if *to == client => Some(unit.to_string()),
                _ => None,
            });
            if let Some(id) = ready {
                break id;
            }
        }
    }

    pub(super) fn status(&mut self, id: &str) -> UnitView {
        let client = self.request(WorkRequest::Status { unit: id.into() });
        self.pump();
        match self.replies.iter().find(|(to, _)| *to == client) {
            Some((_, WorkReply::Status(view))) => (**view).clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn stdout(&self, id: &str) -> &[u8] {
        &self.disk.live[&UnitId::parse(id).unwrap()].stdout
    }

    /// One stream breaks, any.
    fn break_one(&mut self) {
        let keys: Vec<PeerKey> = self.go.sessions.keys().copied().collect();
        if let Some(&key) = keys.get(self.rng.below(keys.len().max(1) as u64) as usize) {
            self.go.lose(key);
            self.machine.peer_closed(self.now, key, "broken");
        }
    }

    /// Carries out what can be done without time passing.
    pub(super) fn pump(&mut self) {
        let mut steps = 0_u64;
        loop {
            steps += 1;
            assert!(steps < 100_000, "it never rests; logs: {:?}", self.logs);
            if self.breaks.is_some_and(|n| self.rng.below(n) == 0) {
                self.break_one();
            }
            if let Some(output) = self.machine.poll_output() {
                self.carry_out(output);
            } else if !self.deliver() && !self.go.step() {
                break;
            }
            self.go.peak = self.go.peak.max(self.go.sessions.len());
        }
    }

    fn carry_out(&mut self, output: WorkOutput) {
        let now = self.now;
        match output {
            WorkOutput::Task(key, id, task) => {
                let result = self.disk.perform(&id, task);
                self.machine.handle_done(now, key, result);
            }
            WorkOutput::Sign { key, claims, .. } => {
                let token = self.broken_key.clone().map_or(Ok(claims), Err);
                self.machine.handle_signed(now, key, token);
            }
            WorkOutput::Reply(client, reply) => self.replies.push((client, reply)),
            WorkOutput::StdinCredit(client, n) => {
                let Some(stdin) = self.stdin.get_mut(&client) else {
                    return;
                };
                let data = stdin.split_to(n.min(stdin.len()));
                let is_last = stdin.is_empty();
                if !data.is_empty() {
                    self.machine.stdin(now, client, data);
                }
                if is_last {
                    self.stdin.remove(&client);
                    self.machine.stdin_end(now, client);
                }
            }
            WorkOutput::OpenPeer { key, .. } if self.cut => self.machine.peer_closed(now, key, "no route to node"),
            WorkOutput::OpenPeer { key, node, .. } => {
                assert_eq!(node, "go");
                let greeting = Session {
                    output: b"Receptor Control, node go\n".to_vec(),
                    ..Session::default()
                };
                self.go.sessions.insert(key, greeting);
                self.machine.peer_opened(now, key, true);
            }
            WorkOutput::PeerSend(key, data) => {
                self.go.receive(key, &data);
                self.machine.peer_drained(now, key, data.len());
            }
            WorkOutput::FinishPeer(key) => self.go.finish(key),
            WorkOutput::ClosePeer(key) => {
                let session = self.go.sessions.remove(&key);
                let stdin_of = session.and_then(|session| session.stdin_of);
                assert_eq!(stdin_of, None, "the executor would take a part for the whole");
            }
            WorkOutput::AbortPeer(key) => self.go.lose(key),
            WorkOutput::Log(severity, line) => self.logs.push(format!("{severity:?}: {line}")),
            _ => {}
        }
    }

    /// Bytes of the executor, in pieces.
    fn deliver(&mut self) -> bool {
        let now = self.now;
        for key in self.go.sessions.keys().copied().collect::<Vec<_>>() {
            let size = 1 + self.rng.below(5000) as usize;
            let Some(session) = self.go.sessions.get_mut(&key) else {
                continue;
            };
            if !session.output.is_empty() && self.machine.peer_takes(key) {
                let size = (size + session.output.len() / 8).min(session.output.len());
                let data: Vec<u8> = session.output.drain(..size).collect();
                self.machine.peer_data(now, key, data.into());
                return true;
            }
            if session.ended && session.output.is_empty() {
                self.go.sessions.remove(&key);
                self.machine.peer_closed(now, key, "closed by the other side");
                return true;
            }
        }
        false
    }

    /// Time passes; what is due happens.
    pub(super) fn run(&mut self, secs: u64) {
        let end = self.now.mono + Duration::from_secs(secs);
        for turn in 0.. {
            assert!(turn < 20_000, "time hardly passes; logs: {:?}", self.logs.last());
            self.pump();
            let Deadline::At(at, _) = self.machine.next_deadline() else {
                break;
            };
            if at > end {
                break;
            }
            self.pass(at.since(self.now.mono));
            self.machine.handle_timeout(self.now);
        }
        self.pass(end.since(self.now.mono));
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = Now {
            mono: self.now.mono + time,
            wall: self.now.wall + time,
        };
    }

    fn lose_all(&mut self) {
        for key in self.go.sessions.keys().copied().collect::<Vec<_>>() {
            self.go.lose(key);
            self.machine.peer_closed(self.now, key, "lost");
        }
    }

    /// The executor forgets all its sessions, and the submitter hears nothing of it.
    pub(super) fn forget_sessions(&mut self) {
        for key in self.go.sessions.keys().copied().collect::<Vec<_>>() {
            self.go.lose(key);
        }
    }

    /// The submitter dies and returns; with `power` without what was not durable.
    pub(super) fn restart(&mut self, power: bool, seed: u8) {
        self.disk.crash_process();
        if power {
            self.disk.crash_machine();
        }
        for key in self.go.sessions.keys().copied().collect::<Vec<_>>() {
            self.go.lose(key);
        }
        self.stdin.clear();
        self.machine = machine(&self.disk, self.now, seed);
    }

    /// The executor dies and returns, as the original does.
    pub(super) fn restart_go(&mut self) {
        let waiting: Vec<String> = self
            .go
            .units
            .iter()
            .filter(|(_, unit)| unit.state == 0)
            .map(|(id, _)| id.clone())
            .collect();
        self.lose_all();
        for id in waiting {
            if let Some(unit) = self.go.units.get_mut(&id) {
                (unit.state, unit.detail) = (3, "Pending at restart".into());
            }
        }
    }
}
