//! A classic neighbour that says exactly what the script says, in raw frames, to one of our nodes: hellos and their quirks,
//! malformed and hostile updates and advertisements, data that names nobody.
//!
//! One row per case. `peer` speaks; `watcher`, another neighbour, shows what was passed on.

use receptor_core::id::{NameHash, ServiceName};
use receptor_core::time::Duration;
use receptor_core::wire::data::{HEADER_LEN, Header};
use receptor_tests::mixed::{Mesh, epoch};

/// What the peer does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A routing update with these members; `E` stands for an epoch.
    Route(&'static str),
    /// An advertisement.
    Advert(&'static str),
    /// Any frame.
    Raw(&'static [u8]),
    /// A data message: hops, from node, to node, from service, to service.
    Data(u8, &'static str, &'static str, &'static str, &'static str),
    /// Time passes, in milliseconds.
    Wait(u64),
}
use Step::{Advert, Data, Raw, Route, Wait};

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// The peer is a neighbour.
    Up,
    /// The node has closed the connection after a reject.
    Rejected,
    /// The node has closed the connection without a word.
    Closed,
    /// The connection is open, and nobody is a neighbour.
    Waiting,
}
use Link::{Closed, Rejected, Up, Waiting};

#[derive(Debug)]
struct Case {
    name: &'static str,
    steps: &'static [Step],
    link: Link,
    /// Texts in what the peer gets after the last step but one; `!` before one that must not be there.
    answers: &'static [&'static str],
    /// The same of what the watcher gets.
    passed_on: &'static [&'static str],
    /// Nodes reached at the end, besides the watcher.
    reaches: &'static [&'static str],
    /// Services known at the end.
    services: &'static [&'static str],
}

const NOTHING: Case = Case {
    name: "",
    steps: &[],
    link: Up,
    answers: &[],
    passed_on: &[],
    reaches: &["peer"],
    services: &[],
};

