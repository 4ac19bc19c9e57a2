//! A small mesh of routers under virtual time.

mod classic;
mod data;
mod firewall;
mod garbage;
mod rules;
mod world;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::time::Wall;
use crate::wire::{self, Kind};

/// When tests begin.
const START: u64 = 1_700_000_000;

fn now_at(mono: Instant) -> Now {
    Now {
        mono,
        wall: Wall::from_secs(START) + Duration::from_nanos(mono.as_nanos()),
    }
}

fn epoch(secs: u64) -> u64 {
    (START + secs) << 24
}

fn router(name: &str, seed: u8) -> Router {
    let now = now_at(Instant::ZERO);
    let mut router = Router::new(name.into(), 1, Limits::default(), Rng::from_seed([seed; 32]), now);
    router.set_epoch(now, epoch(0));
    router
}

#[derive(Debug)]
struct Wire {
    ends: [usize; 2],
    /// Both ends see a classic node at the other.
    classic: bool,
    cost: f64,
    delay: Duration,
    up: bool,
    accepted: [bool; 2],
    listed: [bool; 2],
    /// Latest arrival at each end: frames do not overtake.
    last: [Instant; 2],
}

/// Routers and the wires between them. A wire's index is its link ID at both ends.
#[derive(Debug)]
struct Mesh {
    now: Instant,
    routers: Vec<Router>,
    wires: Vec<Wire>,
    queue: BTreeMap<(Instant, u64), (usize, usize, BytesMut)>,
    sent: u64,
    /// Frames by kind since the last look.
    counts: BTreeMap<&'static str, usize>,
    largest: usize,
    events: Vec<Vec<RouterOutput>>,
    rng: Rng,
    /// One in so many extended frames is lost; 0 for none.
    loss: u64,
}

impl Mesh {
    fn new(nodes: usize, seed: u8) -> Self {
        Self {
            now: Instant::ZERO,
            routers: (0..nodes)
                .map(|i| router(&name(i), seed.wrapping_mul(31).wrapping_add(i as u8)))
                .collect(),
            wires: vec![],
            queue: BTreeMap::new(),
            sent: 0,
            counts: BTreeMap::new(),
            largest: 0,
            events: vec![vec![]; nodes],
            rng: Rng::from_seed([seed; 32]),
            loss: 0,
        }
    }

    fn connect(&mut self, a: usize, b: usize, classic: bool) -> usize {
        let cost = (1 + self.rng.below(3)) as f64;
        let delay = Duration::from_millis(1 + self.rng.below(20));
        self.wires.push(Wire {
            ends: [a, b],
            classic,
            cost,
            delay,
            up: false,
            accepted: [false; 2],
            listed: [false; 2],
            last: [Instant::ZERO; 2],
        });
        self.open(self.wires.len() - 1);
        self.wires.len() - 1
    }

    fn open(&mut self, wire: usize) {
        let w = &mut self.wires[wire];
        (w.up, w.accepted, w.listed) = (true, [false; 2], [false; 2]);
        for end in 0..2 {
            let node = self.wires[wire].ends[end];
            let hello = self.routers[node].hello(now_at(self.now));
            self.transmit(wire, end, BytesMut::from(&hello[..]));
        }
    }

    fn cut(&mut self, wire: usize) {
        self.wires[wire].up = false;
        self.queue.retain(|_, (w, ..)| *w != wire);
        for node in self.wires[wire].ends {
            self.routers[node].link_lost(now_at(self.now), LinkId(wire as u64));
            self.drain(node);
        }
    }

