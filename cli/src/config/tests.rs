use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use receptor_core::config::{BackendKind, ControlService, ControlTcp, SocketFile, WorkKind, WorkLimits};
use receptor_core::id::{NodeId, ServiceName};
use receptor_host::tls_files::{TlsClient, TlsServer};

use super::to_core::Machine;
use super::*;

fn host() -> Host {
    Host {
        name: "Host.example".into(),
        temp_dir: "/var/tmp".into(),
        proxies: Default::default(),
    }
}

/// Loads a command line with blanks between the arguments; the file `f` has this content.
fn load_text(args: &str, file: &str) -> Result<Action, ConfigError> {
    let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    load_from(&args, &host(), None, &|path| match path {
        "f" => Ok(file.into()),
        _ => file::contents(path),
    })
}

pub(super) fn config(args: &str, file: &str) -> Config {
    match load_text(args, file) {
        Ok(Action::Run(config)) => *config,
        other => panic!("{args} {file}: {other:?}"),
    }
}

pub(super) fn error(args: &str, file: &str) -> String {
    match load_text(args, file) {
        Err(error) => error.to_string(),
        Ok(action) => panic!("{args} {file}: {action:?}"),
    }
}

/// `config.md` §5, the rows about the command line.
#[test]
fn command_line_errors_have_the_classic_texts() {
    for (args, text) in [
        ("x", "parameter specified before command"),
        ("-c f x=y", "parameter specified before command"),
        ("--bogus", "command error: unknown config type bogus"),
        ("--", "command error: unknown config type "),
        (
            "--config=f",
            "command error: unknown config type config=f (did you mean config?)",
        ),
        (
            "--work_command",
            "command error: unknown config type work_command (did you mean work-command?)",
        ),
        ("--node colour=red", "config error: unknown field name colour"),
        (
            "--tcp-peer adress=a:1",
            "config error: unknown field name adress (did you mean address?)",
        ),
        ("--trace on", "config error: command does not allow bare values"),
        (
            "--tcp-listener port=x",
            "error setting config value for field port: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "--tcp-peer a:1 REDIAL=maybe",
            "error setting config value for field redial: could not parse maybe as boolean",
        ),
        (
            "--node firewallrules=[]",
            "error setting config value for field firewallrules: type error (expected list of maps, file only)",
        ),
        ("--node id=a --node id=b", "directive \"node\" is only allowed once"),
        ("-c f --log-level info", "directive \"log-level\" is only allowed once"),
        (
            "--tcp-listener",
            "error in --tcp-listener: required parameter missing: port",
        ),
        (
            "--tcp-listener --help",
            "error in --tcp-listener: required parameter missing: port",
        ),
        (
            "--work-command params=x",
            "error in --work-command: required parameters missing: worktype, command",
        ),
        ("--version --node a", "cannot specify any other options with version"),
        ("--node a --version", "cannot specify any other options with version"),
        ("-c f --version", "cannot specify any other options with version"),
        ("--tcp-listener 2222 cost=0", "connection cost must be positive"),
        ("--tcp-listener 2222 cost=-1.5", "connection cost must be positive"),
        ("--udp-listener 2222 cost=-1.5", "connection cost must be positive"),
        ("--ws-peer ws://a cost=0", "connection cost must be positive"),
        ("--tcp-peer a:1 cost=nan", "connection cost must be positive"),
        ("--tcp-peer a:1 cost=inf", "connection cost must be finite"),
        (
            "--tcp-listener 2222 nodecost={\"b\":0}",
            "connection cost must be positive for b",
        ),
    ] {
        assert_eq!(error(args, "- log-level: error"), text, "{args}");
    }
    let empty = load(&[String::new()], &host()).unwrap_err();
    assert_eq!(empty.to_string(), "empty argument");
}

