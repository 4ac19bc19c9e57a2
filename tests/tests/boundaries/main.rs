//! Who may know whom: the borders between the parts of the core, and between the core and its adapters.
//!
//! The compiler sees one crate where the design sees parts, so the borders are checked on the source text: every path that
//! a file names, in `use` declarations and elsewhere.

mod paths;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{named, tokens};

/// Parts of the core that must not know each other.
const SIBLINGS: &[&str] = &[
    "link",
    "netceptor",
    "stream",
    "quic",
    "control",
    "service",
    "workceptor",
];

/// What every part may use.
const LEAFS: &[&str] = &[
    "time",
    "rng",
    "id",
    "complaints",
    "deadline",
    "duration",
    "error",
    "config",
    "firewall",
    "sabotage",
    "table_text",
];

/// What the parts may use whose machines speak TLS. Like a leaf it knows leafs only.
const TLS_USERS: &[&str] = &["link", "stream", "quic"];

/// Crates that reach the outside world, or hide a clock, a thread or chance.
const OUTSIDE: &[&str] = &[
    "std",
    "tokio",
    "smol",
    "async_io",
    "futures",
    "rustix",
    "libc",
    "mio",
    "socket2",
    "tracing",
    "log",
    "getrandom",
    "rand",
];

/// What the core's manifest may name (`docs/dependencies.md`).
const CORE_DEPENDENCIES: &[&str] = &[
    "bytes",
    "serde",
    "serde_json",
    "postcard",
    "hashbrown",
    "foldhash",
    "highway",
    "rand_chacha",
    "regex-automata",
    "regex-syntax",
    // Behind the features `quic` and `tls`, which brings the leaf of that name.
    "quinn-proto",
    "rustls",
    "rustls-webpki",
    "aws-lc-rs",
    "rcgen",
    "x509-parser",
    "tungstenite",
    "data-encoding",
];

/// What a place may name of the outside nevertheless. `quinn-proto` counts in std's time; it is computed, and read only in
/// tests, because there is no other way to have one.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("quic", "std::time::Instant"),
    ("quic::tests", "std::time::Instant::now"),
    // Traits of the library, over buffers.
    ("link::transport::websocket", "std::io::self"),
    ("link::transport::websocket", "std::io::Read"),
    ("link::transport::websocket", "std::io::Write"),
    ("stream::secure::tests", "std::io::Read"),
    ("stream::secure::tests", "std::io::Write"),
];

/// Words that have no place in a machine without IO: its users await, lock and seed.
const CORE_WORDS: &[&str] = &["async", "await", "unsafe", "Mutex", "RwLock", "RandomState"];

