//! Firewall rules beside Go nodes: a Go node sends through ours, ours through a Go node, and both read rules alike.

use std::time::{Duration, Instant};

use receptor_tests::live::{Builder, Control, Node, Scratch, free_port, go_node, wait_for_routes};

/// `near – hop – far`, with rules on the hop; `go` says which are Go nodes.
fn chain(scratch: &Scratch, go: [bool; 3], rules: &str) -> Option<Vec<Node>> {
    let binary = go_node()?;
    let ports = [free_port(), free_port()];
    let build = |n: usize| {
        let name = ["near", "hop", "far"][n];
        let builder = Builder::new(scratch, name);
        if go[n] { builder.binary(binary) } else { builder }
    };
    let nodes = vec![
        build(0).listen(ports[0], 1.0).start(),
        build(1)
            .firewall(rules)
            .peer(ports[0], 1.0)
            .listen(ports[1], 1.0)
            .start(),
        build(2).peer(ports[1], 1.0).start(),
    ];
    wait_for_routes(&nodes);
    Some(nodes)
}

/// What a service that nobody has answers, or why its dial fails.
fn dial(node: &Node, service: &str) -> String {
    let mut control = Control::connect(&node.socket()).expect("a session");
    control.command(&format!("connect far {service}")).expect("an answer")
}

#[test]
fn go_nodes_are_told_by_our_hop() {
    let scratch = Scratch::new();
    let rules = "[{action: REJECT, toservice: ping, fromnode: '/(?i)NEA./'}, {action: drop, toservice: secret}]";
    let Some(nodes) = chain(&scratch, [true, false, true], rules) else {
        return;
    };
    let error = nodes[0].control().json("ping far").unwrap();
    assert_eq!(
        (&error["Success"], &error["Error"]),
        (&false.into(), &"blocked by firewall".into()),
        "{error}"
    );
    let answer = nodes[2].control().json("ping near").unwrap();
    assert_eq!(answer["Success"], true, "the other direction is free: {answer}");
    let mut control = nodes[0].control();
    assert_eq!(control.command("connect far control").unwrap(), "Connecting");
    assert_eq!(control.line().unwrap(), "Receptor Control, node far");
    // The Go node hears of services that do not exist, but not of one that is dropped.
    assert!(dial(&nodes[0], "nobody").contains("context canceled"));
    let began = Instant::now();
    let text = dial(&nodes[0], "secret");
    assert!(text.contains("timeout: no recent network activity"), "{text}");
    assert!(began.elapsed() > Duration::from_secs(5));
}

#[test]
fn ours_are_told_by_a_go_hop() {
    let scratch = Scratch::new();
    let rules = "[{action: reject, toservice: control, fromnode: near}, {action: reject, toservice: ping}]";
    let Some(nodes) = chain(&scratch, [false, true, false], rules) else {
        return;
    };
    let error = nodes[0].control().json("ping far").unwrap();
    assert_eq!(error["Error"], "blocked by firewall", "{error}");
    let began = Instant::now();
    let text = dial(&nodes[0], "control");
    assert!(text.contains("blocked by firewall"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let mut control = nodes[2].control();
    assert_eq!(control.command("connect near control").unwrap(), "Connecting");
}

/// The same rules on a Go node and on one of ours let the same pass.
#[test]
fn rules_mean_the_same() {
    const RULES: &str = r"[
        {action: accept, fromservice: unreach},
        {action: accept, toservice: '/ok.*/'},
        {action: reject, toservice: '/a|b/'},
        {action: reject, toservice: '/(?i)x[0-9]+/'},
        {action: reject, toservice: '/\w-\d\b/', tonode: far},
        {action: reject, toservice: exact},
        {action: reject, toservice: '/y[^\W]?z/'},
        {action: reject, toservice: '/(?i:k)\x{e9}[[:digit:]q]\pL/'},
        {action: reject, toservice: '/\s\Bm$/'},
        {action: reject, toservice: '/n(?U)..+/'},
        {action: accept, tonode: far, fromnode: near, toservice: ''},
        {action: reject, toservice: '/.*/'},
    ]";
    const SERVICES: &[(&str, bool)] = &[
        ("abc", false),
        ("xb", false),
        ("xa", true),
        ("okb", true),
        ("X12", false),
        ("x12y", true),
        ("\u{e9}-1", true),
        ("u-1", false),
        ("u-\u{661}", true),
        ("exact", false),
        ("exacts", true),
        ("Exact", true),
        ("y\u{e9}z", true),
        ("yuz", false),
        ("K\u{e9}7\u{3c9}", false),
        ("\u{212a}\u{e9}7o", false),
        ("K\u{c9}7\u{3c9}", true),
        ("n", true),
        ("nnn", false),
    ];
    for go in [true, false] {
        let scratch = Scratch::new();
        let Some(nodes) = chain(&scratch, [false, go, false], &RULES.replace('\n', " ")) else {
            return;
        };
        for (service, passes) in SERVICES {
            let text = dial(&nodes[0], service);
            let expected = if *passes {
                "service unknown"
            } else {
                "blocked by firewall"
            };
            assert!(text.contains(expected), "Go {go}, {service}: {text}");
        }
    }
}
