//! The unmodified Python client against a chain of three daemons (`control.md` §8 and §9).

use std::collections::BTreeSet;

use receptor_tests::live::{
    Builder, Node, PATIENCE, Receptorctl, Scratch, UNIT_LIMIT, WORK_TYPES, chain, routes, script, until,
    wait_for_routes,
};
use serde_json::Value;

const UTF8: &str = "héllo wörld \u{1f600} \u{201c}quoted\u{201d}";

/// A chain and a client of its first node, or `None` without the client.
fn start(scratch: &Scratch) -> Option<(Vec<Node>, Receptorctl)> {
    let ctl = Receptorctl::new(&scratch.join("node1.sock"))?;
    Some((chain(scratch, &["node1", "node2", "node3"]), ctl))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The unit ID that `work submit` printed.
fn unit_id(printed: &str) -> String {
    let id = printed.lines().find_map(|line| line.strip_prefix("Unit ID: "));
    id.unwrap_or_else(|| panic!("no unit ID in {printed}")).to_owned()
}

fn advertises(status: &Value, node: &str) -> bool {
    let adverts = status["Advertisements"].as_array().into_iter().flatten();
    let mut control = adverts.filter(|advert| advert["NodeID"] == node && advert["Service"] == "control");
    control.any(|advert| advert["WorkCommands"].is_array())
}

#[test]
fn status_ping_traceroute_connect_and_version() {
    let scratch = Scratch::new();
    let Some((nodes, ctl)) = start(&scratch) else { return };
    for node in ["node1", "node2", "node3"] {
        until(&format!("the advertisement of {node}"), PATIENCE, || {
            let status = nodes[0].try_status()?;
            if advertises(&status, node) {
                Ok(())
            } else {
                Err(status["Advertisements"].to_string())
            }
        });
    }

    let status = json(&ctl.ok(&["status", "--json"]));
    let members: BTreeSet<_> = status
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "Advertisements",
        "Connections",
        "KnownConnectionCosts",
        "NodeID",
        "RoutingTable",
        "SystemCPUCount",
        "SystemMemoryMiB",
        "Version",
    ];
    assert_eq!(members, BTreeSet::from(expected));
    assert_eq!(status["NodeID"], "node1");
    assert_eq!(
        status["KnownConnectionCosts"]["node2"],
        json(r#"{"node1":1,"node3":1}"#)
    );
    assert_eq!(
        routes(&status),
        [("node2".into(), "node2".into()), ("node3".into(), "node2".into())].into()
    );

    let table = ctl.ok(&["status"]);
    assert!(table.starts_with("Node ID: node1\n"), "{table}");
    assert!(!table.contains("Secure Work Types"), "{table}");
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    for heading in [
        &["Connection", "Cost"][..],
        &["Known", "Node", "Known", "Connections"],
        &["Route", "Via"],
        &["Node", "Service", "Type", "Last", "Seen", "Tags"],
        &["Node", "Work", "Types"],
    ] {
        assert!(words.iter().any(|line| line == heading), "{heading:?} in\n{table}");
    }
    for line in [&["node2", "1"][..], &["node3", "node2"]] {
        assert!(
            words.iter().any(|words| words.starts_with(line)),
            "{line:?} in\n{table}"
        );
    }
    // One of the lines of node3 is the one of its work types.
    let mut of_node3 = words.iter().filter(|line| line.first() == Some(&"node3"));
    let is_types = |line: &Vec<&str>| {
        let types: BTreeSet<_> = line[1..].iter().map(|word| word.trim_end_matches(',')).collect();
        types == BTreeSet::from(WORK_TYPES)
    };
    assert!(of_node3.any(is_types), "{table}");
    assert!(
        words
            .iter()
            .any(|line| line.starts_with(&["node3", "control", "Stream"])),
        "{table}"
    );
    assert!(!table.contains("Additional data"), "{table}");

    let pings = ctl.ok(&["ping", "node3", "--count", "2", "--delay", "0.01"]);
    assert_eq!(pings.matches("Reply from node3 in ").count(), 2, "{pings}");
    let ended = ctl.run(&["ping", "nowhere", "--count", "1"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    // Before it, there may be a warning about the version.
    assert!(ended.stderr.ends_with("no route to node\n"), "{ended:?}");

    let hops = ctl.ok(&["traceroute", "node3"]);
    let hops: Vec<_> = hops.lines().collect();
    assert_eq!(hops.len(), 3, "{hops:?}");
    for (hop, start) in hops.iter().zip(["0: node1 in ", "1: node2 in ", "2: node3 in "]) {
        assert!(hop.starts_with(start), "{hops:?}");
    }

    let ended = ctl.connect("node3", "control", "status", "\"KnownConnectionCosts\"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("Receptor Control, node node3"), "{ended:?}");
    assert!(ended.stdout.contains("\"NodeID\":\"node3\""), "{ended:?}");

    let version = ctl.ok(&["version"]);
    let own = nodes[0].status()["Version"].as_str().expect("text").to_owned();
    assert!(version.contains("receptorctl  1.6.9"), "{version}");
    assert!(version.contains(&format!("receptor     {own}")), "{version}");
}

#[test]
fn remote_work_is_submitted_followed_listed_and_released() {
    let scratch = Scratch::new();
    let Some((nodes, ctl)) = start(&scratch) else { return };

    let ended = ctl.run_with(
        &["work", "submit", "cat", "--node", "node3", "--follow", "--payload", "-"],
        UTF8.as_bytes(),
    );
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), UTF8), "{ended:?}");
    let ended = ctl.run(&[
        "work",
        "submit",
        "upper",
        "--node",
        "node3",
        "-f",
        "--payload-literal",
        "some text",
    ]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "SOME TEXT\n"),
        "{ended:?}"
    );
    let local = ctl.run(&["work", "submit", "upper", "-f", "--payload-literal", "here"]);
    assert_eq!((local.code, local.stdout.as_str()), (Some(0), "HERE\n"), "{local:?}");

    // Three units are left behind; one more is submitted without following.
    let printed = ctl.ok(&["work", "submit", "noparams", "--node", "node3", "--no-payload"]);
    assert!(printed.contains("Result: Job Started"), "{printed}");
    let unit = unit_id(&printed);
    assert_eq!(ctl.ok(&["work", "results", &unit]), "fixed\n");

    let ids = ctl.ok(&["work", "list", "-q"]);
    assert_eq!(ids.lines().count(), 4, "{ids}");
    assert!(ids.lines().any(|id| id == unit), "{ids}");
    let list = json(&ctl.ok(&["work", "list"]));
    assert_eq!(list.as_object().expect("an object").len(), 4);
    let status = &list[&unit];
    assert_eq!(status["StateName"], "Succeeded", "{status}");
    assert_eq!(status["Detail"], "exit status 0", "{status}");
    assert_eq!(status["WorkType"], "remote", "{status}");
    assert_eq!(status["StdoutSize"], 6, "{status}");
    assert_eq!(status["ExtraData"]["RemoteNode"], "node3", "{status}");
    assert_eq!(status["ExtraData"]["RemoteWorkType"], "noparams", "{status}");
    let one = json(&ctl.ok(&["work", "list", "--unit_id", &unit]));
    assert_eq!(one.as_object().expect("an object").keys().collect::<Vec<_>>(), [&unit]);
    // The executor's half, through the mesh.
    let remote = json(&ctl.ok(&["work", "list", "--node", "node3"]));
    assert_eq!(remote.as_object().expect("an object").len(), 3, "{remote}");

    let released = ctl.ok(&["work", "release", &unit]);
    assert!(released.contains(&format!("({unit}, released)")), "{released}");
    until("the released unit is gone", PATIENCE, || {
        let ids = ctl.ok(&["work", "list", "-q"]);
        if ids.contains(&unit) { Err(ids) } else { Ok(()) }
    });

    let ended = ctl.run(&[
        "work",
        "submit",
        "cat",
        "--node",
        "node3",
        "-f",
        "--rm",
        "--payload-literal",
        "gone",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("gone\n"), "{ended:?}");
    until("only the three units are left", PATIENCE, || {
        let ids = ctl.ok(&["work", "list", "-q"]);
        if ids.lines().count() == 3 { Ok(()) } else { Err(ids) }
    });

    let released = ctl.ok(&["work", "release", "--all"]);
    assert_eq!(released.matches(", released)").count(), 3, "{released}");
    until("no units and no directories are left", PATIENCE, || {
        let left = (nodes[0].unit_directories(), nodes[2].unit_directories());
        let list = nodes[0].control().json("work list")?;
        if left.0.is_empty() && left.1.is_empty() && list == json("{}") {
            Ok(())
        } else {
            Err(format!("{left:?} {list}"))
        }
    });
}

#[test]
fn a_running_remote_unit_is_cancelled() {
    let scratch = Scratch::new();
    let Some((nodes, ctl)) = start(&scratch) else { return };
    let submit = [
        "work",
        "submit",
        "shell",
        "'echo begun; sleep 600'",
        "--node",
        "node3",
        "--no-payload",
    ];
    let unit = unit_id(&ctl.ok(&submit));
    nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Running");

    let cancelled = ctl.ok(&["work", "cancel", &unit]);
    assert!(cancelled.contains(&format!("({unit}, cancelled)")), "{cancelled}");
    let status = nodes[0]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["Detail"] == "Canceled");
    assert_eq!(
        (&status["State"], &status["StateName"]),
        (&Value::from(4), &Value::from("Canceled")),
        "{status}"
    );
    let list = json(&ctl.ok(&["work", "list"]));
    assert_eq!(list[&unit]["Detail"], "Canceled", "{list}");

    let ended = ctl.run(&["work", "cancel", "doesnotexist"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("unknown work unit doesnotexist"), "{ended:?}");
}

#[test]
fn refusals_name_their_reason() {
    let scratch = Scratch::new();
    let Some((nodes, ctl)) = start(&scratch) else { return };
    for (arguments, reason) in [
        (&["nosuchtype"][..], "unknown work type nosuchtype"),
        (&["noparams", "more"], "extra params provided but not allowed"),
    ] {
        for target in ["node1", "node3"] {
            let submit = [&["work", "submit", "--node", target, "--no-payload"], arguments].concat();
            let ended = ctl.run(&submit);
            assert_eq!(ended.code, Some(101), "{submit:?}: {ended:?}");
            assert!(ended.stderr.contains(reason), "{submit:?}: {ended:?}");
        }
    }
    // A unit that fails, followed to its end.
    let submit = [
        "work",
        "submit",
        "shell",
        "'echo partly; exit 3'",
        "--node",
        "node3",
        "--no-payload",
        "--follow",
    ];
    let ended = ctl.run(&submit);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "partly\n"), "{ended:?}");
    assert!(ended.stderr.contains("Remote unit failed: exit status 3"), "{ended:?}");

    let ended = ctl.run(&["connect", "nowhere", "control"]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    let ended = ctl.run(&["work", "results", "doesnotexist"]);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    wait_for_routes(&nodes);
}

