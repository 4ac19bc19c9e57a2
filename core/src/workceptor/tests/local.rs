//! Units that run on the node they are submitted to.

use super::super::*;
use super::disk::text;
use super::world::{NAMES, S, World};

fn request(work_type: &str) -> SubmitRequest {
    SubmitRequest {
        node: "localhost".into(),
        work_type: work_type.into(),
        ..SubmitRequest::default()
    }
}

#[test]
fn a_unit_runs_and_its_results_are_read_while_it_does() {
    let mut world = World::new();
    let stdin = [7; 100_000];
    let client = world.submit(S, NAMES[S], &stdin);
    while world.replies(client).is_empty() {
        assert!(world.step());
    }
    let id = world.id(client);
    let reader = world.results(S, &id);
    world.run(5);
    assert!(matches!(world.last(client), WorkReply::Started { .. }));
    let view = world.status(S, &id).unwrap();
    assert_eq!(
        (view.state, view.detail.as_str(), view.stdout_size),
        (State::Succeeded, "exit status 0", 100_000)
    );
    assert_eq!(world.clients[&reader].data, stdin);
    assert!(world.clients[&reader].results_end);
    let late = world.results(S, &id);
    world.run(1);
    assert_eq!(world.clients[&late].data, stdin);
    assert!(world.clients[&late].results_end);
    assert!(world.logs.is_empty(), "{:?}", world.logs);
}

#[test]
fn refusals_have_the_classic_texts() {
    let mut world = World::new();
    let params = |name: &str| [(text(name), text("x"))].into();
    let cases = [
        (request("nope"), "unknown work type nope"),
        (request("remote"), "unknown work type remote"),
        (request("kube"), "work type kube is not available: not built"),
        (
            SubmitRequest {
                params: params("params"),
                ..request("cat")
            },
            "extra params provided but not allowed",
        ),
        (
            SubmitRequest {
                ttl: Some(crate::time::Duration::from_secs(1)),
                ..request("cat")
            },
            "ttl option is intended for remote work only",
        ),
        (
            SubmitRequest {
                signature: Some("x".into()),
                ..request("cat")
            },
            "work type did not expect a signature",
        ),
        (
            SubmitRequest {
                node: "n".into(),
                tls_client: Some("t".into()),
                ..request("cat")
            },
            "unknown TLS config t",
        ),
        (
            SubmitRequest {
                node: "n".into(),
                params: params("Secret_x"),
                ..request("cat")
            },
            "cannot send secrets over a non-TLS connection",
        ),
        (
            SubmitRequest {
                node: "n".into(),
                sign_work: true,
                ..request("cat")
            },
            "cannot sign work: signing key is empty",
        ),
        (
            SubmitRequest {
                work_unit_id: Some("../x".into()),
                ..request("cat")
            },
            "invalid workunit ID: at most 200 letters and digits are allowed",
        ),
    ];
    for (request, error) in cases {
        let client = world.submit_request(S, request, b"");
        world.run(1);
        assert_eq!(world.replies(client), [WorkReply::Error(error.into())]);
    }
    for id in ["../x", "abc", ""] {
        for client in [world.cancel(S, id), world.release(S, id, true), world.results(S, id)] {
            world.run(1);
            assert_eq!(
                world.replies(client),
                [WorkReply::Error(alloc::format!("unknown work unit {id}"))]
            );
        }
    }
    assert!(world.nodes[S].disk.live.is_empty());
    assert_eq!(
        world.machine(S).advertised_types().collect::<alloc::vec::Vec<_>>(),
        [("cat", false), ("missing", false), ("open", false), ("signed", true)]
    );
}

#[test]
fn a_wanted_id_is_used_once() {
    let mut world = World::new();
    let wanted = SubmitRequest {
        work_unit_id: Some("wanted1".into()),
        ..request("cat")
    };
    let first = world.submit_request(S, wanted.clone(), b"x");
    let second = world.submit_request(S, wanted, b"y");
    world.run(1);
    assert_eq!(world.id(first), "wanted1");
    let error = "workunit ID wanted1 is already in use, cannot use the same workunit ID more than once";
    assert_eq!(world.replies(second), [WorkReply::Error(error.into())]);
}

