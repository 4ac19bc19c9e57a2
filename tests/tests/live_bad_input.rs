//! What a daemon must survive: nonsense on its sockets, and peers that break the protocol.
//!
//! Every case ends in a clear error or in a closed link with a reason in the log, with the daemon alive and everything
//! that it acknowledged still there.

use std::fs;
use std::time::Duration;

use receptor_tests::live::{
    Builder, Control, Hello, Node, PATIENCE, RawPeer, Scratch, chain, free_port, holds_for, neighbours, noise, routes,
    until,
};
use serde_json::{Value, json};

/// A protocol fault closes the link at once, a silent peer after ten hellos, a second apart.
const CLOSE_LIMIT: Duration = PATIENCE;
const SILENT_LIMIT: Duration = PATIENCE;

fn listening(scratch: &Scratch) -> Node {
    Builder::new(scratch, "target").listen(free_port(), 1.0).work().start()
}

#[test]
fn random_bytes_on_the_backend() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    for seed in 0..60 {
        let mut peer = RawPeer::connect(node.port());
        peer.send(&noise(seed, 1 << (seed % 18)));
        // Half of the peers stay, and are thrown out when they have said nothing sensible for long enough.
        if seed % 2 == 0 {
            peer.half_close();
            peer.expect_close(CLOSE_LIMIT);
        }
    }
    // Well-framed, but nonsense inside: every kind of message, known and not.
    let mut peer = RawPeer::connect(node.port());
    for kind in 0..=255 {
        peer.send_frame(&[kind]);
        peer.send_frame(&[&[kind][..], &noise(u64::from(kind), 50)].concat());
    }
    drop(peer);
    node.assert_alive();
    assert_eq!(neighbours(&node.status()), Vec::<&str>::new());
}

#[test]
fn random_frames_from_an_accepted_neighbour() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    let mut peer = RawPeer::neighbour(&node, &Hello::new("fuzzer"));
    for seed in 0..2_000_u64 {
        // Rejects (kind 3) close the link and routing updates of other forwarders as well: both have their own tests.
        let kind = [0, 1, 2, 4, 0x40, 0x41, 0x42, 0x7f, 0xff][usize::try_from(seed % 9).expect("small")];
        let length = usize::try_from(seed % 97).expect("small");
        peer.send_frame(&[&[kind][..], &noise(seed, length)].concat());
    }
    for text in [
        "{}",
        "null",
        "[]",
        "{\"Cancel\":true}",
        "{\"NodeID\":7}",
        "{\"Time\":\"then\"}",
    ] {
        peer.send_frame(&[&[2], text.as_bytes()].concat());
    }
    node.assert_alive();
    node.control().json("ping target").expect("an answer");
}

#[test]
fn truncated_and_oversized_frames() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    for (length, sent) in [(500_u16, 10), (1, 0), (65_535, 65_534), (0, 0)] {
        let mut peer = RawPeer::connect(node.port());
        peer.send(&length.to_le_bytes());
        peer.send(&noise(u64::from(length), sent));
        peer.half_close();
        peer.expect_close(CLOSE_LIMIT);
    }
    // One byte of a length.
    let mut peer = RawPeer::connect(node.port());
    peer.send(&[7]);
    peer.half_close();
    peer.expect_close(CLOSE_LIMIT);
    node.assert_alive();

    // The largest frame there is, full of nonsense, and an empty one: the session goes on behind both.
    let mut peer = RawPeer::connect(node.port());
    peer.send_frame(&[&[0xff][..], &noise(1, 65_534)].concat());
    peer.send_frame(&[]);
    peer.send_hello(&Hello::new("late"));
    peer.read_until("\"late\":1", CLOSE_LIMIT);
    // A hello that comes byte by byte.
    let mut slow = RawPeer::connect(node.port());
    let message = Hello::new("slow").message();
    let length = u16::try_from(message.len()).expect("short").to_le_bytes();
    for byte in length.iter().chain(&message) {
        slow.send(&[*byte]);
    }
    slow.read_until("\"slow\":1", CLOSE_LIMIT);
    node.assert_alive();
}