/// `config.md` §5, the rows about a file. Each text comes after file and line.
#[test]
fn file_errors_have_the_classic_texts() {
    for (file, line, text) in [
        (
            "node: {id: a}\n",
            1,
            "yaml: unmarshal errors: cannot unmarshal !!map into a list of entities (a map is of the second dialect, --config-v2)",
        ),
        (
            "7",
            1,
            "yaml: unmarshal errors: cannot unmarshal !!int into a list of entities",
        ),
        (
            "- trace\n- bogus:\n    a: 1\n",
            2,
            "could not get config type for command bogus: unknown config type bogus",
        ),
        (
            "- TCP-Peer: a:1",
            1,
            "could not get config type for command TCP-Peer: unknown config type TCP-Peer (did you mean tcp-peer?)",
        ),
        (
            "- tcp-pear: a:1",
            1,
            "could not get config type for command tcp-pear: unknown config type tcp-pear (did you mean tcp-peer?)",
        ),
        (
            "- trace:\n  local-only:\n",
            2,
            "config format invalid: item has multiple names",
        ),
        ("-\n", 1, "unknown config file format"),
        ("- 7\n", 1, "unknown config file format"),
        ("- {}\n", 1, "unknown config file format"),
        ("- [a]\n", 1, "unknown config file format"),
        ("- no: 1\n", 1, "section key is not a string"),
        ("- tcp-listener: 2222\n", 1, "invalid config format for tcp-listener"),
        ("- tcp-listener: [2222]\n", 1, "invalid config format for tcp-listener"),
        (
            "- trace: yes please\n",
            1,
            "could not get barevalue for command trace: command does not allow bare values",
        ),
        (
            "- trace\n- tcp-peer:\n    address: a:1\n    adress: b\n",
            4,
            "field adress not defined for command tcp-peer: unknown field name adress (did you mean address?)",
        ),
        (
            "- node: {id: ~}",
            1,
            "error setting field id in command node: value cannot be nil",
        ),
        (
            "- node: {id: [a]}",
            1,
            "error setting field id in command node: type error (expected string)",
        ),
        (
            "- tcp-peer: {address: 'a:1', redial: 1}",
            1,
            "error setting field redial in command tcp-peer: type error (expected bool)",
        ),
        (
            "- tcp-listener: {port: '0x'}",
            1,
            "error setting field port in command tcp-listener: strconv.ParseInt: parsing \"0x\": invalid syntax",
        ),
        (
            "- node: {id: a}\n\n- node: {id: b}\n",
            3,
            "only one node directive is allowed",
        ),
        (
            "- tcp-listener:\n    cost: 1\n",
            1,
            "error in tcp-listener: required parameter missing: port",
        ),
        (
            "- work-command",
            1,
            "error in work-command: required parameters missing: worktype, command",
        ),
    ] {
        assert_eq!(
            error("-c f", file),
            format!("error loading config file: f:{line}: {text}"),
            "{file}"
        );
    }
    assert_eq!(
        error("-c /nonexistent/receptor.conf", ""),
        "error loading config file: open /nonexistent/receptor.conf: no such file or directory"
    );
    assert!(error("-c f", "- a: [\n").starts_with("error loading config file: f:"));
    assert!(error("-c f", "- a: [\n").contains(": yaml: "));
}

#[test]
fn files_larger_than_the_limit_are_refused() {
    assert_eq!(
        error("-c /dev/zero", ""),
        "error loading config file: open /dev/zero: file is larger than 16777216 bytes"
    );
}

#[test]
fn node_errors_have_the_classic_texts() {
    for (args, text) in [
        ("--node id=LocalHost", "node ID \"localhost\" is reserved"),
        (
            "--node id=a/b",
            "node id can only contain a-z, A-Z, 0-9 or special characters . - _ @ : but received: a/b",
        ),
        (
            "--node maxidleconnectiontimeout=soon",
            "failed to parse MaxIdleConnectionTimeout from configuration file -- \
             valid examples include '1.5h', '30m', '30m10s'",
        ),
        (
            "--node maxidleconnectiontimeout=20s",
            "user defined maxIdleConnectionTimeout [20000000000] is less than the default default timeout [21000000000]",
        ),
        (
            "--node maxidleconnectiontimeout=-1h",
            "user defined maxIdleConnectionTimeout [-3600000000000] is less than the default default timeout [21000000000]",
        ),
        ("--node id=..", "node ID \"..\" cannot be the name of a directory"),
        ("--log-level loud", "loud is not a valid log level name"),
    ] {
        assert_eq!(error(args, ""), text, "{args}");
    }
    for name in ["localhost", "localhost.localdomain"] {
        let error = load(
            &["--trace".into()],
            &Host {
                name: name.into(),
                ..host()
            },
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no node ID specified and local host name is localhost"
        );
    }
}

