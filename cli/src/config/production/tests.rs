//! Configurations as they run in production (`config.md`, and what the operator and the installer of AWX write).

use std::fs;

use super::*;

/// Loads one after filling in the node ID and a directory that has every file it names.
fn load(text: &str) -> (Result<Config, String>, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in [
        "work_private_key.pem",
        "work_public_key.pem",
        "mesh-CA.crt",
        "node.crt",
        "node.key",
    ] {
        fs::write(dir.path().join(name), "").expect("a file");
    }
    let path = dir.path().join("receptor.conf");
    let text = text
        .replace("{id}", "node.example")
        .replace("{dir}", dir.path().to_str().expect("text"));
    fs::write(&path, text).expect("a file");
    let args = ["--config".to_owned(), path.to_str().expect("text").to_owned()];
    let host = Host {
        name: "host.example".into(),
        temp_dir: "/var/tmp".into(),
        proxies: Default::default(),
    };
    let loaded = match super::load(&args, &host) {
        Ok(Action::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    (loaded, dir)
}

const CONTROL: &str = include_str!("awx-control.yml");
const EXECUTION: &str = include_str!("awx-execution.yml");
const HOP: &str = include_str!("awx-hop.yml");
const EDGE: &str = include_str!("edge-plain.yml");

/// The items of a file without those of these names.
fn without(text: &str, items: &[&str]) -> String {
    let mut kept = String::new();
    for item in text
        .split_inclusive('\n')
        .fold(Vec::<String>::new(), |mut items, line| {
            match items.last_mut() {
                Some(last) if !line.starts_with("- ") => last.push_str(line),
                _ => items.push(line.to_owned()),
            }
            items
        })
    {
        if !items.iter().any(|name| item.starts_with(&format!("- {name}"))) {
            kept.push_str(&item);
        }
    }
    kept
}

/// All of it is taken, and everything that has no effect yet is named.
#[test]
fn everything_is_accepted_and_what_has_no_effect_is_named() {
    for (text, named, offered) in [
        (
            CONTROL,
            &["kubernetes-runtime-auth", "kubernetes-incluster-auth"][..],
            &["local"][..],
        ),
        (EXECUTION, &[], &["ansible-runner"]),
        (HOP, &[], &[]),
        (EDGE, &[], &["cat"]),
    ] {
        let (loaded, _dir) = load(text);
        let config = loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.node.id.as_str(), "node.example");
        assert_eq!(config.warnings.len(), named.len(), "{:?}", config.warnings);
        for name in named {
            assert!(
                config.warnings.iter().any(|w| w.contains(name)),
                "{name}: {:?}",
                config.warnings
            );
        }
        let runs = config
            .workers
            .iter()
            .filter(|w| matches!(w.kind, WorkerKind::Command { .. }));
        assert!(
            runs.map(|w| w.work_type.as_str()).eq(offered.iter().copied()),
            "{:?}",
            config.workers
        );
    }
}

/// What AWX's execution nodes run is offered, and only to those who sign.
#[test]
fn an_execution_node_verifies_its_work() {
    let (loaded, dir) = load(EXECUTION);
    let config = loaded.unwrap();
    assert!(config.workers[0].verify_signature);
    let key = config.work_keys.verification.unwrap().public_key;
    assert_eq!(key, dir.path().join("work_public_key.pem").to_str().unwrap());
    let (loaded, _dir) = load(CONTROL);
    assert_eq!(loaded.unwrap().work_keys.signing.unwrap().expiration.as_secs(), 60);
}

/// Work that demands signatures is never taken without them, whatever is said of keys.
#[test]
fn signed_work_is_never_offered_without_the_check() {
    let (loaded, _dir) = load(&without(EXECUTION, &["work-verification"]));
    assert_eq!(
        loaded.unwrap_err(),
        "VerifySignature for work command 'ansible-runner' is true, but the work verification public key is not specified"
    );
}