#[test]
fn hellos_that_make_no_sense() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);

    let mut nameless = RawPeer::connect(node.port());
    nameless.send_hello(&Hello {
        forwarder: String::new(),
        ..Hello::new("nameless")
    });
    let mut undecodable = RawPeer::connect(node.port());
    for text in [
        "",
        "[1,2,3]",
        "{\"NodeID\":",
        "{\"Version\":2,\"Hello\":\"world\"}",
        "{\"UpdateEpoch\":-1}",
    ] {
        undecodable.send_frame(&[&[1], text.as_bytes()].concat());
    }
    let mut silent = RawPeer::connect(node.port());
    for peer in [&mut nameless, &mut undecodable, &mut silent] {
        peer.expect_close(SILENT_LIMIT);
    }
    node.wait_for_log(&["10 hellos"]);
    assert_eq!(neighbours(&node.status()), Vec::<&str>::new());

    // A version of the extended protocol from the future is a neighbour like any other; what is no version is ignored.
    let more = [
        r#","Ext":{"V":999,"C":18446744073709551615,"New":[{}]}"#,
        r#","Ext":"what""#,
        r#","Ext":{"V":-1}"#,
    ];
    let mut peers = Vec::new();
    for (n, more) in more.into_iter().enumerate() {
        let hello = Hello {
            more: more.to_owned(),
            ..Hello::new(&format!("future{n}"))
        };
        peers.push(RawPeer::neighbour(&node, &hello));
    }
    node.assert_alive();
    assert_eq!(neighbours(&node.status()).len(), 3);
}

#[test]
fn own_and_duplicate_ids() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);

    let mut own = RawPeer::connect(node.port());
    own.send_hello(&Hello::new("target"));
    own.expect_close(CLOSE_LIMIT);
    node.wait_for_log(&["own node id"]);

    let mut first = RawPeer::neighbour(&node, &Hello::new("double"));
    let mut second = RawPeer::connect(node.port());
    second.send_hello(&Hello::new("double"));
    // The first is asked whether it lives, and any word of it says so.
    first.read_until("ping", CLOSE_LIMIT);
    first.send_hello(&Hello::new("double").listing("target", 1.0));
    second.expect_close(CLOSE_LIMIT);
    node.wait_for_log(&["already connected", "double"]);
    assert_eq!(neighbours(&node.status()), ["double"]);

    // A neighbour that changes its name.
    first.send_hello(&Hello {
        forwarder: "other".to_owned(),
        ..Hello::new("double").listing("target", 1.0)
    });
    first.expect_close(CLOSE_LIMIT);
    node.wait_for_log(&["double", "other"]);
    until("the neighbour is gone", CLOSE_LIMIT, || {
        let status = node.try_status()?;
        if neighbours(&status).is_empty() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });

    // A neighbour that stops listing us.
    let mut forgetful = RawPeer::neighbour(&node, &Hello::new("forgets"));
    forgetful.send_hello(&Hello {
        sequence: 9,
        ..Hello::new("forgets")
    });
    forgetful.expect_close(CLOSE_LIMIT);
    node.wait_for_log(&["forgets", "list"]);
    node.assert_alive();
}