#[test]
fn the_number_of_units_is_limited() {
    let mut world = World::new();
    world.max_units = 1;
    world.start(S);
    world.submit(S, NAMES[S], b"");
    let second = world.submit(S, NAMES[S], b"");
    world.run(1);
    assert_eq!(
        world.last(second),
        WorkReply::Error("too many work units: the limit of this node is 1".into())
    );
}

#[test]
fn parameters_that_cannot_be_split_fail_the_start() {
    let mut world = World::new();
    let open = SubmitRequest {
        params: [(text("params"), text("'x"))].into(),
        ..request("open")
    };
    let client = world.submit_request(S, open, b"");
    world.run(1);
    let id = world.id(client);
    assert_eq!(
        world.last(client),
        WorkReply::Error("EOF found when expecting closing quote".into())
    );
    let view = world.status(S, &id).unwrap();
    assert_eq!(view.state, State::Failed);
    assert_eq!(
        view.detail,
        "Error starting worker: EOF found when expecting closing quote"
    );
}

#[test]
fn a_runner_that_cannot_be_started_fails_the_unit() {
    let mut world = World::new();
    let client = world.submit_request(S, request("missing"), b"");
    world.run(1);
    let id = world.id(client);
    assert_eq!(world.last(client), WorkReply::Error("cannot fork".into()));
    assert_eq!(
        world.status(S, &id).unwrap().detail,
        "Error starting worker: cannot fork"
    );
}

#[test]
fn a_client_that_goes_has_submitted_what_it_sent() {
    let mut world = World::new();
    let client = world.submit(S, NAMES[S], b"abc");
    world.clients.get_mut(&client).unwrap().holds = true;
    world.run(1);
    let id = world.id(client);
    assert_eq!(world.status(S, &id).unwrap().detail, "Waiting for Input Data");
    let now = world.now;
    world.machine(S).client_gone(now, client);
    world.run(1);
    assert_eq!(world.status(S, &id).unwrap().state, State::Succeeded);
    assert_eq!(world.stdout(S, &UnitId::parse(&id).unwrap()), b"abc");
}

#[test]
fn a_client_that_goes_before_it_knows_its_unit_runs_nothing() {
    let mut world = World::new();
    let client = world.submit(S, NAMES[S], b"abc");
    let now = world.now;
    world.machine(S).client_gone(now, client);
    world.run(1);
    let (_, unit) = world.only(S).unwrap();
    assert_eq!(unit.record.detail, "Error reading input data: the client has gone");
    assert!(world.nodes[S].disk.runs.is_empty());
}

#[test]
fn records_of_others_are_shown_and_kept() {
    let mut world = World::new();
    world.crash(S, false);
    for (id, record) in [
        ("broken1", &b"{"[..]),
        ("empty1", b""),
        ("kube1", br#"{"State":1,"WorkType":"pod","ExtraData":{"PodName":"p"}}"#),
    ] {
        let dir = super::disk::Dir {
            record: record.to_vec(),
            ..Default::default()
        };
        world.nodes[S].disk.live.insert(UnitId::parse(id).unwrap(), dir);
    }
    world.start(S);
    let broken = world.status(S, "broken1").unwrap();
    assert_eq!(broken.state, State::Failed);
    assert!(broken.detail.starts_with("Failed to restart: "), "{}", broken.detail);
    let kube = world.status(S, "kube1").unwrap();
    assert_eq!((kube.state, kube.extra), (State::Running, "Unknown WorkType".into()));
    assert_eq!(
        world.status(S, "empty1").unwrap().detail,
        "Failed to restart: status file is empty"
    );
    let cancel = world.cancel(S, "kube1");
    world.run(1);
    assert_eq!(
        world.last(cancel),
        WorkReply::Cancelled {
            unit: "kube1".into(),
            pending: false
        }
    );
    assert_eq!(world.nodes[S].disk.live.len(), 3);
    let release = world.release(S, "broken1", false);
    world.run(1);
    assert_eq!(
        world.last(release),
        WorkReply::Released {
            unit: "broken1".into(),
            pending: false
        }
    );
    assert_eq!(world.nodes[S].disk.live.len(), 2);
}
