//! Signed work: between two nodes, and with a classic executor. The world's tokens are claims in clear behind a signer's name.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::Value;

use super::super::*;
use super::go::Border;
use super::world::{E, NAMES, S, World};
use crate::config::{Signing, Verification};
use crate::time::Duration;

fn keys() -> WorkKeys {
    WorkKeys {
        signing: Some(Signing {
            private_key: "mesh".into(),
            expiration: Signing::EXPIRATION,
        }),
        verification: Some(Verification {
            public_key: "mesh".into(),
            leeway: Verification::LEEWAY,
        }),
    }
}

fn world() -> World {
    let mut world = World::new();
    world.keys = keys();
    for node in [S, E] {
        world.machine(node).set_keys(keys());
    }
    world
}

fn request(sign_work: bool) -> SubmitRequest {
    SubmitRequest {
        node: NAMES[E].into(),
        work_type: "signed".into(),
        sign_work,
        ..SubmitRequest::default()
    }
}

/// A client of the executor itself, over the network.
fn ask(world: &mut World, request: WorkRequest) -> WorkReply {
    let client = world.request_from(E, &Requester::default(), request);
    world.run(0);
    world.last(client)
}

fn submission(token: Option<String>) -> WorkRequest {
    let mut request = request(false);
    request.node = "localhost".into();
    request.signature = token;
    WorkRequest::Submit(request.into())
}

fn token(claims: &str) -> Option<String> {
    Some(format!("mesh!{claims}"))
}

#[test]
fn signed_work_runs_and_every_request_has_its_own_token() {
    let mut world = world();
    world.command.endless = true;
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let id = world.id(client);
    assert!(
        matches!(world.last(client), WorkReply::Started { .. }),
        "{:?}",
        world.last(client)
    );
    let view = world.status(S, &id).unwrap();
    assert_eq!(view.extra["SignWork"], true);
    assert_eq!(world.verified, 1);
    let cancel = world.cancel(S, &id);
    world.run(20);
    assert!(matches!(
        world.last(cancel),
        WorkReply::Cancelled { pending: false, .. }
    ));
    assert_eq!(world.status(S, &id).unwrap().state, State::Canceled);
    let release = world.release(S, &id, false);
    world.run(1);
    assert!(matches!(
        world.last(release),
        WorkReply::Released { pending: false, .. }
    ));
    assert!(world.nodes[E].disk.live.is_empty() && world.nodes[S].disk.live.is_empty());
    assert_eq!(world.verified, 3);
    for claims in &world.signed {
        let claims: Value = serde_json::from_str(claims).unwrap();
        assert_eq!(claims["aud"], serde_json::json!([NAMES[E]]));
        assert!(claims["exp"].as_u64().unwrap() >= 1_730_203_265 + 300);
    }
    assert_eq!(world.signed.len(), 3);
}

#[test]
fn unsigned_work_is_refused_and_signed_work_where_none_is_wanted_too() {
    let mut world = world();
    let client = world.submit_request(S, request(false), b"abc");
    world.run(1);
    let text = "could not parse response: ERROR: could not verify signature: signature is empty";
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
    let mut unwanted = request(true);
    unwanted.work_type = "cat".into();
    let client = world.submit_request(S, unwanted, b"abc");
    world.run(1);
    let text = "could not parse response: ERROR: work type did not expect a signature";
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
    assert!(world.nodes[E].disk.live.is_empty());
}

#[test]
fn requests_are_signed_anew_after_a_restart_of_either_node() {
    let mut world = world();
    world.command.endless = true;
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let id = world.id(client);
    world.crash(S, false);
    // Long after the first token has expired.
    world.pass(Duration::from_secs(3600));
    world.start(S);
    world.run(5);
    assert_eq!(world.status(S, &id).unwrap().state, State::Running);
    world.crash(E, false);
    world.pass(Duration::from_secs(3600));
    world.start(E);
    world.run(60);
    assert_eq!(world.status(S, &id).unwrap().state, State::Running);
    let release = world.release(S, &id, false);
    world.run(60);
    assert!(
        matches!(world.last(release), WorkReply::Released { pending: false, .. }),
        "{:?}",
        world.logs
    );
    assert!(world.nodes[E].disk.live.is_empty());
}