    fn transmit(&mut self, wire: usize, from: usize, mut frame: BytesMut) {
        let kind = wire::kind(&frame).expect("empty frames must not be sent");
        let name = match kind {
            Kind::Data => "data",
            Kind::Route => "route",
            Kind::Advert => "advert",
            Kind::Extended if frame[0] == 0x40 => "keepalive",
            Kind::Extended => "extended",
            _ => panic!("unexpected kind"),
        };
        *self.counts.entry(name).or_default() += 1;
        self.largest = self.largest.max(frame.len());
        let w = &mut self.wires[wire];
        if !w.up || (kind == Kind::Extended && self.loss > 0 && self.rng.below(self.loss) == 0) {
            return;
        }
        if w.classic && kind == Kind::Route {
            // As if the other end were a classic node: no `Ext` arrives.
            let mut update = RoutingUpdate::parse(&frame).unwrap();
            update.ext = None;
            frame = BytesMut::from(&update.emit()[..]);
        }
        let at = (self.now + w.delay).max(w.last[1 - from]);
        w.last[1 - from] = at;
        self.sent += 1;
        self.queue.insert((at, self.sent), (wire, 1 - from, frame));
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.routers[node].poll_output() {
            match output {
                RouterOutput::Send(link, _, frame) => {
                    let wire = link.0 as usize;
                    let end = usize::from(self.wires[wire].ends[1] == node);
                    self.transmit(wire, end, frame);
                }
                RouterOutput::RaiseEpoch(epoch) => {
                    self.routers[node].set_epoch(now_at(self.now), epoch);
                    self.events[node].push(RouterOutput::RaiseEpoch(epoch));
                }
                other => self.events[node].push(other),
            }
        }
    }

    fn arrive(&mut self, wire: usize, end: usize, mut frame: BytesMut) {
        let node = self.wires[wire].ends[end];
        let link = LinkId(wire as u64);
        let now = now_at(self.now);
        let accepted = self.wires[wire].accepted[end];
        let own = name(node);
        match wire::kind(&frame).unwrap() {
            Kind::Route => {
                let update = RoutingUpdate::parse(&frame).unwrap();
                assert!(!update.forwarding_node.is_empty());
                let w = &mut self.wires[wire];
                if !accepted {
                    w.accepted[end] = true;
                    let cost = w.cost;
                    self.routers[node].link_accepted(now, link, cost, &update, 60_000);
                } else if update.node_id == update.forwarding_node && update.suspected_duplicate == 0 {
                    // The checks of a classic session (`wire.md` §11).
                    match update.connections.as_ref().unwrap().get(&own) {
                        Some(&cost) => {
                            assert_eq!(cost, w.cost);
                            w.listed[end] = true;
                            self.routers[node].on_route(now, link, &update);
                        }
                        None => assert!(!w.listed[end], "a classic node would close the session"),
                    }
                } else {
                    self.routers[node].on_route(now, link, &update);
                }
            }
            _ if !accepted => {}
            Kind::Advert => self.routers[node].on_advert(now, link, &frame),
            Kind::Extended => {
                assert!(!self.wires[wire].classic, "a classic node would not understand");
                self.routers[node].on_extended(now, link, &frame);
            }
            Kind::Data => match self.routers[node].classify_data(now, &mut frame) {
                DataVerdict::Forward(link) => {
                    let wire = link.0 as usize;
                    let end = usize::from(self.wires[wire].ends[1] == node);
                    self.transmit(wire, end, frame);
                }
                DataVerdict::Deliver(header) => self.routers[node].service_unknown(now, &header),
                DataVerdict::Port(..) | DataVerdict::Consumed | DataVerdict::Drop(_) => {}
            },
            _ => unreachable!(),
        }
        self.drain(node);
    }