#[test]
fn start_errors_have_the_classic_texts() {
    for (args, text) in [
        ("--control-service service=", "no listeners specified"),
        (
            "--control-service ninebytes",
            "config error: command does not allow bare values",
        ),
        (
            "--control-service service=ninebytes",
            "error opening Unix socket: service name ninebytes too long",
        ),
        (
            "--control-service service=ping",
            "error opening Unix socket: service ping is already listening",
        ),
        (
            "--control-service filename=a --control-service filename=b",
            "error opening Unix socket: service control is already listening",
        ),
        (
            "--control-service filename=a --control-service service= filename=a",
            "error opening Unix socket: a belongs to another control-service",
        ),
        (
            "--control-service permissions=0x10000",
            "error opening Unix socket: permissions 0o200000 are not a file mode",
        ),
        ("--tcp-listener 65536", "listen tcp: address 65536: invalid port"),
        (
            "--tcp-listener -- 1",
            "error in --tcp-listener: required parameter missing: port",
        ),
        ("--tcp-peer hub", "address hub: missing port in address"),
        ("--tcp-peer fe80::1:2", "address fe80::1:2: too many colons in address"),
        (
            "--work-command worktype=a command=b --work-command worktype=a command=c",
            "work type a already registered",
        ),
        (
            "--work-command worktype=remote command=b",
            "work type remote already registered",
        ),
        (
            "--work-command worktype=a command=b verifysignature=true",
            "VerifySignature for work command 'a' is true, but the work verification public key is not specified",
        ),
        ("--work-verification /nonexistent", "/nonexistent does not exist"),
        ("--work-signing /nonexistent", "/nonexistent does not exist"),
        (
            "--work-signing / tokenexpiration=soon",
            "failed to parse TokenExpiration -- valid examples include '1.5h', '30m', '30m10s'",
        ),
        (
            "--ws-peer ws://a extraheader=x",
            "extra header must be in the form key:value",
        ),
    ] {
        assert_eq!(error(args, ""), text, "{args}");
    }
}

#[test]
fn what_would_open_or_cut_the_mesh_is_refused_by_name() {
    assert_eq!(
        error("--node worker --command-runner command=a params= unitdir=b", ""),
        "not supported yet: command-runner"
    );
    config(
        "-c f",
        "- node: {firewallrules: []}\n- tcp-peer: {address: 'a:1', tls: ''}\n",
    );
}

/// `config.md` §6.12.
#[test]
fn certificate_tools() {
    use crate::certificates::{RequestKey, Tool};
    let tool = |args: &str, file: &str| match load_text(args, file) {
        Ok(Action::Certificate(tool)) => tool,
        other => panic!("{args}: {other:?}"),
    };
    let Tool::Init(init) = tool(
        "--cert-init commonname=a bits=4096 outcert=b outkey=c notafter=2030-01-01T00:00:00+01:00",
        "",
    ) else {
        panic!("another tool")
    };
    assert_eq!(
        (init.common_name.as_str(), init.bits, init.validity.not_before),
        ("a", 4096, None)
    );
    let end = init.validity.not_after.expect("as given");
    assert_eq!(end.to_string(), "2029-12-31T23:00:00Z");
    let file = "- cert-makereq: {commonname: a, outreq: b, inkey: c, nodeid: [x, z], ipaddress: '::1'}";
    let Tool::MakeRequest(request) = tool("-c f", file) else {
        panic!("another tool")
    };
    assert_eq!(request.key, RequestKey::Existing("c".into()));
    assert_eq!(request.names.nodes, ["x", "z"]);
    let Tool::SignRequest(sign) = tool("--cert-signreq req=a cacert=b cakey=c outcert=d verify=yes", "") else {
        panic!("another tool")
    };
    assert!(sign.is_verified);
    for (args, text) in [
        (
            "--cert-makereq commonname=a outreq=b",
            "must provide either InKey or OutKey",
        ),
        (
            "--cert-makereq commonname=a outreq=b inkey=c outkey=d bits=2048",
            "cannot use both InKey and OutKey",
        ),
        (
            "--cert-makereq commonname=a outreq=b inkey=c bits=2048",
            "cannot specify key bits when reading an already-existing key",
        ),
        (
            "--cert-makereq commonname=a outreq=b outkey=c",
            "must specify key bits when creating a new key",
        ),
        (
            "--cert-makereq commonname=a outreq=b outkey=c bits=2048 ipaddress=999.1.1.1",
            "invalid IP address: 999.1.1.1",
        ),
        (
            "--cert-init commonname=a bits=0 outcert=b outkey=c notbefore=junk",
            "notbefore \"junk\" is not a time as 2026-01-31T00:00:00Z (RFC 3339)",
        ),
        (
            "--cert-signreq req=a cacert=b cakey=c outcert=d --local-only",
            "cannot specify any other options with cert-signreq",
        ),
    ] {
        assert_eq!(error(args, ""), text, "{args}");
    }
}