#[test]
fn a_key_that_cannot_be_used_fails_a_submission_and_delays_what_follows() {
    let mut world = world();
    world.broken_key = Some("open mesh: no such file or directory".into());
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let text = "could not load signing key file: open mesh: no such file or directory";
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
    let id = world.id(client);
    let view = world.status(S, &id).unwrap();
    assert_eq!(
        (view.state, view.detail),
        (State::Failed, format!("Error starting worker: {text}"))
    );
    world.release(S, &id, false);
    world.broken_key = None;
    world.command.endless = true;
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let id = world.id(client);
    world.broken_key = Some("gone".into());
    let release = world.release(S, &id, false);
    world.run(10);
    assert!(
        matches!(world.last(release), WorkReply::Released { pending: true, .. }),
        "{:?}",
        world.last(release)
    );
    assert!(
        world
            .logs
            .iter()
            .any(|line| line.contains("could not load signing key file: gone"))
    );
    world.broken_key = None;
    world.run(120);
    assert!(world.nodes[S].disk.live.is_empty() && world.nodes[E].disk.live.is_empty());
}

#[test]
fn without_a_key_nothing_is_signed() {
    let mut world = World::new();
    let client = world.submit_request(S, request(true), b"");
    world.run(0);
    assert_eq!(
        world.last(client),
        WorkReply::Error("cannot sign work: signing key is empty".into())
    );
    assert!(world.nodes[S].disk.live.is_empty());
    // Nor verified.
    let refused = ask(&mut world, submission(token(r#"{"aud":"executor"}"#)));
    let text = "could not verify signature: verifying key not specified";
    assert_eq!(refused, WorkReply::Error(text.into()));
}

#[test]
fn keys_that_go_while_a_unit_waits_are_missed_and_found_again() {
    let mut world = world();
    world.cut = true;
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let id = world.id(client);
    world.machine(S).set_keys(WorkKeys::default());
    world.cut = false;
    world.run(120);
    let view = world.status(S, &id).unwrap();
    let text = "Error starting worker: cannot sign work: signing key is empty";
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, text));
}

#[test]
fn a_client_over_the_network_must_sign_and_one_on_a_unix_socket_need_not() {
    let mut world = world();
    let good = || token(&format!(r#"{{"aud":["x","{}"],"exp":1730203266}}"#, NAMES[E]));
    let error = |text: &str| WorkReply::Error(text.into());
    let cases = [
        (None, "could not verify signature: signature is empty"),
        (
            Some("thief!{}".to_string()),
            "could not verify signature: crypto/rsa: verification error",
        ),
        (token("{}"), "token audience did not match node ID"),
        (token(r#"{"aud":"other"}"#), "token audience did not match node ID"),
        (
            token(r#"{"aud":"executor","exp":1730202965}"#),
            "could not verify signature: token is expired by 5m0s",
        ),
        (
            token(r#"{"aud":"executor","nbf":1730203999}"#),
            "could not verify signature: token is not valid yet",
        ),
        (
            token(r#"{"aud":"executor","iat":1730203999}"#),
            "could not verify signature: token used before issued",
        ),
    ];
    for (token, text) in cases {
        assert_eq!(ask(&mut world, submission(token)), error(text));
    }
    assert!(world.nodes[E].disk.live.is_empty());
    world.broken_key = Some("no such file".into());
    let unreadable = "could not load verifying key file: no such file";
    assert_eq!(ask(&mut world, submission(good())), error(unreadable));
    world.broken_key = None;
    let client = world.request_from(E, &Requester::default(), submission(good()));
    world.run(1);
    let id = world.id(client);
    assert!(matches!(world.last(client), WorkReply::Started { .. }));
    // What is done to it is guarded too; what is asked of it is not.
    let (unit, signature) = (id.clone(), None);
    let unsigned = error("could not verify signature: signature is empty");
    let results = WorkRequest::Results {
        unit: unit.clone(),
        start: 0,
        signature: None,
    };
    assert_eq!(ask(&mut world, results), unsigned);
    for force in [false, true] {
        let release = WorkRequest::Release {
            unit: unit.clone(),
            force,
            signature: None,
        };
        assert_eq!(ask(&mut world, release), unsigned);
    }
    assert_eq!(
        ask(
            &mut world,
            WorkRequest::Cancel {
                unit: unit.clone(),
                signature
            }
        ),
        unsigned
    );
    assert!(matches!(
        ask(&mut world, WorkRequest::Status { unit: unit.clone() }),
        WorkReply::Status(_)
    ));
    assert!(matches!(
        ask(&mut world, WorkRequest::List { unit: None }),
        WorkReply::List(_)
    ));
    let missing = WorkRequest::Cancel {
        unit: "nobody".into(),
        signature: good(),
    };
    assert_eq!(ask(&mut world, missing), error("unknown work unit nobody"));
    let results = WorkRequest::Results {
        unit: unit.clone(),
        start: 0,
        signature: good(),
    };
    let reader = world.request_from(E, &Requester::default(), results);
    world.run(1);
    assert!(world.clients[&reader].results_end);
    assert_eq!(world.clients[&reader].data, b"");
    let client = world.release(E, &id, false);
    world.run(1);
    assert!(matches!(world.last(client), WorkReply::Released { .. }));
    // With a token or without, over the Unix socket nothing is looked at.
    let looked_at = world.verified;
    for signature in [None, token("nonsense")] {
        let client = world.request(E, submission(signature));
        world.run(1);
        assert!(matches!(world.last(client), WorkReply::Started { .. }));
    }
    assert_eq!(world.verified, looked_at);
}

#[test]
fn a_unit_that_is_signed_for_elsewhere_is_guarded_here_for_this_node() {
    let mut world = world();
    world.command.endless = true;
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let unit = world.id(client);
    let ask = |world: &mut World, signature| {
        let request = WorkRequest::Cancel {
            unit: unit.clone(),
            signature,
        };
        let client = world.request_from(S, &Requester::default(), request);
        world.run(20);
        world.last(client)
    };
    let unsigned = WorkReply::Error("could not verify signature: signature is empty".into());
    assert_eq!(ask(&mut world, None), unsigned);
    let wrong = WorkReply::Error("token audience did not match node ID".into());
    assert_eq!(ask(&mut world, token(r#"{"aud":"executor"}"#)), wrong);
    let done = ask(&mut world, token(r#"{"aud":"submitter"}"#));
    assert!(matches!(done, WorkReply::Cancelled { .. }), "{done:?}");
}

#[test]
fn a_late_clock_is_named() {
    let mut world = world();
    world.skew = Some(-700_000_000_000);
    let late = WorkKeys {
        signing: Some(Signing {
            private_key: "mesh".into(),
            expiration: Duration::ZERO,
        }),
        ..keys()
    };
    let strict = WorkKeys {
        verification: Some(Verification {
            public_key: "mesh".into(),
            leeway: Duration::ZERO,
        }),
        ..keys()
    };
    world.machine(S).set_keys(late);
    world.machine(E).set_keys(strict);
    let client = world.submit_request(S, request(true), b"abc");
    world.run(1);
    let text = "could not parse response: ERROR: could not verify signature: token is expired by 0s (clock of node submitter is 11m40s behind this one)";
    assert_eq!(world.last(client), WorkReply::Error(text.into()));
}

#[test]
fn many_signed_units_at_once_wait_their_turn() {
    let mut world = world();
    world.max_units = 1000;
    let clients: Vec<ClientKey> = (0..50)
        .map(|_| world.submit_request(S, request(true), b"abc"))
        .collect();
    world.run(5);
    for client in clients {
        assert!(
            matches!(world.last(client), WorkReply::Started { .. }),
            "{:?}",
            world.last(client)
        );
    }
    assert_eq!(world.verified, 50);
}

#[test]
fn a_classic_executor_gets_a_fresh_token_with_every_command() {
    let mut border = Border::new(true, 7);
    border.signs = true;
    let id = border.submit(b"abc");
    border.run(5);
    assert_eq!(border.status(&id).state, State::Succeeded);
    border.restart(false, 8);
    border.pass(Duration::from_secs(3600));
    let release = WorkRequest::Release {
        unit: id.clone(),
        force: false,
        signature: None,
    };
    border.request(release);
    border.run(5);
    assert!(border.go.units.is_empty());
    let mut signed = Vec::new();
    for line in &border.go.lines {
        let Ok(request) = serde_json::from_str::<Value>(line) else {
            assert!(line.starts_with("work status "), "{line}");
            continue;
        };
        let claims: Value = serde_json::from_str(request["signature"].as_str().unwrap()).unwrap();
        assert_eq!(claims["aud"], serde_json::json!(["go"]));
        let verb = request["subcommand"].as_str().unwrap().to_string();
        signed.push((verb, claims["exp"].as_u64().unwrap() - 1_730_203_265));
    }
    let verbs: Vec<&str> = signed.iter().map(|(verb, _)| verb.as_str()).collect();
    assert_eq!(verbs, ["submit", "results", "release"]);
    assert!(signed[2].1 > 3600, "{signed:?}");
}

#[test]
fn a_call_that_cannot_be_signed_fails_a_submission_and_repeats_a_release() {
    let mut border = Border::new(true, 9);
    border.signs = true;
    border.broken_key = Some("gone".into());
    let id = border.submit(b"abc");
    border.run(5);
    let view = border.status(&id);
    let text = "Error starting worker: could not load signing key file: gone";
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, text));
    assert!(border.go.units.is_empty());
    border.broken_key = None;
    let id = border.submit(b"abc");
    border.run(5);
    assert_eq!(border.status(&id).state, State::Succeeded);
    border.broken_key = Some("gone".into());
    border.request(WorkRequest::Release {
        unit: id,
        force: false,
        signature: None,
    });
    border.run(5);
    assert_eq!(border.go.units.len(), 1);
    border.broken_key = None;
    border.run(120);
    assert!(border.go.units.is_empty());
}
