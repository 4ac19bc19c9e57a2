//! Runs a plan: faults and work first, then everything is mended, and what must work again is demanded.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use receptor_core::config::{Backend, BackendKind, Config, ListenerTransport, PeerTransport};
use receptor_core::time::{Duration, Instant};

use crate::chance::chance;
use crate::invariants::{self, Invariant, Violation};
use crate::pair;
use crate::plan::{Action, Plan};
use crate::users::{Counts, Users, name};
use crate::world::{LinkOptions, World};

/// After the last fault is mended the mesh needs this long at most: dead links are noticed after 21 s, peers are dialled again
/// after 20 s.
const QUIET: Duration = Duration::from_secs(60);

/// Fresh work is done within this time.
const FRESH: Duration = Duration::from_secs(90);

/// Accepted units are over within this time.
const UNITS: Duration = Duration::from_secs(400);

/// What users do at the end, as in the plan: programs.
const COPY: i64 = 0;
const WRITE: i64 = 1;

/// How a run went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Of the trace.
    pub digest: u64,
    /// Its lines.
    pub lines: u64,
    /// Frames delivered.
    pub frames: u64,
    /// Virtual time.
    pub time: Duration,
    /// What users did.
    pub counts: Counts,
}

/// A run that went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What must not have been.
    pub violation: Violation,
    /// When.
    pub at: Duration,
    /// The last lines of the trace.
    pub tail: String,
}

#[derive(Debug)]
struct Run {
    world: World,
    users: Users,
    invariants: Vec<Box<dyn Invariant>>,
}

/// Runs a plan to its end. The trace is written to a file if there is one.
///
/// # Errors
/// An invariant did not hold.
///
/// # Panics
/// A node was misused or said something impossible, which is as bad.
pub fn run(plan: &Plan, trace: Option<File>) -> Result<Summary, Box<Failure>> {
    let mut run = Run {
        world: World::new(plan.seed),
        users: Users::default(),
        invariants: invariants::all(),
    };
    if let Some(trace) = trace {
        run.world.trace.write_to(trace);
    }
    run.world.watch();
    match run.through(plan) {
        Ok(()) => Ok(Summary {
            digest: run.world.trace.digest(),
            lines: run.world.trace.lines,
            frames: run.world.trace.frames,
            time: run.world.elapsed(),
            counts: run.users.counts,
        }),
        Err(violation) => Err(Box::new(Failure {
            violation,
            at: run.world.elapsed(),
            tail: run.world.trace.tail(),
        })),
    }
}

/// As [`run`], and a panic is a failure like others: `no_panic`. When it was is not known.
///
/// # Errors
/// As [`run`].
pub fn run_caught(plan: &Plan, trace: Option<File>) -> Result<Summary, Box<Failure>> {
    catch_unwind(AssertUnwindSafe(|| run(plan, trace))).unwrap_or_else(|panic| {
        let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (_, Some(text)) => (*text).to_owned(),
            _ => "a panic".to_owned(),
        };
        let violation = Violation {
            invariant: "no_panic",
            text,
        };
        Err(Box::new(Failure {
            violation,
            at: Duration::ZERO,
            tail: String::new(),
        }))
    })
}

impl Run {
    fn through(&mut self, plan: &Plan) -> Result<(), Violation> {
        self.start(plan);
        for step in &plan.steps {
            let at = step.at.min(plan.secs * 1000);
            self.until(Instant::from_millis(at), |_| false)?;
            self.apply(step.action);
            self.watch()?;
        }
        self.until(Instant::from_millis(plan.secs * 1000), |_| false)?;
        self.mend();
        self.pause(QUIET)?;
        // Where datagrams are lost, so are keepalives, and now and then a link with them: it is not always a good moment.
        let moments = if plan.links.iter().any(|link| link.is_datagram && link.loss > 0) {
            4
        } else {
            1
        };
        for moment in 1..=moments {
            match self.at_rest() {
                Err(_) if moment < moments => self.pause(QUIET)?,
                other => {
                    other?;
                    break;
                }
            }
        }
        self.fresh_service(plan)?;
        self.finish_units()
    }

    fn start(&mut self, plan: &Plan) {
        for link in &plan.links {
            let options = LinkOptions {
                delay: Duration::from_micros(link.delay),
                jitter: Duration::from_micros(link.jitter),
                loss_per_mille: link.loss,
                twice_per_mille: if link.is_datagram { link.loss } else { 0 },
                rate: (link.rate > 0).then_some(link.rate << 10),
                ..LinkOptions::default()
            };
            self.world.network.set_direction(link.from, link.to, options);
            self.world.network.set_direction(link.to, link.from, options);
        }
        for (index, node) in plan.nodes.iter().enumerate() {
            let mut config = config(plan, index);
            config.work_sessions = node.work_sessions;
            self.world.start(config);
        }
    }

    /// Runs on and looks at everything that happens.
    fn until(&mut self, end: Instant, mut is_done: impl FnMut(&Self) -> bool) -> Result<bool, Violation> {
        let mut look = self.world.now();
        self.watch()?;
        while self.world.step(end) {
            self.watch()?;
            if self.world.now() >= look {
                look = self.world.now() + Duration::from_secs(1);
                self.users.overdue(&self.world)?;
                if is_done(self) {
                    return Ok(true);
                }
            }
        }
        self.world.run_for(end.since(self.world.now()));
        self.watch()?;
        Ok(is_done(self))
    }

    fn pause(&mut self, time: Duration) -> Result<(), Violation> {
        self.until(self.world.now() + time, |_| false).map(|_| ())
    }

