use alloc::string::String;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::*;
use crate::config::{Backend, BackendKind, Config};
use crate::id::{BackendId, ServiceName};
use crate::node::io::{Event, LinkOutput};
use crate::node::netceptor::NetOutput;
use crate::wire::data::Header;
use crate::wire::extended::{self, Message};
use crate::wire::{self, Kind};

struct Bench {
    net: Netceptor,
    now: Now,
    closed: Vec<LinkId>,
    log: Vec<String>,
    /// The peer is one of our kind.
    is_ours: bool,
}

const OLD: LinkId = LinkId(1);
const NEW: LinkId = LinkId(2);
const THIRD: LinkId = LinkId(3);

/// Two that the program brings links for, one that accepts, one that dials.
const LISTENER: u64 = 2;
const PEER: u64 = 3;

/// No certificate; one without names; one of this node.
const NONE: Option<bool> = None;
const NAMELESS: Option<bool> = Some(false);
const NAMED: Option<bool> = Some(true);

impl Bench {
    fn new() -> Self {
        let mut config = Config::new("me".into());
        config.backends = [
            BackendKind::External,
            BackendKind::External,
            BackendKind::listener("a:1"),
            BackendKind::peer("b:1"),
        ]
        .map(Backend::new)
        .into();
        let now = Now::default();
        let mut net = Netceptor::new(&config, [7; 32], now).unwrap();
        net.begin(now, 1);
        net.open(now);
        Self {
            net,
            now,
            closed: Vec::new(),
            log: Vec::new(),
            is_ours: false,
        }
    }

    fn up(&mut self, link: LinkId, backend: u64, proof: Option<bool>) {
        let certified = proof.map(|is_named| if is_named { ["peer".into()].into() } else { [].into() });
        let remote = alloc::format!("address-{}", link.0);
        self.net
            .link_up(self.now, link, BackendId(backend), remote, certified)
            .unwrap();
    }

    fn update(&self, node: &str, link: LinkId, sequence: u64, connections: &str) -> BytesMut {
        let ext = if self.is_ours { ",\"Ext\":{\"V\":1,\"C\":1}" } else { "" };
        let text = alloc::format!(
            "\u{1}{{\"NodeID\":\"{node}\",\"UpdateID\":\"id{:06}\",\"UpdateEpoch\":1,\"UpdateSequence\":{sequence},\
             \"Connections\":{connections},\"ForwardingNode\":\"{node}\",\"SuspectedDuplicate\":0{ext}}}",
            sequence + 1000 * link.0
        );
        text.as_bytes().into()
    }

    /// An update of the peer that lists us or not.
    fn says(&mut self, link: LinkId, sequence: u64, lists_us: bool) {
        let update = self.update("peer", link, sequence, if lists_us { "{\"me\":1}" } else { "{}" });
        self.net.link_frame(self.now, link, update).unwrap();
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            while let Some(output) = self.net.poll_output() {
                match output {
                    NetOutput::Link(link, LinkOutput::Close) => self.closed.push(link),
                    NetOutput::Event(Event::Log(_, line)) => self.log.push(line),
                    _ => {}
                }
            }
            match self.net.next_deadline() {
                Deadline::At(at, _) if at <= end => self.now.mono = at.max(self.now.mono),
                Deadline::Now => {}
                _ => break,
            }
            self.net.handle_timeout(self.now);
        }
        self.now.mono = end;
    }

    /// A link of the peer, established.
    fn established(&mut self, link: LinkId, backend: u64, proof: Option<bool>) {
        self.up(link, backend, proof);
        self.says(link, 1, false);
        self.says(link, 2, true);
        self.passes(Duration::from_secs(1));
    }

    fn says_hello(&mut self, link: LinkId, backend: u64, proof: Option<bool>) {
        self.up(link, backend, proof);
        self.says(link, 3, false);
    }

    /// The old link, established; then a second later the new one says hello.
    fn contested(backend: u64, old: Option<bool>, newer: Option<bool>) -> Self {
        let mut bench = Self::new();
        bench.established(OLD, 0, old);
        bench.says_hello(NEW, backend, newer);
        bench
    }

    /// The classic question that waits on a link, and its answer.
    fn pong(&mut self, link: LinkId) -> Option<BytesMut> {
        let mut frames = Vec::new();
        self.net.pull_frames(self.now, link, usize::MAX, &mut frames);
        let ping = frames.iter().find(|frame| wire::kind(frame) == Some(Kind::Data))?;
        let ping = Header::parse(ping).unwrap();
        assert_eq!(ping.to_service, ServiceName::PING);
        let answer = Header {
            from: ping.to,
            to: ping.from,
            from_service: ping.to_service,
            to_service: ping.from_service,
            ..ping
        };
        Some(BytesMut::from(&answer.to_bytes()[..]))
    }

    fn answers(&mut self, link: LinkId) {
        let pong = self.pong(link).expect("it was asked");
        self.passes(Duration::from_millis(10));
        self.net.link_frame(self.now, link, pong).unwrap();
    }

    fn peers(&self) -> Vec<LinkId> {
        self.net.router().connections().iter().map(|(link, ..)| *link).collect()
    }

    #[track_caller]
    fn is(&self, closed: &[LinkId], peers: &[LinkId]) {
        assert_eq!((&self.closed[..], &self.peers()[..]), (closed, peers), "{:?}", self.log);
        assert!(
            self.net.contests.len() <= 1,
            "one contest per peer: {:?}",
            self.net.contests
        );
    }
}

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn an_old_one_that_answers_stays() {
    let mut bench = Bench::contested(0, NONE, NONE);
    bench.answers(OLD);
    bench.passes(MOMENT);
    bench.is(&[NEW], &[OLD]);
    assert!(
        bench.log.iter().any(|line| line.contains("already connected")),
        "{:?}",
        bench.log
    );
}