    /// Lets virtual time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for node in 0..self.routers.len() {
            self.drain(node);
        }
        loop {
            let frame = self.queue.keys().next().map(|k| k.0);
            let timer = (self.routers.iter())
                .filter_map(|r| match r.next_deadline() {
                    Deadline::Now => panic!("outputs are drained"),
                    Deadline::At(at, _) => Some(at),
                    Deadline::Idle => None,
                })
                .min();
            let Some(next) = frame.into_iter().chain(timer).min().filter(|&at| at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if frame == Some(next) {
                let (_, (wire, end, frame)) = self.queue.pop_first().unwrap();
                self.arrive(wire, end, frame);
                continue;
            }
            for node in 0..self.routers.len() {
                if self.routers[node].next_deadline().is_due(self.now) {
                    self.routers[node].handle_timeout(now_at(self.now));
                    self.drain(node);
                    let again = self.routers[node].next_deadline();
                    assert!(!again.is_due(self.now), "a deadline must move: {again:?}");
                }
            }
        }
        self.now = end;
    }

    fn run_secs(&mut self, secs: u64) {
        self.run(Duration::from_secs(secs));
    }

    /// Every node has a route to every other.
    fn is_whole(&self) -> bool {
        self.routers
            .iter()
            .all(|r| r.reachable_nodes() == self.routers.len() - 1)
    }

    fn digests(&self) -> BTreeSet<u64> {
        self.routers.iter().map(Router::digest).collect()
    }

    /// Follows next hops; panics on a loop or a hole.
    fn check_routes(&self) {
        for (from, router) in self.routers.iter().enumerate() {
            for to in router.routing_table().keys() {
                let mut at = from;
                for _ in 0..self.routers.len() {
                    if name(at) == to.as_str() {
                        break;
                    }
                    let next = self.routers[at].routing_table()[to].clone();
                    at = number(next.as_str());
                }
                assert_eq!(name(at), to.as_str(), "no loop on the way from {}", name(from));
            }
        }
    }

    fn services_seen_by(&self, node: usize) -> Vec<String> {
        let adverts = self.routers[node].adverts(now_at(self.now));
        adverts
            .into_iter()
            .map(|a| format!("{}:{}", a.node, a.service))
            .collect()
    }

    fn ping(&mut self, from: usize, to: &str) -> TraceHop {
        self.routers[from].ping(now_at(self.now), ProbeToken(1), to);
        self.drain(from);
        self.run_secs(11);
        let done = self.events[from].iter().rev().find_map(|e| match e {
            RouterOutput::PingDone { result, .. } => Some(result.clone()),
            _ => None,
        });
        done.expect("every ping ends")
    }
}

fn name(node: usize) -> String {
    format!("n{node}")
}

fn number(name: &str) -> usize {
    name[1..].parse().unwrap()
}

/// Frames that a router sends on its own, by link.
fn sent(router: &mut Router) -> Vec<(u64, Vec<u8>)> {
    let mut frames = vec![];
    while let Some(output) = router.poll_output() {
        if let RouterOutput::Send(link, _, frame) = output {
            frames.push((link.0, frame.to_vec()));
        }
    }
    frames
}

fn updates(frames: &[(u64, Vec<u8>)]) -> Vec<(u64, RoutingUpdate)> {
    let routes = frames.iter().filter(|(_, f)| f[0] == 1);
    routes
        .map(|(link, f)| (*link, RoutingUpdate::parse(f).unwrap()))
        .collect()
}

fn update(node: &str, by: &str, sequence: u64, connections: &[(&str, f64)]) -> RoutingUpdate {
    RoutingUpdate {
        node_id: node.into(),
        update_id: format!("{node}-{by}-{sequence}-{}", connections.len()),
        epoch: epoch(0),
        sequence,
        connections: Some(connections.iter().map(|(n, c)| (n.to_string(), *c)).collect()),
        forwarding_node: by.into(),
        suspected_duplicate: 0,
        ext: None,
    }
}

/// Passes time in small steps, so that several deadlines come one after the other. Returns what was sent.
fn pass(router: &mut Router, from: &mut Instant, time: Duration) -> Vec<(u64, Vec<u8>)> {
    let end = *from + time;
    let mut frames = sent(router);
    while let Deadline::At(at, _) = router.next_deadline() {
        if at > end {
            break;
        }
        router.handle_timeout(now_at(at.max(*from)));
        frames.extend(sent(router));
    }
    *from = end;
    frames
}