    /// Shows the invariants and the users what has happened.
    fn watch(&mut self) -> Result<(), Violation> {
        loop {
            let observed = self.world.take_observed();
            if observed.is_empty() {
                return Ok(());
            }
            for what in &observed {
                for invariant in &mut self.invariants {
                    invariant.on(&self.world, what).map_err(|text| Violation {
                        invariant: invariant.name(),
                        text,
                    })?;
                }
                self.users.on(&mut self.world, what)?;
            }
        }
    }

    fn apply(&mut self, action: Action) {
        let node = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        let world = &mut self.world;
        let exists = |number: i64| node(number) < world.len();
        let is_up = |number: i64| exists(number) && world.host(node(number)).is_up();
        match action {
            Action::Kill { node: n } if is_up(n) => world.kill(node(n)),
            Action::Crash { node: n } if is_up(n) => world.crash(node(n)),
            Action::Restart { node: n } if exists(n) && !is_up(n) => world.restart(node(n)),
            Action::Reset { a, b } => world.cut_between(node(a), node(b)),
            Action::Silence { a, b } => world.silence(node(a), node(b)),
            Action::Cut { a, b } => world.network.partition(node(a), node(b)),
            Action::CutOneWay { from, to } => world.network.cut_one_way(node(from), node(to)),
            Action::Mend { a, b } => world.network.mend(node(a), node(b)),
            Action::Freeze { node: n, ms } if is_up(n) => {
                world.freeze(node(n), Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            }
            Action::Clock { node: n, ahead } if exists(n) => world.set_clock(node(n), ahead),
            Action::DiskFull { node: n } if exists(n) => world.disk(node(n)).full = true,
            Action::DiskBroken { node: n } if exists(n) => world.disk(node(n)).broken = true,
            Action::DiskSlow { node: n, times } if exists(n) => {
                world.disk(node(n)).slowness = u32::try_from(times).unwrap_or(1);
            }
            Action::DiskWell { node: n } if exists(n) => world.disk(node(n)).recover(),
            Action::KillRunner { node: n, which } if exists(n) => {
                world.kill_runner(node(n), u64::try_from(which).unwrap_or(0));
            }
            _ => {}
        }
        self.users.act(&mut self.world, action);
    }

    fn mend(&mut self) {
        self.world.network.heal();
        for node in 0..self.world.len() {
            self.world.disk(node).recover();
            self.world.thaw(node);
            if !self.world.host(node).is_up() {
                self.world.restart(node);
            }
        }
    }

    fn at_rest(&mut self) -> Result<(), Violation> {
        for invariant in &mut self.invariants {
            invariant
                .at_rest(&mut self.world, &self.users)
                .map_err(|text| Violation {
                    invariant: invariant.name(),
                    text,
                })?;
        }
        self.watch()
    }

    /// Everything works, at once.
    fn fresh_service(&mut self, plan: &Plan) -> Result<(), Violation> {
        let nodes = self.world.len();
        for node in 0..nodes {
            let other = |round: u64| {
                let mut rng = chance(plan.seed, "fresh", node as u64, round);
                rng.below(nodes as u64) as usize
            };
            // A data frame may be lost where a link loses frames.
            let is_lossless = plan.links.iter().all(|link| link.loss == 0);
            self.users.ping(&mut self.world, node, other(0), is_lossless);
            self.users
                .transfer(&mut self.world, node, other(1), (3000, 3000), 0, true);
            let program = if node % 2 == 0 { COPY } else { WRITE };
            self.users.submit(&mut self.world, node, other(2), program, 3000, true);
        }
        let end = self.world.now() + FRESH;
        if !self.until(end, |run| run.users.unfinished().is_empty())? {
            let left = self.users.unfinished().join("; ");
            return Violation::of("fresh_service", format!("not done after {FRESH:?}: {left}"));
        }
        Ok(())
    }

    /// Everything that was accepted comes to its end, and then stays as it was told.
    fn finish_units(&mut self) -> Result<(), Violation> {
        let end = self.world.now() + UNITS;
        while self.users.ask_for_states(&mut self.world) > 0 {
            if self.world.now() >= end {
                let left = self.users.open_units().join("; ");
                return Violation::of("unit_state", format!("not over after {UNITS:?}: {left}"));
            }
            self.pause(Duration::from_secs(5))?;
        }
        self.users.read_all(&mut self.world);
        let end = self.world.now() + FRESH;
        if !self.until(end, |run| run.users.unfinished().is_empty())? {
            let left = self.users.unfinished().join("; ");
            return Violation::of("fresh_service", format!("not done after {FRESH:?}: {left}"));
        }
        Ok(())
    }
}

fn config(plan: &Plan, index: usize) -> Config {
    let own = name(index);
    let udp = |name: &str| format!("{name}/udp");
    let mut backends = vec![
        pair::listener(&own),
        Backend::new(BackendKind::Listener {
            bind: udp(&own),
            transport: ListenerTransport::Udp,
        }),
    ];
    for link in plan.links.iter().filter(|link| link.from == index) {
        let mut backend = pair::peer(&name(link.to));
        if link.is_datagram {
            backend.kind = BackendKind::Peer {
                address: udp(&name(link.to)),
                redial: true,
                transport: PeerTransport::Udp,
            };
        }
        backend.cost = link.cost as f64 / 10.0;
        backends.push(backend);
    }
    // Both ends of a link must have the same cost.
    for link in plan.links.iter().filter(|link| link.to == index) {
        let which = usize::from(link.is_datagram);
        let cost = link.cost as f64 / 10.0;
        backends[which].node_costs.insert(name(link.from).as_str().into(), cost);
    }
    let mut config = pair::node(&own, &backends);
    // So small that slow links reach them.
    config.limits.link_queue_bytes = 128 << 10;
    config.limits.node_queue_bytes = 512 << 10;
    config
}
