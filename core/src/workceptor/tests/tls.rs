//! Units whose submitter named a TLS config.

use alloc::string::ToString as _;

use super::super::*;
use super::world::{E, NAMES, S, World};

fn request(tls_client: Option<&str>) -> SubmitRequest {
    SubmitRequest {
        node: NAMES[E].into(),
        work_type: "cat".into(),
        tls_client: tls_client.map(Into::into),
        ..SubmitRequest::default()
    }
}

#[test]
fn each_tls_config_has_sessions_of_its_own() {
    let mut world = World::new();
    for tls in [None, Some("mine"), Some("mine"), None] {
        let client = world.submit_request(S, request(tls), b"abc");
        world.run(0);
        assert!(matches!(world.last(client), WorkReply::Started { .. }));
        let id = world.id(client);
        let view = world.status(S, &id).unwrap();
        assert_eq!(view.extra["TLSClient"], tls.unwrap_or_default());
    }
    let (executor, mine) = (NAMES[E].to_string(), Some("mine".to_string()));
    assert_eq!(world.opened, [(executor.clone(), None), (executor, mine)]);
}

#[test]
fn secrets_travel_only_under_a_tls_config() {
    let mut world = World::new();
    let mut secret = request(Some("mine"));
    secret.params.insert("secret_key".into(), "x".into());
    let client = world.submit_request(S, secret.clone(), b"");
    world.run(0);
    assert!(
        !matches!(world.last(client), WorkReply::Error(_)),
        "{:?}",
        world.last(client)
    );
    assert!(world.opened.iter().all(|(_, tls)| tls.as_deref() == Some("mine")));
    secret.tls_client = None;
    let client = world.submit_request(S, secret, b"");
    world.run(0);
    let expected = WorkReply::Error("cannot send secrets over a non-TLS connection".into());
    assert_eq!(world.last(client), expected);
}

#[test]
fn a_unit_goes_back_to_its_tls_config_after_a_restart() {
    let mut world = World::new();
    world.cut = true;
    let client = world.submit_request(S, request(Some("mine")), b"abc");
    world.run(0);
    let id = world.id(client);
    world.crash(S, false);
    world.opened.clear();
    world.cut = false;
    world.start(S);
    world.run(5);
    assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    assert!(
        world.opened.iter().all(|(_, tls)| tls.as_deref() == Some("mine")),
        "{:?}",
        world.opened
    );
}

#[test]
fn a_refusal_by_tls_ends_a_unit_that_has_not_started() {
    let mut world = World::new();
    world.cut = true;
    world.refusal = "CRYPTO_ERROR 0x12a (remote): tls: bad certificate";
    let client = world.submit_request(S, request(Some("mine")), b"abc");
    world.run(5);
    let id = world.id(client);
    let view = world.status(S, &id).unwrap();
    let detail = "TLS error connecting to remote service: CRYPTO_ERROR 0x12a (remote): tls: bad certificate";
    assert_eq!((view.state, view.detail.as_str()), (State::Failed, detail));
    assert_eq!(world.last(client), WorkReply::Error(detail.into()));
    assert_eq!(world.opened.len(), 1, "nobody tries again");
}

#[test]
fn a_refusal_by_tls_is_waited_out_by_a_unit_that_has_started() {
    let mut world = World::new();
    world.command.endless = true;
    let client = world.submit_request(S, request(Some("mine")), b"abc");
    world.run(2);
    let id = world.id(client);
    assert_eq!(world.status(S, &id).unwrap().state, State::Running);
    world.refusal = "CRYPTO_ERROR 0x12a (remote): tls: bad certificate";
    world.cut_all();
    world.run(30);
    assert_eq!(world.status(S, &id).unwrap().state, State::Running);
}

/// The refusal may come when everything else is done: then it is the answer, and not that the unit is kept.
#[test]
fn a_refusal_by_tls_is_the_answer_however_late_it_comes() {
    let mut world = World::new();
    world.slow = true;
    let client = world.submit_request(S, request(Some("mine")), b"abc");
    world.run(5);
    assert_eq!(world.replies(client).len(), 1, "{:?}", world.replies(client));
    world.cut = true;
    world.refusal = "CRYPTO_ERROR 0x12a (remote): bad certificate";
    world.slow = false;
    world.run(5);
    let expected = "TLS error connecting to remote service: CRYPTO_ERROR 0x12a (remote): bad certificate";
    assert_eq!(world.replies(client)[1..], [WorkReply::Error(expected.into())]);
}