#[test]
fn an_answer_by_another_way_counts_as_well() {
    let mut bench = Bench::new();
    bench.established(OLD, 0, NONE);
    bench.up(THIRD, 0, NONE);
    for connections in ["{}", "{\"me\":1,\"peer\":1}"] {
        let update = bench.update("third", THIRD, 4 + connections.len() as u64, connections);
        bench.net.link_frame(bench.now, THIRD, update).unwrap();
    }
    bench.says_hello(NEW, 0, NONE);
    let pong = bench.pong(OLD).expect("it was asked");
    bench.passes(Duration::from_millis(10));
    bench.net.link_frame(bench.now, THIRD, pong).unwrap();
    bench.passes(MOMENT);
    bench.is(&[NEW], &[OLD, THIRD]);
}

#[test]
fn one_of_ours_is_asked_for_what_comes_back_over_the_same_link() {
    let mut bench = Bench::new();
    bench.is_ours = true;
    bench.established(OLD, 0, NONE);
    let mut frames = Vec::new();
    bench.net.pull_frames(bench.now, OLD, usize::MAX, &mut frames);
    bench.says_hello(NEW, 0, NONE);
    frames.clear();
    bench.net.pull_frames(bench.now, OLD, usize::MAX, &mut frames);
    let asks = frames.iter().flat_map(|frame| extended::messages(frame)).any(|message| {
        matches!(message, Ok(Message::Request(request)) if request.nodes == ["peer"] && request.adverts.is_empty())
    });
    assert!(asks, "{frames:?}");
    bench.passes(LIMIT);
    bench.is(&[OLD], &[NEW]);
}

#[test]
fn an_old_one_that_is_silent_is_given_up_after_two_seconds() {
    let mut bench = Bench::contested(0, NONE, NONE);
    bench.passes(LIMIT - Duration::from_millis(1));
    bench.is(&[], &[OLD]);
    // What it says meanwhile changes nothing.
    bench.says(NEW, 4, true);
    bench.passes(Duration::from_millis(1));
    bench.is(&[OLD], &[NEW]);
    bench.says(NEW, 5, true);
    bench.passes(Duration::from_secs(1));
    bench.is(&[OLD], &[NEW]);
}

#[test]
fn who_is_silent_is_asked_again() {
    let mut bench = Bench::contested(0, NONE, NONE);
    let asked = (0..40).filter(|_| {
        let asked = bench.pong(OLD).is_some();
        bench.passes(Duration::from_millis(50));
        asked
    });
    assert_eq!(asked.count(), 1 + 3, "at the start, and at each look but the last");
}

#[test]
fn a_certificate_of_the_same_node_needs_no_question() {
    let mut bench = Bench::contested(0, NAMED, NAMED);
    bench.passes(Duration::ZERO);
    bench.is(&[OLD], &[NEW]);
    // But one after the other is not driven out so fast.
    bench.says(NEW, 4, true);
    bench.passes(Duration::from_secs(1));
    bench.says_hello(THIRD, 0, NAMED);
    bench.passes(Duration::from_millis(500));
    assert_eq!(bench.peers(), [NEW]);
    bench.says(NEW, 6, true);
    bench.passes(Duration::from_millis(1000));
    bench.is(&[OLD, THIRD], &[NEW]);
}

#[test]
fn a_peer_with_two_connections_by_its_configuration_keeps_one() {
    let mut bench = Bench::contested(0, NAMED, NAMED);
    bench.says(NEW, 4, true);
    for attempt in 0..100 {
        // The one that lost comes again every five seconds, and the other lives.
        bench.passes(Duration::from_secs(5));
        let again = LinkId(10 + attempt);
        bench.says(NEW, 100 + 2 * attempt, true);
        bench.passes(Duration::from_millis(1));
        bench.says_hello(again, 0, NAMED);
        bench.passes(Duration::from_millis(1));
        bench.says(NEW, 101 + 2 * attempt, true);
        bench.passes(Duration::from_secs(1));
        assert_eq!(bench.peers(), [NEW], "{:?}", bench.log);
    }
    assert_eq!(bench.closed.len(), 1 + 100);
}

