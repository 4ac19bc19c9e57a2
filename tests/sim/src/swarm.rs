//! Draws plans: every seed has some of the faults and not others, so that no fault hides behind another.

use receptor_core::rng::Rng;

use crate::chance::chance;
use crate::plan::{Action, LinkPlan, NodePlan, Plan, Step};

/// What a run may meet.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Of everything that is drawn here.
    pub seed: u64,
    /// Kinds of fault that occur, each with its weight.
    pub faults: Vec<Kind>,
    /// Mean time between faults, ms.
    pub pause: u64,
    /// Most ms that a fault lasts.
    pub lasts: u64,
    /// Mean time between the deeds of users, ms.
    pub work_pause: u64,
    /// Share of links over UDP, of 8.
    pub datagrams: u64,
    /// Most loss on a link, ‰.
    pub loss: u64,
    /// Some links are slow.
    pub slow_links: bool,
    /// Some nodes poll for work, as classic ones do.
    pub polling: bool,
    /// Largest transfer, in bytes.
    pub bytes: u64,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The program is killed and started again.
    Kill,
    /// The machine loses power and is started again.
    Crash,
    /// Connections are reset.
    Reset,
    /// Connections die without a word.
    Silence,
    /// A partition of two nodes.
    Cut,
    /// The same in one direction.
    CutOneWay,
    /// A node is cut off from all others.
    Island,
    /// A stopped process.
    Freeze,
    /// A wall clock that jumps.
    Clock,
    /// A disk without room.
    DiskFull,
    /// A disk that fails.
    DiskBroken,
    /// A slow disk.
    DiskSlow,
    /// A runner that dies.
    KillRunner,
}

/// All of them.
const KINDS: [Kind; 13] = [
    Kind::Kill,
    Kind::Crash,
    Kind::Reset,
    Kind::Silence,
    Kind::Cut,
    Kind::CutOneWay,
    Kind::Island,
    Kind::Freeze,
    Kind::Clock,
    Kind::DiskFull,
    Kind::DiskBroken,
    Kind::DiskSlow,
    Kind::KillRunner,
];

/// Wall clocks are wrong by less than what nodes ignore (24 h).
const CLOCK_RANGE: u64 = 10 * 3600;

impl Swarm {
    /// What the run with this seed may meet.
    pub fn draw(seed: u64) -> Self {
        let mut rng = chance(seed, "swarm", 0, 0);
        let one_of = |rng: &mut Rng, values: &[u64]| values[rng.below(values.len() as u64) as usize];
        Self {
            seed,
            faults: KINDS.into_iter().filter(|_| rng.below(2) == 0).collect(),
            pause: one_of(&mut rng, &[300, 1000, 3000, 10_000]),
            lasts: one_of(&mut rng, &[500, 5000, 30_000]),
            work_pause: one_of(&mut rng, &[100, 300, 1000]),
            datagrams: one_of(&mut rng, &[0, 0, 2, 8]),
            loss: one_of(&mut rng, &[0, 10, 50]),
            slow_links: rng.below(3) == 0,
            polling: rng.below(4) == 0,
            bytes: one_of(&mut rng, &[2000, 50_000, 500_000]),
        }
    }

