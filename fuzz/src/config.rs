//! Configuration: any YAML, any file of either dialect, any command line.

use std::collections::BTreeSet;

use receptor_cli::config::to_core::Machine;
use receptor_cli::config::v2::SWITCH;
use receptor_cli::config::yaml::{MAX_DEPTH, MAX_WEIGHT, Node, Schema, Yaml, parse_as};
use receptor_cli::config::{Action, Config, ConfigError, Host, load_from};
use receptor_core::config::Config as CoreConfig;
use receptor_core::node::Node as CoreNode;
use receptor_core::time::{Instant, Now, Wall};

/// A document by the rules of both dialects; what comes out is no larger than promised.
pub fn yaml(input: &[u8]) {
    for schema in [Schema::Classic, Schema::Modern] {
        if let Ok(Some(node)) = parse_as(input, schema) {
            let (depth, weight) = measure(&node);
            assert!(depth <= MAX_DEPTH, "{depth} levels");
            assert!(weight <= MAX_WEIGHT, "{weight} bytes");
        }
    }
}

/// Levels and weight of a tree.
fn measure(node: &Node) -> (usize, usize) {
    const NODE: usize = 64;
    let all = |nodes: &mut dyn Iterator<Item = &Node>| {
        nodes.map(measure).fold((1, NODE), |(depth, weight), below| {
            (depth.max(below.0 + 1), weight + below.1)
        })
    };
    match &node.value {
        Yaml::Text(text) => (1, NODE + text.len()),
        Yaml::List(nodes) => all(&mut nodes.iter()),
        Yaml::Map(entries) => all(&mut entries.iter().flat_map(|(key, value)| [key, value])),
        _ => (1, NODE),
    }
}

/// The first byte chooses the dialect: `0` is the list, `1` the map in YAML, `2` the map in JSON. The rest is the file.
pub fn config(input: &[u8]) {
    let Some((&dialect, file)) = input.split_first() else {
        return;
    };
    match dialect % 3 {
        0 => load(&["-c", "f"], file),
        1 => load(&[SWITCH, "--config", "f.yaml"], file),
        _ => load(&[SWITCH, "--config", "f.json"], file),
    }
}

/// A command line, one argument in a line; behind a zero byte the file that it may name.
pub fn arguments(input: &[u8]) {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let line = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let args: Vec<&str> = line.split('\n').collect();
    load(&args, parts.next().unwrap_or_default());
}

fn load(args: &[&str], file: &[u8]) {
    let host = Host {
        name: "host.example".into(),
        temp_dir: "/tmp".into(),
        proxies: Default::default(),
    };
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    match load_from(&args, &host, None, &|_| Ok(file.to_vec())) {
        Ok(Action::Run(config)) => judge(&config),
        Ok(Action::Sections(sections)) => match sections.node.map(|node| node.build()) {
            Some(Ok(config)) => judge(&config),
            Some(Err(error)) => show(&error),
            None => {}
        },
        Ok(_) => {}
        Err(error) => show(&error),
    }
}

/// One line of bounded length, whatever was quoted.
fn show(error: &ConfigError) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.chars().count() <= 1001);
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// What is said of a checked configuration holds, and a node takes it, or says why not.
fn judge(config: &Config) {
    assert!(!config.node.id.as_str().eq_ignore_ascii_case("localhost"));
    let place = config.node.data_dir.join(config.node.id.as_str());
    assert!(place.starts_with(&config.node.data_dir) && place != config.node.data_dir);
    assert!(config.node.idle_timeout >= CoreConfig::MIN_IDLE_TIMEOUT);
    for backend in &config.backends {
        let costs = backend.links.node_costs.values().chain([&backend.links.cost]);
        assert!(
            costs.into_iter().all(|cost| cost.is_finite() && *cost > 0.0),
            "{backend:?}"
        );
    }
    let mut types = BTreeSet::new();
    assert!(config.workers.iter().all(|worker| types.insert(&worker.work_type)));
    let mut core = config.to_core(Machine {
        cpu_count: 1,
        memory_mib: 1,
    });
    let servers = config.tls.servers.iter().map(|server| server.name.clone());
    core.tls.servers = servers.collect();
    let clients = config.tls.clients.iter().map(|client| client.name.clone());
    core.tls.clients = clients.collect();
    let now = Now {
        mono: Instant::ZERO,
        wall: Wall::from_secs(1_700_000_000),
    };
    if let Err(error) = CoreNode::new(core, [7; 32], now) {
        assert!(!error.to_string().is_empty());
    }
}