#[test]
fn reload_answers_and_the_mesh_is_there_afterwards() {
    let scratch = Scratch::new();
    let Some((nodes, ctl)) = start(&scratch) else { return };
    let answer = nodes[1]
        .control()
        .json("reload ")
        .expect("a reload answers with JSON, even when it fails");
    let ctl2 = Receptorctl::new(&nodes[1].socket()).expect("as before");
    let ended = ctl2.run(&["reload"]);
    if answer["Success"] == true {
        assert_eq!(
            (ended.code, ended.stdout.trim()),
            (Some(0), "Reload successful"),
            "{ended:?}"
        );
    } else {
        let code = if answer["Error"].as_str().expect("text").contains("ERRORCODE 3") {
            3
        } else {
            4
        };
        assert_eq!(ended.code, Some(code), "{answer} {ended:?}");
    }
    wait_for_routes(&nodes);
    let ended = ctl.run(&["ping", "node3", "--count", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn the_python_library_works() {
    let scratch = Scratch::new();
    let Some((_nodes, ctl)) = start(&scratch) else { return };
    let ended = ctl.python(&script("client_library.py"), &["node3"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "all of it held\n"),
        "{ended:?}"
    );
}

/// Status unknown, adopt, results from where the other one had come to, release, release.
#[test]
fn a_controller_takes_over_the_unit_of_another_one() {
    let scratch = Scratch::new();
    let Some((mut nodes, _)) = start(&scratch) else { return };
    let unit = nodes[2].submit("node1", "cat", b"0123456789").unit;
    nodes[2]
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Succeeded");
    nodes.pop();
    let Some(ctl) = Receptorctl::new(&scratch.join("node2.sock")) else {
        return;
    };
    let ended = ctl.python(&script("adopt.py"), &["node1", &unit, "4", "456789"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "all of it held\n"),
        "{ended:?}"
    );
}

#[test]
fn a_node_configured_by_arguments_serves_the_client() {
    let scratch = Scratch::new();
    let Some(ctl) = Receptorctl::new(&scratch.join("alone.sock")) else {
        return;
    };
    let _node = Builder::new(&scratch, "alone").local_only().work().start_by_arguments();
    let ended = ctl.run(&["work", "submit", "upper", "-f", "--rm", "--payload-literal", UTF8]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("HéLLO WöRLD \u{1f600}"), "{ended:?}");
}