/// `security.md` §13.1; and what a classic node drops in silence is refused.
#[test]
fn firewall_rules() {
    let rules = config(
        "-c f",
        "- node: {firewallrules: [{Action: REJECT, toNode: a, toservice: ''}, {action: drop, fromnode: '/(?i)x|y/'}]}\n- local-only",
    )
    .node
    .firewall;
    let shown: Vec<_> = rules.as_slice().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["action: reject, tonode: a", "action: drop, fromnode: /(?i)x|y/"]
    );
    assert!(config("--local-only", "").node.firewall.is_empty());
    for (rules, text) in [
        ("{}", "error in rule 0: unknown action: "),
        (
            "{action: accept}, {action: refuse}",
            "error in rule 1: unknown action: refuse",
        ),
        (
            "{action: drop, node: x}",
            "error in rule 0: invalid filewall rule. unknown key: node",
        ),
        (
            "{action: drop, tonode: 7}",
            "error in rule 0: invalid firewall rule. tonode must be a string",
        ),
        (
            "{action: drop, tonode: null}",
            "error in rule 0: invalid firewall rule. tonode must be a string",
        ),
        (
            "{action: drop, tonode: /foo}",
            "error in rule 0: tonode: the regular expression \"/foo\" has no closing /",
        ),
        (
            "{action: drop, tonode: /}",
            "error in rule 0: tonode: the regular expression \"/\" has no closing /",
        ),
        (
            "{action: drop, tonode: '/a(/'}",
            "error in rule 0: tonode: the regular expression \"/a(/\": unclosed group",
        ),
    ] {
        let file = format!("- node: {{firewallrules: [{rules}]}}\n- local-only");
        assert_eq!(error("-c f", &file), text);
    }
}

#[test]
fn every_refused_entity_is_refused() {
    let refused = entity::ENTITIES
        .iter()
        .filter(|entity| entity.support == entity::Support::Refused);
    for entity in refused {
        let mut args = format!("--{}", entity.name);
        for param in entity.params.iter().filter(|param| param.required) {
            let value = if entity.name == "ws-peer" { "ws://a" } else { "1" };
            args += &format!(" {}={value}", param.name);
        }
        assert_eq!(error(&args, ""), format!("not supported yet: {}", entity.name));
    }
}

#[test]
fn what_does_no_harm_by_its_absence_is_warned_about() {
    let unavailable = (entity::ENTITIES.iter())
        .filter(|entity| entity.support == entity::Support::Unavailable && entity.section != entity::Section::Workers);
    for entity in unavailable {
        let mut args = format!("--{}", entity.name);
        for param in entity.params.iter().filter(|param| param.required) {
            let value = if entity.name == "ws-peer" { "ws://a" } else { "1" };
            args += &format!(" {}={value}", param.name);
        }
        let expected = format!("{} is not supported yet and has no effect (command line)", entity.name);
        assert_eq!(config(&args, "").warnings, [expected]);
    }
}