const HELLO: Step = Route(
    r#"{"NodeID":"peer","UpdateID":"p1","UpdateEpoch":E,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer","SuspectedDuplicate":0}"#,
);
const LISTS: Step = Route(
    r#"{"NodeID":"peer","UpdateID":"p2","UpdateEpoch":E,"UpdateSequence":2,"Connections":{"target":1},"ForwardingNode":"peer","SuspectedDuplicate":0}"#,
);
const UNLISTS: Step = Route(
    r#"{"NodeID":"peer","UpdateID":"p3","UpdateEpoch":E,"UpdateSequence":3,"Connections":{},"ForwardingNode":"peer","SuspectedDuplicate":0}"#,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // The hello and its state table (`wire.md` §11).
    Case { name: "a usual hello", steps: &[HELLO, LISTS], ..NOTHING },
    Case { name: "the hello is answered by an update that lists the peer", steps: &[HELLO], answers: &[r#""peer":1"#], ..NOTHING },
    Case { name: "silence for ten hellos", steps: &[Wait(10_500)], link: Closed, reaches: &[], ..NOTHING },
    Case { name: "keys in any case, unknown and double ones, blanks", steps: &[
        Route(r#" { "nodeid" : "x", "NODEID":"peer","UpdateID":"p1","updateepoch":E,"UpdateSequence":1,"New":[{"a":null}],"Connections":null,"FORWARDINGNODE":"peer"} "#),
        Route(r#"{"NodeID":"peer","UpdateID":"p2","UpdateEpoch":E,"UpdateSequence":2,"Connections":{"target":1.000e0},"ForwardingNode":"peer"}"#)], ..NOTHING },
    Case { name: "the forwarder is the peer, whoever the update is about", steps: &[
        Route(r#"{"NodeID":"x","UpdateID":"p1","UpdateEpoch":E,"UpdateSequence":1,"ForwardingNode":"peer"}"#)], answers: &[r#""peer":1"#], ..NOTHING },
    Case { name: "our own name", steps: &[Route(r#"{"NodeID":"target","UpdateEpoch":E,"UpdateSequence":1,"ForwardingNode":"target"}"#)], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "no forwarder", steps: &[Route(r#"{"NodeID":"peer","UpdateEpoch":E,"UpdateSequence":1}"#)], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "the name of a neighbour, which is asked whether it lives", steps: &[Route(r#"{"NodeID":"watcher","UpdateEpoch":E,"UpdateSequence":1,"ForwardingNode":"watcher"}"#)], link: Waiting, reaches: &[], ..NOTHING },
    Case { name: "what does not decode is no hello", steps: &[Route("{"), Route("[]"), Route(""), Route(r#"{"NodeID":7,"ForwardingNode":"peer"}"#), Route(r#"{"UpdateEpoch":-1,"ForwardingNode":"peer"}"#), Route(r#"{"UpdateEpoch":18446744073709551616,"ForwardingNode":"peer"}"#)], link: Waiting, reaches: &[], ..NOTHING },
    Case { name: "anything else before the hello is ignored", steps: &[Advert(r#"{"NodeID":"early","Service":"s","Time":"2023-11-14T22:13:20Z"}"#), Data(3, "peer", "target", "a", "ping"), Raw(&[9]), Raw(&[0x41, 1, 0, 0]), HELLO, LISTS], answers: &["!early"], ..NOTHING },
    Case { name: "a reject before the hello", steps: &[Raw(b"\x03[]")], link: Closed, reaches: &[], ..NOTHING },
    Case { name: "a late hello", steps: &[HELLO, HELLO, HELLO, LISTS], ..NOTHING },
    Case { name: "the peer lists us no more", steps: &[HELLO, LISTS, UNLISTS], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "another cost", steps: &[HELLO, Route(r#"{"NodeID":"peer","UpdateID":"p2","UpdateEpoch":E,"UpdateSequence":2,"Connections":{"target":1.5},"ForwardingNode":"peer"}"#)], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "a cost that differs in the last bit", steps: &[HELLO, Route(r#"{"NodeID":"peer","UpdateID":"p2","UpdateEpoch":E,"UpdateSequence":2,"Connections":{"target":1.0000000000000002},"ForwardingNode":"peer"}"#)], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "another name", steps: &[HELLO, LISTS, Route(r#"{"NodeID":"peer","UpdateID":"p3","UpdateEpoch":E,"UpdateSequence":3,"Connections":{"target":1},"ForwardingNode":"liar"}"#)], link: Rejected, reaches: &[], ..NOTHING },
    Case { name: "a reject with anything behind it", steps: &[HELLO, LISTS, Raw(b"\x03\xff\x00{")], link: Closed, reaches: &[], ..NOTHING },
    Case { name: "nothing for longer than the idle limit", steps: &[HELLO, LISTS, Wait(24_000)], link: Closed, reaches: &[], ..NOTHING },
    Case { name: "kinds that do not exist, and extended messages on a classic link", steps: &[HELLO, LISTS, Raw(&[4]), Raw(&[0x3f, 1]), Raw(&[0x41, 1, 1, 0, 0]), Raw(&[0x4f, 1, 2, 0, 0, 0]), Raw(&[0xff])], ..NOTHING },
    // Routing updates of others (§12.3).
    Case { name: "an update is passed on under our name", steps: &[HELLO, LISTS, Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":E,"UpdateSequence":1,"Connections":{"peer":1},"ForwardingNode":"peer"}"#)], passed_on: &[r#""UpdateID":"x1""#, "!\"ForwardingNode\":\"peer\""], ..NOTHING },
    Case { name: "an edge is used if both ends have it", steps: &[HELLO, Route(r#"{"NodeID":"peer","UpdateID":"p2","UpdateEpoch":E,"UpdateSequence":2,"Connections":{"target":1,"x":2},"ForwardingNode":"peer"}"#), Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":E,"UpdateSequence":1,"Connections":{"peer":2},"ForwardingNode":"peer"}"#), Wait(200)], reaches: &["peer", "x"], ..NOTHING },
    Case { name: "epochs are compared to the last bit beyond 2^53", steps: &[HELLO, LISTS,
        Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":28521267200000005,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer"}"#),
        Route(r#"{"NodeID":"x","UpdateID":"x2","UpdateEpoch":28521267200000004,"UpdateSequence":9,"Connections":{},"ForwardingNode":"peer"}"#),
        Route(r#"{"NodeID":"x","UpdateID":"x3","UpdateEpoch":28521267200000006,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer"}"#)], passed_on: &["\"x1\"", "!\"x2\"", "\"x3\"", "28521267200000005", "28521267200000006"], ..NOTHING },
    Case { name: "no node, and a node without an update ID", steps: &[HELLO, LISTS, Route(r#"{"UpdateID":"n1","UpdateEpoch":E,"UpdateSequence":1,"ForwardingNode":"peer"}"#), Route(r#"{"NodeID":"y","UpdateEpoch":E,"UpdateSequence":1,"ForwardingNode":"peer"}"#)], passed_on: &["!n1", "\"y\""], ..NOTHING },
    Case { name: "costs that nobody may use are left out", steps: &[HELLO, LISTS, Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":E,"UpdateSequence":1,"Connections":{"peer":-1,"y":0,"z":-0.0,"w":3},"ForwardingNode":"peer"}"#)], passed_on: &[r#""Connections":{"w":3}"#], ..NOTHING },
    Case { name: "a cost no number can hold", steps: &[HELLO, LISTS, Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":E,"UpdateSequence":1,"Connections":{"peer":1e999},"ForwardingNode":"peer"}"#)], passed_on: &["!x1"], ..NOTHING },
    Case { name: "an epoch of next year", steps: &[HELLO, LISTS, Route(r#"{"NodeID":"x","UpdateID":"x1","UpdateEpoch":29050305331200000,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer"}"#)], passed_on: &["!x1"], ..NOTHING },
    Case { name: "an update in our own name is not passed on, and a later one is denied", steps: &[HELLO, LISTS,
        Route(r#"{"NodeID":"target","UpdateID":"t1","UpdateEpoch":7,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer"}"#),
        Route(r#"{"NodeID":"target","UpdateID":"t2","UpdateEpoch":28521267300000000,"UpdateSequence":1,"Connections":{},"ForwardingNode":"peer"}"#)], answers: &[r#""SuspectedDuplicate":28521267300000000"#], passed_on: &["!t1", "!t2", r#""SuspectedDuplicate":28521267300000000"#], ..NOTHING },
    // Advertisements (§9, §16, §23).
    Case { name: "advertisements that would crash a classic node go no further", steps: &[HELLO, LISTS, Advert("{}"), Advert("null"), Advert(r#"{"Cancel":true}"#), Advert("[]"), Advert(""), Advert("{")], passed_on: &["!Cancel", "!{}"], ..NOTHING },
    Case { name: "times in all their forms", steps: &[HELLO, LISTS,
        Advert(r#"{"NodeID":"x","Service":"utc","Time":"2023-11-14T22:13:20Z","ConnType":1,"Tags":null,"WorkCommands":null,"Cancel":false}"#),
        Advert(r#"{"NodeID":"x","Service":"zone","Time":"2023-11-15T03:43:20.123456789+05:30"}"#),
        Advert(r#"{"NodeID":"x","Service":"west","Time":"2023-11-14T17:13:20.5-05:00","Tags":{"type":"Control Service"},"WorkCommands":[{"WorkType":"echo","Secure":true}]}"#),
        Advert(r#"{"NodeID":"x","Service":"none"}"#),
        Advert(r#"{"NodeID":"x","Service":"null","Time":null}"#),
        Advert(r#"{"NodeID":"x","Service":"small","Time":"2023-11-14t22:13:20z"}"#),
        Advert(r#"{"NodeID":"x","Service":"blank","Time":"2023-11-14 22:13:20Z"}"#),
        Advert(r#"{"NodeID":"x","Service":"day31","Time":"2023-02-31T22:13:20Z"}"#),
        Advert(r#"{"NodeID":"x","Service":"number","Time":1700000000}"#),
        Advert(r#"{"NodeID":"x","Service":"ahead","Time":"2033-11-14T22:13:20Z"}"#)],
        services: &["x:none", "x:null", "x:utc", "x:west", "x:zone"], passed_on: &["05:30", "!small", "!day31", "!ahead", "!number"], ..NOTHING },
    Case { name: "a wrong type anywhere loses the whole advertisement", steps: &[HELLO, LISTS, Advert(r#"{"NodeID":"x","Service":"a","ConnType":256}"#), Advert(r#"{"NodeID":"x","Service":"b","Tags":["t"]}"#), Advert(r#"{"NodeID":"x","Service":"c","Tags":{"t":1}}"#), Advert(r#"{"NodeID":"x","Service":"d","WorkCommands":{}}"#), Advert(r#"{"NodeID":"x","Service":"e","Cancel":"yes"}"#)], passed_on: &["!\"x\""], ..NOTHING },
    Case { name: "a withdrawal is passed on once, and nothing older revives the service", steps: &[HELLO, LISTS,
        Advert(r#"{"NodeID":"x","Service":"s","Time":"2023-11-14T22:13:20Z"}"#),
        Advert(r#"{"NodeID":"x","Service":"s","Time":"2023-11-14T22:13:21Z","Cancel":true}"#),
        Advert(r#"{"NodeID":"x","Service":"s","Time":"2023-11-14T22:13:21Z","Cancel":true,"Again":1}"#),
        Advert(r#"{"NodeID":"x","Service":"s","Time":"2023-11-14T22:13:20.9Z","Tags":{"old":"1"}}"#)], passed_on: &["\"Cancel\":true", "!Again", "!old"], ..NOTHING },
    Case { name: "a withdrawal in our name does not hurt us", steps: &[HELLO, LISTS, Advert(r#"{"NodeID":"target","Service":"own","Time":"2023-11-14T22:15:20Z","Cancel":true}"#), Advert(r#"{"NodeID":"target","Service":"lie","Time":"2023-11-14T22:15:20Z"}"#), Wait(6000)],
        answers: &[r#""Service":"own""#, r#""Service":"lie","Time":"2023-11-14T22:15:20.000000001Z","ConnType":0,"Tags":null,"WorkCommands":null,"Cancel":true"#], services: &["target:own"], ..NOTHING },
    // Data (§6, §17, §19).
    Case { name: "a ping", steps: &[HELLO, LISTS, Data(0, "peer", "target", "Ab12Cd34", "ping")], answers: &["ping\0\0\0\0Ab12Cd34"], ..NOTHING },
    Case { name: "a ping from ping", steps: &[HELLO, LISTS, Data(3, "peer", "target", "ping", "ping")], answers: &["!ping\0\0\0\0ping"], ..NOTHING },
    Case { name: "a service nobody has", steps: &[HELLO, LISTS, Data(3, "peer", "target", "Ab12Cd34", "nosuch")], answers: &["unreach", "service unknown"], ..NOTHING },
    Case { name: "hashes nobody knows", steps: &[HELLO, LISTS, Data(3, "stranger", "target", "a", "ping"), Data(3, "peer", "stranger", "a", "ping"), Data(3, "stranger", "stranger", "a", "b")], answers: &["!unreach", "!ping\0"], passed_on: &["!ping\0"], ..NOTHING },
    Case { name: "a data message that is too short", steps: &[HELLO, LISTS, Raw(&[0]), Raw(&[0, 30, 0, 0, 1, 2, 3])], ..NOTHING },
    Case { name: "out of hops on the way", steps: &[HELLO, LISTS, Data(0, "peer", "watcher", "Ab12Cd34", "x")], answers: &["message expired"], passed_on: &["!Ab12Cd34"], ..NOTHING },
    Case { name: "on the way, one hop less", steps: &[HELLO, LISTS, Data(5, "peer", "watcher", "Ab12Cd34", "x")], passed_on: &["\0\u{4}\0\0"], ..NOTHING },
];

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a service name")
}

fn frame(step: Step) -> Vec<u8> {
    match step {
        Route(text) => [&[1][..], text.replace(":E,", &format!(":{},", epoch(0))).as_bytes()].concat(),
        Advert(text) => [&[2][..], text.as_bytes()].concat(),
        Raw(bytes) => bytes.to_vec(),
        Data(hops, from, to, from_service, to_service) => {
            let header = Header {
                hops,
                flags: 0,
                from: NameHash::of(from),
                to: NameHash::of(to),
                from_service: service(from_service),
                to_service: service(to_service),
            };
            let mut frame = vec![0; HEADER_LEN];
            frame.copy_from_slice(&header.to_bytes());
            frame
        }
        Wait(_) => Vec::new(),
    }
}

fn holds(heard: &[Vec<u8>], text: &str) -> bool {
    heard
        .iter()
        .any(|frame| frame.windows(text.len()).any(|part| part == text.as_bytes()))
}

fn check(what: &str, heard: &[Vec<u8>], wanted: &[&str]) {
    for text in wanted {
        let (text, there) = match text.strip_prefix('!') {
            Some(text) => (text, false),
            None => (*text, true),
        };
        let shown: Vec<_> = heard.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
        assert_eq!(holds(heard, text), there, "{what}: {text:?} in {shown:#?}");
    }
}

fn play(case: &Case) {
    let mut mesh = Mesh::new();
    let target = mesh.ours("target");
    let (watcher, peer) = (mesh.puppet("watcher"), mesh.puppet("peer"));
    let watched = mesh.connect(watcher, target);
    for (sequence, list) in [(1, "{}"), (2, r#"{"target":1}"#)] {
        let update = format!(
            r#"{{"NodeID":"watcher","UpdateID":"w{sequence}","UpdateEpoch":{},"UpdateSequence":{sequence},"Connections":{list},"ForwardingNode":"watcher"}}"#,
            epoch(0)
        );
        mesh.say(watched, watcher, &[&[1][..], update.as_bytes()].concat());
    }
    mesh.advertise(target, "own");
    mesh.run_secs(1);
    let wire = mesh.connect(peer, target);
    mesh.run(Duration::from_millis(20));
    for inbox in [watched, wire] {
        mesh.wire(inbox).inbox.clear();
    }
    for &step in case.steps {
        match step {
            Wait(millis) => mesh.run(Duration::from_millis(millis)),
            said => {
                mesh.say(wire, peer, &frame(said));
                mesh.run(Duration::from_millis(20));
            }
        }
    }
    mesh.run(Duration::from_millis(200));
    let (answers, passed_on) = (mesh.wire(wire).inbox.clone(), mesh.wire(watched).inbox.clone());
    let neighbours: Vec<String> = (mesh.net(target).router().connections().iter())
        .map(|(_, peer, _)| peer.to_string())
        .collect();
    let link = match (mesh.is_up(wire), answers.iter().any(|frame| frame == b"\x03[]")) {
        (true, _) if neighbours.iter().any(|name| name == "peer") => Up,
        (true, _) => Waiting,
        (false, true) => Rejected,
        (false, false) => Closed,
    };
    assert_eq!(link, case.link, "{:?}", mesh.log(target));
    check("answers", &answers, case.answers);
    check("passed on", &passed_on, case.passed_on);
    assert!(answers.iter().chain(&passed_on).all(|frame| !frame.is_empty()));
    if case.steps.iter().all(|step| !matches!(step, Wait(20_000..))) {
        let mut reached = mesh.reached_by(target);
        assert!(reached.remove("watcher"), "the watcher is reached throughout");
        assert!(
            reached.iter().map(String::as_str).eq(case.reaches.iter().copied()),
            "{reached:?}"
        );
        let mut services = mesh.services_seen_by(target);
        services.remove("target:own");
        let expected = case.services.iter().filter(|name| **name != "target:own");
        assert!(
            services.iter().map(String::as_str).eq(expected.copied()),
            "{services:?}"
        );
    }
}

#[test]
fn every_row_of_the_table() {
    let failed: Vec<&str> = (CASES.iter())
        .filter(|case| {
            let played = std::panic::catch_unwind(|| play(case));
            if played.is_err() {
                eprintln!("--- in case: {}", case.name);
            }
            played.is_err()
        })
        .map(|case| case.name)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