/// What an adapter may know of the core: the contract of the node, and the values in it. No message, route, stream or
/// state of a unit.
const ADAPTER_MAY: &[&str] = &[
    "receptor_core::config",
    "receptor_core::deadline",
    "receptor_core::error",
    "receptor_core::firewall",
    "receptor_core::id",
    "receptor_core::time",
    "receptor_core::node",
    "receptor_core::link::framing",
    "receptor_core::netceptor::TraceHop",
    "receptor_core::workceptor::RunnerEvent",
    "receptor_core::workceptor::UnitError",
    "receptor_core::workceptor::UnitId",
    "receptor_core::workceptor::UnitTask",
    "receptor_core::workceptor::UnitTaskResult",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// All Rust files below a folder: the modules they are, and their text.
fn sources(name: &str) -> Vec<(Vec<String>, String)> {
    fn walk(folder: &Path, module: &[String], found: &mut Vec<(Vec<String>, String)>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable entry").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let inner = [module, std::slice::from_ref(&stem)].concat();
            if path.is_dir() {
                walk(&path, &inner, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_outer = matches!(stem.as_str(), "mod" | "lib" | "main");
                let text = fs::read_to_string(&path).expect("readable source");
                found.push((if is_outer { module.to_vec() } else { inner }, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&folder(name), &[], &mut found);
    assert!(!found.is_empty(), "{name} has no source");
    found
}

/// Whether `path` is `prefix` or something in it.
fn is_in(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What is wrong with a file of the core.
fn core_faults(module: &[String], source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let place = module.join("::");
    let part = module.first().map_or("", String::as_str);
    if !(part.is_empty()
        || matches!(part, "wire" | "node" | "tls")
        || SIBLINGS.contains(&part)
        || LEAFS.contains(&part))
    {
        faults.push(format!("{place}: a part that this test does not know"));
    }
    for path in named(module, source) {
        let mut segments = path.split("::");
        let first = segments.next().unwrap_or_default();
        let is_excepted = EXCEPTIONS
            .iter()
            .any(|&(excepted, what)| what == path && is_in(&place, excepted));
        if OUTSIDE.contains(&first) && !is_excepted && !(part.is_empty() && path == "std") {
            faults.push(format!("{place} reaches outside: {path}"));
        }
        let Some(other) = segments.next().filter(|_| first == "crate") else {
            continue;
        };
        let may = match part {
            "" | "node" => true,
            "wire" | "tls" => other == part || LEAFS.contains(&other),
            _ if other == "tls" => TLS_USERS.contains(&part),
            _ if SIBLINGS.contains(&part) => other == part || other == "wire" || LEAFS.contains(&other),
            _ => LEAFS.contains(&other),
        };
        // What is no part of the core is a part of this file.
        let is_part = SIBLINGS.contains(&other) || matches!(other, "wire" | "node" | "tls" | "*");
        if !may && is_part {
            faults.push(format!("{place} must not know {path}"));
        }
        let has_state = [
            "crate::time::Instant",
            "crate::time::Now",
            "crate::deadline",
            "crate::rng",
        ];
        if part == "wire" && has_state.iter().any(|state| is_in(&path, state)) {
            faults.push(format!("{place}: bytes and values have no clock: {path}"));
        }
    }
    faults.extend(
        tokens(source)
            .iter()
            .filter(|word| CORE_WORDS.contains(&word.as_str()))
            // `#![forbid(unsafe_code)]` is another word.
            .map(|word| format!("{place}: `{word}`")),
    );
    faults
}

/// What is wrong with a file of an adapter.
fn adapter_faults(module: &[String], source: &str) -> Vec<String> {
    let knows = named(module, source).into_iter();
    knows
        .filter(|path| is_in(path, "receptor_core") && !ADAPTER_MAY.iter().any(|may| is_in(path, may)))
        .chain(
            named(module, source)
                .into_iter()
                .filter(|path| is_in(path, "receptor_cli")),
        )
        .map(|path| format!("{} must not know {path}", module.join("::")))
        .collect()
}

/// The keys of a table of a manifest.
fn keys(manifest: &str, table: &str) -> Vec<String> {
    let header = format!("[{table}]");
    let lines = manifest.lines().skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#') && line.contains('='))
        .map(|line| line.split(['.', '=', ' ']).next().unwrap_or_default().to_owned())
        .collect()
}

fn manifest(package: &str) -> String {
    fs::read_to_string(folder(package).join("Cargo.toml")).expect("a manifest")
}

#[test]
fn parts_of_the_core_meet_only_in_the_node() {
    let faults: Vec<_> = sources("core/src")
        .iter()
        .flat_map(|(module, text)| core_faults(module, text))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_core_is_without_std_and_unsafe_code() {
    let lib = fs::read_to_string(folder("core/src/lib.rs")).expect("the root of the core");
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(lib.lines().any(|line| line == attribute), "{attribute} is missing");
    }
    for name in keys(&manifest("core"), "dependencies") {
        assert!(
            CORE_DEPENDENCIES.contains(&name.as_str()),
            "the core must not depend on {name}"
        );
    }
}

#[test]
fn adapters_know_the_contract_of_the_node_and_nothing_else() {
    for adapter in ["runtime-tokio", "runtime-smol"] {
        let sources = sources(&format!("{adapter}/src"));
        let faults: Vec<_> = sources
            .iter()
            .flat_map(|(module, text)| adapter_faults(module, text))
            .collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        for table in ["dependencies", "dev-dependencies"] {
            for name in keys(&manifest(adapter), table) {
                let forbidden = ["receptor-cli", "receptor-tokio", "receptor-smol", "receptor-benches"];
                assert!(
                    !forbidden.contains(&name.as_str()),
                    "{adapter} must not depend on {name}"
                );
            }
        }
    }
}

fn module(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

#[test]
fn a_trespass_is_found_however_it_is_written() {
    for (place, source) in [
        ("stream::machine", "use crate::link::Session;"),
        ("stream::machine", "use crate::{id::NodeId, link::{self, Egress}};"),
        ("stream::machine", "use super::super::netceptor as mesh;"),
        ("stream", "use super::control;"),
        ("stream", "mod tests { use super::super::workceptor::State; }"),
        ("stream", "fn f(_: crate::node::Node) {}"),
        ("link", "fn f() { let x = 'a'; /* \" */ crate::stream::f(\"'\") }"),
        ("stream", "use super::*;"),
        ("time", "use crate::wire::Kind;"),
        ("wire::data", "use crate::time::{Duration, Instant};"),
        ("wire", "fn f(_: crate::deadline::Deadline) {}"),
        ("node", "use std::collections::HashMap;"),
        ("node::io", "fn f() { let _ = ::std::time::SystemTime::now(); }"),
        ("control", "#[cfg(test)] mod tests { fn f() { tokio::spawn(g()); } }"),
        ("control", "pub async fn f() {}"),
        ("gossip", ""),
        ("tls::configs", "use crate::stream::Secure;"),
        ("control", "use crate::tls::Configs;"),
        ("netceptor", "fn f(_: crate::tls::Peer) {}"),
    ] {
        assert_ne!(core_faults(&module(place), source), [""; 0], "{place}: {source}");
    }
    for source in [
        "use receptor_core::wire::Kind;",
        "use receptor_core::{id::NodeId, workceptor::{UnitId, State}};",
        "fn f() -> receptor_core::stream::Stream {}",
        "use receptor_core::*;",
        "use receptor_core::link::{framing, Session};",
        "use receptor_cli::run;",
    ] {
        assert_ne!(adapter_faults(&module("driver"), source), [""; 0], "{source}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (place, source) in [
        (
            "stream::machine",
            "use crate::{id::NodeId, wire::data::Header}; use super::super::acks::Acks;",
        ),
        ("stream", "mod tests { use super::link::x; }"),
        (
            "link",
            "//! See [`crate::stream`].\n/* crate::stream::x /* std::fs */ */ const A: &str = \"std::fs\\\"::crate::stream\";",
        ),
        (
            "link",
            "const A: &str = r#\"crate::stream::x \" std::fs\"#; fn f<'a>(_: &'a str) -> char { '\"' }",
        ),
        ("wire", "use crate::time::Wall;"),
        ("link", "use crate::tls::node_ids;"),
        ("tls::verifier", "use crate::id::NodeId; use crate::tls::Peer;"),
        (
            "node::mesh",
            "use crate::link::Session; use crate::stream::Table; use core::fmt; use alloc::vec::Vec;",
        ),
    ] {
        assert_eq!(core_faults(&module(place), source), [""; 0], "{place}: {source}");
    }
    let source = "use receptor_core::{id::NodeId, link::framing, workceptor::{UnitId, UnitTask}};";
    assert_eq!(adapter_faults(&module("driver"), source), [""; 0]);
}