#[test]
fn the_newer_of_two_nodes_with_one_id_ends() {
    let scratch = Scratch::new();
    let mut nodes = chain(&scratch, &["older", "middle"]);
    // Epochs count seconds.
    holds_for("the older runs", Duration::from_millis(1_100), || {
        nodes[0].try_status().map(drop)
    });
    let second = Scratch::new();
    let port = free_port();
    let other = Builder::new(&second, "other")
        .listen(port, 1.0)
        .peer(nodes[1].port(), 1.0)
        .start();
    let newer = Builder::new(&second, "older").peer(port, 1.0).spawn();
    let exited = newer.wait_for_exit();
    assert!(exited.output.to_lowercase().contains("duplicate"), "{exited:?}");
    for node in &mut nodes {
        node.assert_alive();
    }
    until("the older is reached", PATIENCE, || {
        let status = other.try_status()?;
        if routes(&status).get("older").is_some_and(|via| via == "middle") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

#[test]
fn a_disagreement_about_cost() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    let mut peer = RawPeer::connect(node.port());
    peer.send_hello(&Hello::new("pricey"));
    peer.read_until("\"pricey\":1", CLOSE_LIMIT);
    peer.send_hello(&Hello::new("pricey").listing("target", 2.5));
    peer.expect_close(CLOSE_LIMIT);
    node.wait_for_log(&["cost", "pricey"]);

    let other = Builder::new(&scratch, "other").peer(node.port(), 7.0).start();
    until("one of the two says why", CLOSE_LIMIT, || {
        let logs = [node.log(), other.log()].concat().to_lowercase();
        let told = |text: &str| logs.lines().any(|line| line.contains("cost") && line.contains(text));
        if told("1 here, 7 there") || told("7 here, 1 there") {
            Ok(())
        } else {
            Err(logs)
        }
    });
    node.assert_alive();
}

#[test]
fn random_bytes_and_long_lines_on_the_control_socket() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    for seed in 0..40 {
        let mut control = node.control();
        let _ = control.send(&noise(seed, 1 << (seed % 16)));
        let _ = control.half_close();
        let _ = control.rest();
    }
    for text in [
        "",
        " ",
        "\r",
        "{",
        "{}",
        "[]",
        "{\"command\":7}",
        "{\"command\":\"nosuch\"}",
        "{\"command\":\"status\",\"requested_fields\":null}",
        "{\"command\":\"status\",\"requested_fields\":\"NodeID\"}",
        "{\"command\":\"work\"}",
        "{\"command\":\"work\",\"subcommand\":[]}",
        "{\"command\":\"work\",\"subcommand\":\"submit\",\"node\":\"target\",\"worktype\":\"cat\",\"x\":1}",
        "work",
        "work nosuch",
        "work submit",
        "work submit target",
        "work results nosuch x",
        "ping",
        "connect target",
    ] {
        let mut control = node.control();
        let answered = control.send(format!("{text}\nping target\n").as_bytes());
        answered.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        if !text.trim_end_matches('\r').is_empty() {
            let answer = control.line().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(answer.starts_with("ERROR: "), "{text:?}: {answer}");
        }
        // Exactly one line for each command, and the session goes on.
        let answer = control.line().unwrap_or_else(|error| panic!("after {text:?}: {error}"));
        assert!(answer.contains("\"Success\":true"), "after {text:?}: {answer}");
    }

    let mut control = node.control();
    // The service may stop reading before the end.
    let _ = control.send(&vec![b'a'; 10 << 20]);
    let _ = control.send(b"\n");
    let answer = control.line().expect("an answer to a line of 10 MiB");
    assert!(answer.starts_with("ERROR: "), "{}", &answer[..answer.len().min(200)]);
    node.assert_alive();
}

#[test]
fn unit_ids_are_not_paths() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    // The data directory exists once there was a unit.
    let unit = node.submit("target", "cat", b"kept").unit;
    let victim = scratch.join("data/victim");
    fs::create_dir(&victim).expect("a directory can be made");
    fs::write(
        victim.join("status"),
        "{\"State\":2,\"Detail\":\"\",\"StdoutSize\":4,\"WorkType\":\"cat\",\"ExtraData\":null}\n",
    )
    .expect("a file can be written");
    fs::write(victim.join("stdout"), "data").expect("a file can be written");

    let mut control = node.control();
    let long = "a".repeat(5_000);
    for id in [
        "../victim",
        "..",
        ".",
        "../../etc",
        "/etc",
        &format!("{unit}/../{unit}"),
        &format!("{unit}/"),
        "a\u{0}b",
        &long,
    ] {
        for command in ["status", "list", "cancel", "release", "force-release", "results"] {
            let text = control.json(&format!("work {command} {id}"));
            let text = text.expect_err("no such unit");
            assert!(text.contains("unknown work unit"), "work {command} {id}: {text}");
            let id = Value::from(id);
            let line = json!({ "command": "work", "subcommand": command, "unitid": id, "startpos": 0 });
            control.json(&line.to_string()).expect_err("no such unit");
        }
        let line =
            json!({ "command": "work", "subcommand": "submit", "node": "target", "worktype": "cat", "workUnitID": id });
        node.control().submit(&line.to_string(), b"").expect_err("not an ID");
    }
    // An ID that is in use is not run a second time.
    let line =
        json!({ "command": "work", "subcommand": "submit", "node": "target", "worktype": "cat", "workUnitID": unit });
    let refused = node.control().submit(&line.to_string(), b"").expect_err("an ID in use");
    assert!(refused.contains("already in use"), "{refused}");

    assert_eq!(fs::read_to_string(victim.join("stdout")).expect("still there"), "data");
    assert!(!victim.join("status.lock").exists(), "not touched");
    let list = node.control().json("work list").expect("a list");
    assert_eq!(list.as_object().expect("an object").keys().collect::<Vec<_>>(), [&unit]);
    assert_eq!(
        node.control().results(&unit, 0).expect("results of a known unit"),
        b"kept"
    );
    node.assert_alive();
}

#[test]
fn sessions_that_stay_open_hinder_nobody() {
    let scratch = Scratch::new();
    let mut node = listening(&scratch);
    let idle: Vec<_> = (0..200).map(|_| node.control()).collect();
    let half_lines: Vec<_> = (0..50)
        .map(|_| {
            let mut control = Control::connect(&node.socket()).expect("it listens");
            control.send(b"work submit target c").expect("it reads");
            control
        })
        .collect();
    let silent: Vec<_> = (0..100).map(|_| RawPeer::connect(node.port())).collect();
    let unit = node.submit("target", "cat", b"served").unit;
    assert_eq!(
        node.control().results(&unit, 0).expect("results of a known unit"),
        b"served"
    );
    drop((idle, half_lines, silent));
    node.assert_alive();
}