#[test]
fn workers_that_do_not_exist_are_warned_about_and_kept_by_name() {
    let config = config(
        "-c f",
        "- work-python: {worktype: py, plugin: a, function: b, config: {x: [1]}}\n\
         - work-kubernetes: {worktype: pods, image: i}\n\
         - work-verification: {publickey: /}\n\
         - work-signing: {privatekey: /, tokenexpiration: 5m}\n\
         - work-command: {worktype: safe, command: cat, verifysignature: yes}\n\
         - work-command: {worktype: open, command: cat}\n",
    );
    let signed: Vec<_> = config.workers.iter().map(|worker| worker.verify_signature).collect();
    assert_eq!(signed, [false, false, true, false]);
    let kinds: Vec<_> = config
        .workers
        .iter()
        .map(|worker| match &worker.kind {
            WorkerKind::Unavailable { reason } => (worker.work_type.as_str(), reason.as_str()),
            WorkerKind::Command { .. } => (worker.work_type.as_str(), "runs"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            ("py", "work-python is not supported yet"),
            ("pods", "work-kubernetes is not supported yet"),
            ("safe", "runs"),
            ("open", "runs"),
        ]
    );
    assert_eq!(
        config.warnings,
        [
            "work type py is not offered: work-python is not supported yet (f:1)",
            "work type pods is not offered: work-kubernetes is not supported yet (f:2)",
        ]
    );
}

#[test]
fn keys_of_signed_work_have_the_classic_defaults_and_a_leeway() {
    let keys = |text: &str| {
        config(
            "-c f",
            &format!("{text}- work-command: {{worktype: open, command: cat}}\n"),
        )
        .work_keys
    };
    assert_eq!(keys(""), Default::default());
    let found = keys("- work-signing: {privatekey: /}\n- work-verification: {publickey: /}\n");
    let (signing, verification) = (found.signing.unwrap(), found.verification.unwrap());
    assert_eq!((&*signing.private_key, signing.expiration.as_secs()), ("/", 300));
    assert_eq!((&*verification.public_key, verification.leeway.as_secs()), ("/", 60));
    let found = keys(
        "- work-signing: {privatekey: /, tokenexpiration: 1m30s}\n- work-verification: {publickey: /, leeway: 0s}\n",
    );
    assert_eq!(found.signing.unwrap().expiration.as_secs(), 90);
    assert_eq!(found.verification.unwrap().leeway.as_secs(), 0);
    for (args, text) in [
        (
            "--work-signing / tokenexpiration=0s",
            "tokenexpiration 0s is less than 1s",
        ),
        (
            "--work-signing / tokenexpiration=-5m",
            "tokenexpiration -5m is negative",
        ),
        ("--work-verification / leeway=-1s", "leeway -1s is negative"),
        (
            "--work-verification / leeway=soon",
            "failed to parse Leeway -- valid examples include '1.5h', '30m', '30m10s'",
        ),
    ] {
        assert_eq!(
            load_text(&format!("--node a {args}"), "").unwrap_err().to_string(),
            text
        );
    }
}

#[test]
fn limits_of_units_are_off_unless_said() {
    let limits = |text: &str| {
        config(
            "-c f",
            &format!("- work-command: {{worktype: open, command: cat}}\n{text}"),
        )
        .work_limits
    };
    assert_eq!(limits(""), WorkLimits::default());
    let all = limits(
        "- work-limits: {maxrunning: 4, maxqueued: 0, maxunits: 50, maxstdin: 1M, maxstdout: 2M, timelimit: 1h, stdintimeout: 5m, expire: 24h, expireremote: 48h}\n",
    );
    let expected = WorkLimits {
        max_units: Some(50),
        max_running: Some(4),
        max_queued: Some(0),
        max_stdin: Some(1 << 20),
        max_stdout: Some(2 << 20),
        time_limit: Some(Duration::from_secs(3600)),
        stdin_timeout: Some(Duration::from_secs(300)),
        expire: Some(Duration::from_secs(86_400)),
        expire_remote: Some(Duration::from_secs(172_800)),
    };
    assert_eq!(all, expected);
    for (args, text) in [
        ("maxrunning=0", "maxrunning 0 is less than 1"),
        ("maxqueued=-1", "maxqueued -1 is less than 0"),
        ("expire=1ms", "expire 1ms is less than 1s"),
        (
            "expire=soon",
            "failed to parse expire -- valid examples include '1.5h', '30m', '30m10s'",
        ),
        (
            "maxstdin=lots",
            "maxstdin lots is not a size -- valid examples include 1048576, '512M', '2GiB'",
        ),
    ] {
        let error = load_text(&format!("--node a --work-limits {args}"), "")
            .unwrap_err()
            .to_string();
        assert_eq!(error, text);
    }
}

#[test]
fn words_that_print_something() {
    for args in ["", "--help", "-h", "-HELP", "--h", "--node a -h --bogus", "-c --help"] {
        assert!(matches!(load_text(args, ""), Ok(Action::Help)), "{args}");
    }
    assert!(matches!(load_text("--Bash-Completion", ""), Ok(Action::Completion)));
    for args in ["--version", "-VERSION", "-c f"] {
        assert!(matches!(load_text(args, "- version"), Ok(Action::Version)), "{args}");
    }
}

#[test]
fn defaults() {
    let config = config("--trace", "");
    assert_eq!(config.node.id, NodeId::new("Host.example"));
    assert_eq!(config.node.data_dir, PathBuf::from("/tmp/receptor"));
    assert_eq!(config.node.idle_timeout, Duration::from_secs(21));
    assert_eq!(config.log_level, crate::logging::Level::Info);
    assert!(config.trace && config.backends.is_empty() && config.warnings.is_empty() && config.config_file.is_none());
}

#[test]
fn the_command_line_grammar() {
    let config = config(
        "-Node ID=e-1 datadir= --log-level --tcp-listener 7323 port=0x1C9B allowedpeers=a AllowedPeers=b \
         --TCP-Peer hub:27199 cost=1.5 redial=no --local-only --control-service filename=x=y service=",
        "",
    );
    assert_eq!(config.node.data_dir, PathBuf::from("/var/tmp/receptor"));
    assert_eq!(config.log_level, crate::logging::Level::Error);
    let [listener, peer, alone] = &config.backends[..] else {
        panic!()
    };
    assert_eq!(listener.kind, BackendKind::listener("0.0.0.0:7323"));
    assert_eq!(listener.links.allowed_peers, Some(["a", "b"].map(NodeId::new).into()));
    let BackendKind::Peer { address, redial, .. } = &peer.kind else {
        panic!()
    };
    assert_eq!((address.as_str(), *redial, peer.links.cost), ("hub:27199", false, 1.5));
    assert_eq!(peer.links.allowed_peers, None);
    assert_eq!(alone.kind, BackendKind::LocalOnly);
    let socket = Some(SocketFile {
        path: "x=y".into(),
        mode: 0o600,
    });
    let expected = ControlService {
        socket,
        ..ControlService::default()
    };
    assert_eq!(config.control_services, [expected]);
}

#[test]
fn control_services_listen_on_tcp() {
    let of = |args: &str| config(args, "").control_services[0].clone();
    for (listen, bind) in [
        ("1234", "0.0.0.0:1234"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]:1", "[::1]:1"),
        (":5", ":5"),
    ] {
        let service = of(&format!("--control-service service= tcplisten={listen} tcptls=a"));
        let tcp = ControlTcp {
            bind: bind.into(),
            tls: Some("a".into()),
        };
        assert_eq!((service.service, service.tcp), (None, Some(tcp)));
    }
    let service = of("--control-service tls=mesh");
    assert_eq!((service.tls.as_deref(), service.tcp), (Some("mesh"), None));
    assert_eq!(
        error("--control-service tcplisten=::1:5", ""),
        "error listening on TCP socket: listen tcp: address ::1:5: too many colons in address"
    );
    let half = config("--control-service tls=mesh tcplisten=1", "");
    assert!(
        half.warnings[0].starts_with("tls of control-service does not protect its TCP socket"),
        "{:?}",
        half.warnings
    );
}

#[test]
fn tls_configs_are_files_and_flags() {
    let file = config(
        "-c f",
        "- tls-server: {name: s, cert: c, key: k, requireclientcert: true, clientcas: ca, pinnedclientcert: [a, b], mintls13: yes}\n\
         - tls-client: {name: c, cert: '', key: '', rootcas: ca, insecureskipverify: true, pinnedservercert: [a],\n    skipreceptornamescheck: true}\n",
    );
    let server = TlsServer {
        name: "s".into(),
        cert: "c".into(),
        key: "k".into(),
        require_client_cert: true,
        client_cas: "ca".into(),
        pinned_client_certs: ["a", "b"].map(str::to_owned).to_vec(),
        skip_receptor_names_check: false,
        min_tls13: true,
    };
    let client = TlsClient {
        name: "c".into(),
        root_cas: "ca".into(),
        insecure_skip_verify: true,
        pinned_server_certs: vec!["a".into()],
        skip_receptor_names_check: true,
        ..TlsClient::default()
    };
    assert_eq!((file.tls.servers, file.tls.clients), (vec![server], vec![client]));
    assert_eq!(
        error("--tls-client name=c cert=", ""),
        "error in --tls-client: required parameter missing: key"
    );
}

#[test]
fn files_stand_where_they_are_named() {
    let config = config(
        "--local-only -C f --tcp-peer b:1 --config f --config",
        "- tcp-peer: a:1",
    );
    let addresses: Vec<_> = config
        .backends
        .iter()
        .map(|backend| match &backend.kind {
            BackendKind::Peer { address, .. } => address.as_str(),
            _ => "-",
        })
        .collect();
    assert_eq!(addresses, ["-", "a:1", "b:1", "a:1"]);
    // Only the exact spellings count for reload.
    assert_eq!(config.config_file, Some("f".into()));
    assert_eq!(self::config("-C f", "- trace").config_file, None);
}

/// `config.md` §2: accepted by the classic node, where the last one wins.
#[test]
fn a_singleton_repeated_by_a_file_wins_and_is_warned_about() {
    let config = config("--node a -c f", "- node: b");
    assert_eq!(config.node.id, NodeId::new("b"));
    assert_eq!(config.warnings, ["node of f:1 replaces node of command line"]);
}

#[test]
fn empty_documents_are_empty_lists() {
    for file in ["", "---\n", "[]", "# nothing\n", "---\n...\n"] {
        assert!(config("-c f", file).backends.is_empty(), "{file:?}");
    }
}

/// The composed example of `config.md` §3 without its TLS, and the forms of an item.
#[test]
fn the_composed_example() {
    let config = config(
        "-c f",
        "---\n\
         - trace\n\
         - local-only:\n\
         - tcp-listener: \"2222\"\n\
         - log-level: warning\n\
         - tcp-peer:\n\
         \x20   address: hub.example.net:27199\n\
         \x20   cost: 1.5\n\
         - tcp-listener: {port: 7323, nodecost: {a: 2, B: 0.5}, allowedpeers: []}\n\
         - control-service:\n\
         \x20   filename: edge7.sock\n\
         \x20   permissions: 0660\n\
         - work-command:\n\
         \x20   workType: reverse\n\
         \x20   command: rev\n\
         \x20   ALLOWRUNTIMEPARAMS: on\n\
         - node: {id: edge7, maxidleconnectiontimeout: 45s, datadir: /data}\n\
         ---\n\
         - nonsense of a second document\n",
    );
    assert_eq!(config.log_level, crate::logging::Level::Warning);
    let core = config.to_core(Machine {
        cpu_count: 2,
        memory_mib: 512,
    });
    assert_eq!(core.node_id, NodeId::new("edge7"));
    assert_eq!(config.node.data_dir, PathBuf::from("/data"));
    assert_eq!(
        (core.version.as_str(), core.cpu_count, core.memory_mib),
        (crate::VERSION, 2, 512)
    );
    assert_eq!(core.idle_timeout, Duration::from_secs(45));
    let kinds: Vec<_> = core.backends.iter().map(|backend| backend.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            BackendKind::LocalOnly,
            BackendKind::listener("0.0.0.0:2222"),
            BackendKind::peer("hub.example.net:27199"),
            BackendKind::listener("0.0.0.0:7323"),
        ]
    );
    assert_eq!(core.backends[2].cost, 1.5);
    assert_eq!(
        core.backends[3].node_costs,
        [(NodeId::new("a"), 2.0), (NodeId::new("B"), 0.5)].into()
    );
    assert_eq!(core.backends[3].allowed_peers, Some([].into()));
    assert_eq!(core.control_services[0].service, Some(ServiceName::CONTROL));
    assert_eq!(
        core.control_services[0].socket,
        Some(SocketFile {
            path: "edge7.sock".into(),
            mode: 0o660
        })
    );
    assert_eq!(core.work_types[0].name, "reverse");
    assert_eq!(
        core.work_types[0].kind,
        WorkKind::Command {
            command: "rev".into(),
            params: String::new(),
            allow_runtime_params: true
        }
    );
}

proptest! {
    #[test]
    fn any_file_ends_in_items_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = file::parse("f", &bytes);
    }

    #[test]
    fn any_arguments_end_in_an_action_or_an_error(
        args in proptest::collection::vec("(--?)?(node|tcp-peer|c|config|log-level|id=|port=|=|\\PC{0,6}){0,2}", 0..6)
    ) {
        let _ = load_from(&args, &host(), None, &|_| Ok("- local-only".into()));
    }

    #[test]
    fn any_entity_with_any_value_ends_in_an_action_or_an_error(
        index in 0..entity::ENTITIES.len(),
        values in proptest::collection::vec("[0-9a-z:.{}\\[\\]\", é-]{0,12}", 8)
    ) {
        let entity = &entity::ENTITIES[index];
        let params = entity.params.iter().zip(&values);
        let args: Vec<_> = std::iter::once(format!("--{}", entity.name))
            .chain(params.map(|(param, value)| format!("{}={value}", param.name)))
            .collect();
        let _ = load_from(&args, &host(), None, &|_| Ok(Vec::new()));
    }
}
