use std::fs;

use receptor_core::config::BackendKind;
use receptor_core::id::{NodeId, ServiceName};

use super::*;
use crate::logging::Level;

fn host() -> Host {
    Host {
        name: "Host.example".into(),
        temp_dir: "/var/tmp".into(),
        proxies: Default::default(),
    }
}

fn read(text: &str) -> Result<Sections, String> {
    sections("f.yaml", text.as_bytes(), false, &host()).map_err(|error| error.to_string())
}

fn config(text: &str) -> Config {
    let sections = read(text).unwrap_or_else(|error| panic!("{error}"));
    sections
        .node
        .expect("a node")
        .build()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The error without its beginning, `f.yaml:`.
fn error(text: &str) -> String {
    let error = match read(text) {
        Ok(sections) => sections.node.expect("a node").build().unwrap_err().to_string(),
        Err(error) => error,
    };
    match error.strip_prefix("error loading config file: f.yaml:") {
        Some(rest) => rest.to_owned(),
        None => error,
    }
}

#[test]
fn sections_become_the_same_configuration() {
    let v2 = config(
        "version: 2
node: {ID: edge7, strict: true, maxIdleConnectionTimeout: 45s, firewallRules: {action: drop, toNode: no}}
log-level: {level: warning}
Control-Services:
- {filename: edge7.sock, permissions: 0660}
tcp-listeners: {port: \"0x1a\", allowedpeers: \"a, b,c\", nodecost: {Foo: 2, bar: \"1.5\"}}
tcp-peers:
- {address: hub:27199, cost: 1.5, redial: false}
- {address: other:27199}
work-commands: {worktype: reverse, command: rev}
",
    );
    let v1 = super::super::tests::config(
        "-c f",
        "- node: {id: edge7, strict: true, maxidleconnectiontimeout: 45s, firewallrules: [{action: drop, tonode: 'no'}]}
- log-level: warning
- control-service: {filename: edge7.sock, permissions: 0660}
- work-command: {worktype: reverse, command: rev}
- tcp-listener: {port: 26, allowedpeers: [a, b, c], nodecost: {Foo: 2, bar: 1.5}}
- tcp-peer: {address: hub:27199, cost: 1.5, redial: false}
- tcp-peer: {address: other:27199}
",
    );
    assert_eq!(v2.node, v1.node);
    assert!(v2.node.strict && !config("node: {id: a}").node.strict);
    assert_eq!(v2.log_level, Level::Warning);
    assert_eq!(v2.backends, v1.backends);
    assert_eq!(v2.control_services, v1.control_services);
    assert_eq!(v2.workers, v1.workers);
    assert_eq!(v2.warnings, [""; 0]);
    assert_eq!(v2.config_file, Some("f.yaml".into()));
}

#[test]
fn nothing_and_zero_are_the_default() {
    let config = config(
        "node:
tcp-listeners: {port: 0, bindaddr: '', cost: 0, allowedpeers: []}
control-services: {service: '', filename: a, permissions: 0}
unix-socket-servers: {filename: b, remotenode: c, remoteservice: d}
log-level: {}
",
    );
    assert_eq!(config.node.id, NodeId::new("Host.example"));
    assert_eq!(config.log_level, Level::Error);
    let BackendKind::Listener { bind, .. } = &config.backends[0].kind else {
        panic!("{:?}", config.backends)
    };
    assert_eq!(bind, "0.0.0.0:0");
    assert_eq!(config.backends[0].links.cost, 1.0);
    assert_eq!(config.backends[0].links.allowed_peers, Some(Default::default()));
    let control = &config.control_services[0];
    assert_eq!(control.service, Some(ServiceName::CONTROL));
    assert_eq!(control.socket.as_ref().map(|socket| socket.mode), Some(0o600));
    assert!(
        format!("{:?}", config.services).contains("mode: 384"),
        "{:?}",
        config.services
    );
}

/// The classic node runs on, without what was meant.
#[test]
fn what_was_passed_over_is_an_error_that_names_its_line() {
    for (text, expected) in [
        (
            "node: {id: a}\ntcp-peer: {address: b:1}",
            "2: unknown section tcp-peer (did you mean tcp-peers?)",
        ),
        ("command-service: {}", "1: unknown section command-service"),
        (
            "tcp-peers:\n- address: b:1\n  allowedpeer: x",
            "3: unknown parameter allowedpeer in tcp-peers (did you mean allowedpeers?)",
        ),
        (
            "tcp-peers:\n- cost: 2",
            "2: tcp-peers: required parameter missing: address",
        ),
        (
            "tcp-listeners:\n- cost: 2",
            "2: tcp-listeners: required parameter missing: port",
        ),
        (
            "log-level: debug",
            "1: section log-level is !!str where a map is expected",
        ),
        ("tcp-peers: [a]", "1: !!str where a map is expected"),
        ("node: [{id: a}]", "1: section node is !!seq where a map is expected"),
        (
            "- node: {id: a}",
            "1: !!seq where a map is expected (a list is of the first dialect, without --config-v2)",
        ),
        ("node: {id: a}\nnode: {id: b}", "2: key \"node\" is given twice"),
        ("node: {id: a}\nNode: {id: b}", "2: Node and node are the same key"),
        ("iprouters: {}\nip-routers: {}", "2: section iprouters is given twice"),
        ("node: {id: a, ID: b}", "1: ID and id are the same key"),
        (
            "node: {id: true}",
            "1: id in node: type error (expected string); write it in quotes",
        ),
        (
            "local-only: {local: yes}",
            "1: local in local-only: could not parse yes as boolean: write true or false",
        ),
        (
            "local-only: {local: 1}",
            "1: local in local-only: type error (expected bool)",
        ),
        (
            "tcp-listeners: {port: 1.5}",
            "1: port in tcp-listeners: type error (expected int)",
        ),
        ("version: two", "1: version is not a number"),
        ("1: a", "1: a key is not text"),
        ("node: {id: [a]}", "1: id in node: type error (expected string)"),
        (
            "tcp-peers: {address: b:1, cost: -1}",
            "connection cost must be positive",
        ),
        (
            "node: {id: 'a b'}",
            "node id can only contain a-z, A-Z, 0-9 or special characters . - _ @ : but received: a b",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    assert!(error("node: [").starts_with("1: ") || error("node: [").starts_with("2: "));
}

#[test]
fn words_are_booleans_where_booleans_are_meant_only() {
    assert_eq!(
        config("node: {id: no}\nlocal-only: {local: true}").node.id,
        NodeId::new("no")
    );
    assert_eq!(
        config("node: {id: 17}\nlocal-only: {local: 't'}").node.id,
        NodeId::new("17")
    );
}

#[test]
fn an_empty_file_and_one_with_tools_only_run_no_node() {
    for text in ["", "---", "version: 2", "node:", "{}", "tcp-peers: []"] {
        let sections = read(text).unwrap();
        assert!(sections.node.is_none() && sections.tools.is_empty(), "{text}");
    }
    let sections = read(
        "cert-signreqs: {req: a, cacert: b, cakey: c, outcert: d, verify: true}
cert-makereqs: [{commonname: a, outreq: b, inkey: c, nodeid: 'a,b'}, {commonname: a, outreq: b, inkey: d}]
cert-init: {commonname: x, outcert: x.crt, outkey: x.key}",
    )
    .unwrap();
    assert!(sections.node.is_none());
    let kinds: Vec<_> = sections
        .tools
        .iter()
        .map(|tool| match tool {
            Tool::Init(init) => format!("init {}", init.bits),
            Tool::MakeRequest(request) => format!("make {:?}", request.names.nodes),
            Tool::SignRequest(sign) => format!("sign {}", sign.is_verified),
        })
        .collect();
    assert_eq!(kinds, ["init 0", "make [\"a\", \"b\"]", "make []", "sign true"]);
}

#[test]
fn local_only_must_be_true() {
    let config = config("local-only: {}");
    assert!(config.backends.is_empty());
    assert_eq!(
        config.warnings,
        ["local-only has no effect without local: true (f.yaml:1)"]
    );
}

#[test]
fn a_merge_is_no_repetition() {
    let config = config(
        "work-commands:
- &base {worktype: a, command: cat, params: x}
- {<<: *base, worktype: b}
local-only: {local: true}",
    );
    let types: Vec<_> = config.workers.iter().map(|worker| worker.work_type.as_str()).collect();
    assert_eq!(types, ["a", "b"]);
}

fn run(args: &[&str], home: Option<&Path>) -> Result<Action, String> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    load(&args, &host(), home, &file::contents).map_err(|error| error.to_string())
}

#[test]
fn the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let home = Some(dir.path());
    assert!(matches!(run(&["--help"], None), Ok(Action::HelpOfSections)));
    assert!(matches!(run(&["x", "-h", "--bogus"], None), Ok(Action::HelpOfSections)));
    assert!(matches!(run(&["x", "--version"], None), Ok(Action::Version)));
    for (args, text) in [
        (&["--bogus"][..], "unknown flag: --bogus"),
        (&["-c", "x"], "unknown flag: -c"),
        (&["--confg", "x"], "unknown flag: --confg (did you mean config?)"),
        (&["--config"], "flag needs an argument: --config"),
        (&[], "Could not locate config file (default is $HOME/receptor.yaml)"),
        (
            &["--config", "a.conf"],
            "error loading config file: a.conf: its name must end in .yaml, .yml or .json",
        ),
        (
            &["--config=a.TOML"],
            "error loading config file: a.TOML: .toml files are not supported; write it as .yaml or .json",
        ),
        (
            &["--config", "/nowhere/a.yml"],
            "error loading config file: open /nowhere/a.yml: no such file or directory",
        ),
    ] {
        assert_eq!(run(args, home).unwrap_err(), text, "{args:?}");
    }
    // Of several files at home the first in the classic order is read, as YAML.
    for (name, id) in [("receptor", "a"), ("receptor.yml", "b"), ("receptor.json", "c")] {
        fs::write(dir.path().join(name), format!("node: {{id: {id}}}")).unwrap();
        let Ok(Action::Sections(sections)) = run(&[], home) else {
            panic!("{name}")
        };
        assert_eq!(sections.file, dir.path().join(name).to_str().unwrap());
        assert_eq!(sections.node.unwrap().build().unwrap().node.id, NodeId::new(id));
    }
}

#[test]
fn json_is_read_by_its_extension() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let json = "{\n\t\"node\": {\"id\": \"a\\/\\ud83d\\ude00\"},\n\t\"local-only\": {\"local\": true}, \"tcp-peers\": [{\"address\": \"b:1\", \"cost\": 2.5}]}";
    fs::write(&path, json.replace("\\/\\ud83d\\ude00", "")).unwrap();
    let arg = format!("--config={}", path.display());
    let Ok(Action::Sections(sections)) = run(&[&arg], None) else {
        panic!("sections")
    };
    let config = sections.node.unwrap().build().unwrap();
    assert_eq!((config.node.id, config.backends.len()), (NodeId::new("a"), 2));
    fs::write(&path, "{\n\"node\": }").unwrap();
    let error = run(&[&arg], None).unwrap_err();
    assert!(error.contains("a.json:2: json: expected value"), "{error}");
    fs::write(&path, "node: {}").unwrap();
    assert!(run(&[&arg], None).unwrap_err().contains("json: "));
}