    /// A plan of a size.
    pub fn plan(&self, nodes: usize, secs: u64) -> Plan {
        let mut plan = Plan {
            seed: self.seed,
            secs,
            nodes: Vec::new(),
            links: self.links(nodes),
            steps: Vec::new(),
        };
        let mut rng = chance(self.seed, "nodes", 0, 0);
        for _ in 0..nodes {
            plan.nodes.push(NodePlan {
                work_sessions: !self.polling || rng.below(2) == 0,
            });
        }
        self.work(nodes, secs, &mut plan.steps);
        self.trouble(&plan.links, nodes, secs, &mut plan.steps);
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    fn links(&self, nodes: usize) -> Vec<LinkPlan> {
        let mut rng = chance(self.seed, "topology", 0, 0);
        let shape = rng.below(4);
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for i in 1..nodes {
            let to = match shape {
                0 => 0,
                1 => i - 1,
                _ => rng.below(i as u64) as usize,
            };
            pairs.push((i, to));
        }
        let extra = match shape {
            0 => 0,
            1 => 1,
            _ => rng.below(nodes as u64),
        };
        for _ in 0..extra {
            let (a, b) = (rng.below(nodes as u64) as usize, rng.below(nodes as u64) as usize);
            if a != b && !pairs.contains(&(a, b)) && !pairs.contains(&(b, a)) {
                pairs.push((a, b));
            }
        }
        let delay = [100, 2000, 30_000][rng.below(3) as usize];
        let link = |(from, to)| {
            let mut rng = chance(self.seed, "link", from as u64, to as u64);
            let delay = 50 + rng.below(delay);
            LinkPlan {
                from,
                to,
                is_datagram: rng.below(8) < self.datagrams,
                cost: 1 + rng.below(40),
                delay,
                jitter: rng.below(delay),
                loss: rng.below(self.loss + 1),
                rate: if self.slow_links && rng.below(3) == 0 {
                    50 + rng.below(2000)
                } else {
                    0
                },
            }
        };
        pairs.into_iter().map(link).collect()
    }

    fn work(&self, nodes: usize, secs: u64, steps: &mut Vec<Step>) {
        let mut rng = chance(self.seed, "work", 0, 0);
        let mut at = 0;
        loop {
            at += rng.below(2 * self.work_pause * 12 / (nodes as u64).max(1)) + 1;
            if at >= secs * 1000 {
                return;
            }
            let action = self.deed(&mut rng, nodes);
            steps.push(Step { at, action });
        }
    }

    fn deed(&self, rng: &mut Rng, nodes: usize) -> Action {
        let mut below = |bound: u64| rng.below(bound) as i64;
        let node = below(nodes as u64);
        let to = below(nodes as u64);
        let back = below(4);
        match below(20) {
            0..=3 => Action::Ping { node, to },
            4 => Action::Traceroute { node, to },
            5..=9 => {
                let there = below(self.bytes);
                let reads = if below(4) == 0 { 5 + below(500) } else { 0 };
                let back = below(self.bytes);
                Action::Transfer {
                    node,
                    to,
                    there,
                    back,
                    reads,
                }
            }
            10 => Action::Advertise {
                node,
                service: below(3),
            },
            11 => Action::Withdraw {
                node,
                service: below(3),
            },
            12..=15 => {
                let program = below(4);
                let size = below(if program == 2 { 10_000 } else { self.bytes });
                let to = if below(4) == 0 { node } else { to };
                Action::Submit {
                    node,
                    to,
                    program,
                    size,
                }
            }
            16 => Action::Results {
                node,
                back,
                offset: below(2) * below(self.bytes),
            },
            17 => Action::Status { node, back },
            18 => Action::Cancel { node, back },
            _ => Action::Release { node, back },
        }
    }

    fn trouble(&self, links: &[LinkPlan], nodes: usize, secs: u64, steps: &mut Vec<Step>) {
        if self.faults.is_empty() {
            return;
        }
        let mut rng = chance(self.seed, "trouble", 0, 0);
        let mut at = 1000;
        loop {
            at += rng.below(2 * self.pause * 12 / (nodes as u64).max(1)) + 1;
            if at >= secs * 1000 {
                return;
            }
            let kind = self.faults[rng.below(self.faults.len() as u64) as usize];
            self.fault(&mut rng, kind, at, links, nodes, steps);
        }
    }

    fn fault(&self, rng: &mut Rng, kind: Kind, at: u64, links: &[LinkPlan], nodes: usize, steps: &mut Vec<Step>) {
        let node = rng.below(nodes as u64) as i64;
        let link = (!links.is_empty()).then(|| links[rng.below(links.len() as u64) as usize]);
        let (a, b) = link.map_or((0, 0), |link| (link.from as i64, link.to as i64));
        let (from, to) = if rng.below(2) == 0 { (a, b) } else { (b, a) };
        let lasts = rng.below(self.lasts) + 1;
        let mut push = |at, action| steps.push(Step { at, action });
        match kind {
            Kind::Kill => {
                push(at, Action::Kill { node });
                push(at + lasts, Action::Restart { node });
            }
            Kind::Crash => {
                push(at, Action::Crash { node });
                push(at + lasts, Action::Restart { node });
            }
            Kind::Reset => push(at, Action::Reset { a, b }),
            Kind::Silence => push(at, Action::Silence { a, b }),
            Kind::Cut => {
                push(at, Action::Cut { a, b });
                push(at + lasts, Action::Mend { a, b });
            }
            Kind::CutOneWay => {
                push(at, Action::CutOneWay { from, to });
                push(at + lasts, Action::Mend { a, b });
            }
            Kind::Island => {
                for link in links
                    .iter()
                    .filter(|link| [link.from, link.to].contains(&(node as usize)))
                {
                    let (a, b) = (link.from as i64, link.to as i64);
                    push(at, Action::Cut { a, b });
                    push(at + lasts, Action::Mend { a, b });
                }
            }
            Kind::Freeze => push(at, Action::Freeze { node, ms: lasts as i64 }),
            Kind::Clock => {
                let ahead = rng.below(2 * CLOCK_RANGE) as i64 - CLOCK_RANGE as i64;
                push(at, Action::Clock { node, ahead });
            }
            Kind::DiskFull => {
                push(at, Action::DiskFull { node });
                push(at + lasts, Action::DiskWell { node });
            }
            Kind::DiskBroken => {
                push(at, Action::DiskBroken { node });
                push(at + lasts, Action::DiskWell { node });
            }
            Kind::DiskSlow => {
                let times = rng.below(300) as i64 + 2;
                push(at, Action::DiskSlow { node, times });
                push(at + lasts, Action::DiskWell { node });
            }
            Kind::KillRunner => {
                let which = rng.below(8) as i64;
                push(at, Action::KillRunner { node, which });
            }
        }
    }
}