#[test]
fn who_proves_less_is_refused_at_once() {
    for (old, newer) in [(NAMED, NONE), (NAMED, NAMELESS), (NAMELESS, NONE)] {
        for backend in [0, 1] {
            let mut bench = Bench::contested(backend, old, newer);
            bench.passes(Duration::ZERO);
            bench.is(&[NEW], &[OLD]);
            assert!(bench.net.contests.is_empty());
        }
    }
}

#[test]
fn a_certificate_without_names_replaces_nobody_unasked() {
    for (old, newer) in [(NONE, NAMELESS), (NAMELESS, NAMELESS)] {
        let mut bench = Bench::contested(0, old, newer);
        bench.answers(OLD);
        bench.passes(MOMENT);
        bench.is(&[NEW], &[OLD]);
    }
}

#[test]
fn over_another_backend_it_is_asked_all_the_same() {
    let mut bench = Bench::contested(1, NAMED, NAMED);
    bench.passes(Duration::from_secs(1));
    bench.is(&[], &[OLD]);
    bench.passes(Duration::from_secs(1));
    bench.is(&[OLD], &[NEW]);
}

#[test]
fn strangers_that_claim_its_name_never_drive_out_who_answers() {
    let mut bench = Bench::contested(0, NONE, NONE);
    for attempt in 0..200 {
        bench.answers(OLD);
        bench.passes(MOMENT);
        let stranger = LinkId(10 + attempt);
        bench.says_hello(stranger, attempt % 2, NONE);
    }
    bench.answers(OLD);
    bench.passes(MOMENT);
    assert_eq!(bench.peers(), [OLD]);
    assert!(!bench.closed.contains(&OLD));
}

#[test]
fn a_newcomer_that_goes_leaves_nothing() {
    let mut bench = Bench::contested(0, NONE, NONE);
    bench.net.link_down(bench.now, NEW, "gone").unwrap();
    assert!(bench.net.contests.is_empty());
    bench.passes(Duration::from_secs(3));
    bench.is(&[], &[OLD]);
    // Nor one that we close ourselves, say for want of room.
    let mut bench = Bench::contested(0, NONE, NONE);
    bench.net.close_link(bench.now, NEW, &Refusal::Crowded(1), false);
    assert!(bench.net.contests.is_empty());
    bench.passes(Duration::from_secs(3));
    bench.is(&[NEW], &[OLD]);
}

#[test]
fn when_the_old_one_goes_meanwhile_the_newer_one_is_taken() {
    for speaks_again in [false, true] {
        let mut bench = Bench::contested(0, NONE, NONE);
        bench.net.link_down(bench.now, OLD, "gone").unwrap();
        if speaks_again {
            // Its next hello finds nobody in its way, before anybody has looked.
            bench.says(NEW, 4, false);
        }
        bench.passes(Duration::from_millis(1));
        bench.is(&[], &[NEW]);
        bench.says(NEW, 5, true);
        bench.passes(Duration::from_secs(3));
        bench.is(&[], &[NEW]);
    }
}

#[test]
fn a_third_one_is_refused_unless_it_proves_more() {
    let mut bench = Bench::contested(0, NONE, NONE);
    bench.says_hello(THIRD, 0, NONE);
    bench.passes(Duration::ZERO);
    bench.is(&[THIRD], &[OLD]);
    let fourth = LinkId(4);
    bench.says_hello(fourth, 1, NAMED);
    bench.passes(Duration::ZERO);
    bench.is(&[THIRD, NEW], &[OLD]);
    bench.passes(LIMIT);
    bench.is(&[THIRD, NEW, OLD], &[fourth]);
}

#[test]
fn two_dials_that_cross_leave_the_one_of_the_smaller_name() {
    // `me` is smaller than `peer`: both ends keep what we dialled.
    for (first, second, kept) in [(PEER, LISTENER, OLD), (LISTENER, PEER, NEW)] {
        let mut bench = Bench::new();
        bench.is_ours = true;
        bench.up(OLD, first, NONE);
        bench.says(OLD, 1, false);
        bench.says_hello(NEW, second, NONE);
        bench.passes(Duration::ZERO);
        let other = if kept == OLD { NEW } else { OLD };
        bench.is(&[other], &[kept]);
    }
    // With a classic node nobody knows which it keeps, and with less proof none is kept.
    for (is_ours, proof) in [(false, NONE), (true, NAMED)] {
        let mut bench = Bench::new();
        bench.is_ours = is_ours;
        bench.up(OLD, LISTENER, proof);
        bench.says(OLD, 1, false);
        bench.says_hello(NEW, PEER, NONE);
        bench.passes(Duration::ZERO);
        bench.is(&[NEW], &[OLD]);
    }
}
