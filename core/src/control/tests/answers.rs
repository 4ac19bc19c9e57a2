//! Replies to bytes (`control.md` §4 to §6).

use super::*;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use serde_json::{Value, json};

/// The one line that answers `command` with `reply`.
fn answer(command: &str, reply: Reply) -> String {
    let line = format!("{command}\n");
    let (requests, output) = transcript(line.as_bytes(), move |_| reply.clone());
    assert_eq!(requests.len(), 1, "{command}");
    output.strip_suffix('\n').unwrap().into()
}

fn advertisement(node: &str, time: &str, work_commands: Option<Vec<WorkCommandView>>) -> AdvertisementView {
    AdvertisementView {
        node_id: node.into(),
        service: "control".into(),
        time: time.into(),
        conn_type: 1,
        tags: Some(BTreeMap::from([("type".into(), "Control Service".into())])),
        work_commands,
    }
}

/// The composed example of `control.md` §4.
fn view() -> StatusView {
    let work_type = |name: &str, secure| WorkCommandView {
        work_type: name.into(),
        secure,
    };
    let work_types = [work_type("reverse", false), work_type("deploy", true)].into();
    StatusView {
        version: "1.5.0".into(),
        system_cpu_count: 4,
        system_memory_mib: 7821,
        node_id: "hub".into(),
        connections: [ConnectionView {
            node_id: "leaf".into(),
            cost: 1.5,
        }]
        .into(),
        routing_table: BTreeMap::from([("leaf".into(), "leaf".into())]),
        advertisements: [
            advertisement("hub", "2024-10-25T09:14:03.118204517Z", None),
            advertisement("leaf", "2024-10-25T09:13:31.52077Z", Some(work_types)),
        ]
        .into(),
        work_limits: None,
        work_units: None,
        known_connection_costs: BTreeMap::from([
            ("hub".into(), BTreeMap::from([("leaf".into(), 1.5)])),
            ("leaf".into(), BTreeMap::from([("hub".into(), 1.0)])),
        ]),
    }
}

fn status(command: &str, view: StatusView) -> String {
    answer(command, Reply::Status(Box::new(view)))
}

#[test]
fn status_has_exactly_its_eight_members() {
    let expected = r#"{"Advertisements":[{"NodeID":"hub","Service":"control","Time":"2024-10-25T09:14:03.118204517Z","ConnType":1,"Tags":{"type":"Control Service"},"WorkCommands":null},{"NodeID":"leaf","Service":"control","Time":"2024-10-25T09:13:31.52077Z","ConnType":1,"Tags":{"type":"Control Service"},"WorkCommands":[{"WorkType":"reverse","Secure":false},{"WorkType":"deploy","Secure":true}]}],"Connections":[{"NodeID":"leaf","Cost":1.5}],"KnownConnectionCosts":{"hub":{"leaf":1.5},"leaf":{"hub":1}},"NodeID":"hub","RoutingTable":{"leaf":"leaf"},"SystemCPUCount":4,"SystemMemoryMiB":7821,"Version":"1.5.0"}"#;
    let line = status("status", view());
    assert_eq!(line, expected);
    let members: Value = serde_json::from_str(&line).unwrap();
    let names: BTreeSet<&str> = members.as_object().unwrap().keys().map(|k| &**k).collect();
    assert_eq!(names, BTreeSet::from(text::STATUS_MEMBERS));
}

#[test]
fn an_empty_mesh_has_empty_lists_not_nulls() {
    let mut view = view();
    view.connections.clear();
    view.routing_table.clear();
    view.advertisements = [AdvertisementView {
        tags: None,
        ..advertisement("hub", "", None)
    }]
    .into();
    view.known_connection_costs.clear();
    let members: Value = serde_json::from_str(&status("status", view)).unwrap();
    assert_eq!(members["Connections"], json!([]));
    assert_eq!(members["RoutingTable"], json!({}));
    assert_eq!(members["KnownConnectionCosts"], json!({}));
    assert_eq!(members["Advertisements"][0]["Tags"], Value::Null);
}

#[test]
fn requested_fields_choose_members() {
    for (fields, expected) in [
        ("[]", "{}"),
        (r#"["Version"]"#, r#"{"Version":"1.5.0"}"#),
        (
            r#"["NodeID","nodeid","Nothing","SystemCPUCount"]"#,
            r#"{"NodeID":"hub","SystemCPUCount":4}"#,
        ),
    ] {
        let command = format!(r#"{{"command":"status","requested_fields":{fields}}}"#);
        assert_eq!(status(&command, view()), expected);
    }
    for name in text::STATUS_MEMBERS {
        let command = format!(r#"{{"command":"status","requested_fields":["{name}"]}}"#);
        let members: Value = serde_json::from_str(&status(&command, view())).unwrap();
        assert_eq!(members.as_object().unwrap().keys().collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn costs_keep_only_the_fractions_they_have() {
    for (cost, text) in [
        (1.0, "1"),
        (0.0, "0"),
        (1.5, "1.5"),
        (1e9, "1000000000"),
        (0.1, "0.1"),
        (-2.0, "-2"),
    ] {
        let connections = [ConnectionView {
            node_id: "b".into(),
            cost,
        }]
        .into();
        let line = status(
            r#"{"command":"status","requested_fields":["Connections"]}"#,
            StatusView { connections, ..view() },
        );
        assert_eq!(line, format!(r#"{{"Connections":[{{"NodeID":"b","Cost":{text}}}]}}"#));
    }
}

#[test]
fn ping_traceroute_and_reload() {
    let success = PingReply::Success {
        from: "b".into(),
        nanos: 1_482_731,
    };
    assert_eq!(
        answer("ping b", Reply::Ping(success)),
        r#"{"Success":true,"From":"b","Time":1482731,"TimeStr":"1.482731ms"}"#
    );
    assert_eq!(
        answer("ping b", Reply::Ping(PingReply::Failure("no route to node".into()))),
        r#"{"Success":false,"Error":"no route to node"}"#
    );
    let hop = |from: &str, nanos, error: Option<&str>| Hop {
        from: from.into(),
        nanos,
        error: error.map(Into::into),
    };
    assert_eq!(
        answer(
            "traceroute b",
            Reply::Traceroute([hop("hub", 850, None), hop("", 10_000_000_000, Some("timeout"))].into())
        ),
        r#"{"0":{"From":"hub","Time":850,"TimeStr":"850ns"},"1":{"From":"","Time":10000000000,"TimeStr":"10s","Error":"timeout"}}"#
    );
    assert_eq!(answer("reload", Reply::Reload(Ok(()))), r#"{"Success":true}"#);
    for (code, number) in [(ReloadCode::NotReloadable, 3), (ReloadCode::Failed, 4)] {
        let error = ReloadError {
            text: "no".into(),
            code,
        };
        assert_eq!(
            answer("reload", Reply::Reload(Err(error))),
            format!(r#"{{"Success":false,"Error":"no ERRORCODE {number}"}}"#)
        );
    }
}

fn unit(state: u8, extra: Value) -> UnitStatus {
    UnitStatus {
        state,
        detail: "exit status 0".into(),
        stdout_size: 12,
        work_type: "echo".into(),
        extra,
    }
}

#[test]
fn units_show_six_members() {
    for (state, name) in [
        (0, "Pending"),
        (1, "Running"),
        (2, "Succeeded"),
        (3, "Failed"),
        (4, "Canceled"),
        (9, "Unknown: 9"),
    ] {
        assert_eq!(
            answer(
                "work status abc",
                Reply::UnitStatus(Box::new(unit(
                    state,
                    json!({"Pid": 5.0, "Params": "", "Deep": [1.0, 2.5]})
                )))
            ),
            format!(
                r#"{{"Detail":"exit status 0","ExtraData":{{"Deep":[1,2.5],"Params":"","Pid":5}},"State":{state},"StateName":"{name}","StdoutSize":12,"WorkType":"echo"}}"#
            )
        );
    }
    assert_eq!(answer("work list", Reply::UnitList(BTreeMap::new())), "{}");
    let units = BTreeMap::from([
        ("a".into(), unit(2, Value::Null)),
        ("b".into(), unit(2, json!("Unknown WorkType"))),
    ]);
    let line: Value = serde_json::from_str(&answer("work list", Reply::UnitList(units))).unwrap();
    assert_eq!(line["a"]["ExtraData"], Value::Null);
    assert_eq!(line["b"]["ExtraData"], "Unknown WorkType");
    assert_eq!(line.as_object().unwrap().len(), 2);
}

#[test]
fn cancel_and_release_have_exactly_one_member() {
    for (command, pending, expected) in [
        ("work cancel abc", false, r#"{"cancelled":"abc"}"#),
        ("work cancel abc", true, r#"{"cancel pending":"abc"}"#),
        ("work release abc", false, r#"{"released":"abc"}"#),
        ("work release abc", true, r#"{"release pending":"abc"}"#),
        ("work force-release abc", false, r#"{"released":"abc"}"#),
    ] {
        let unit = String::from("abc");
        let reply = if command.contains("cancel") {
            Reply::Cancelled { unit, pending }
        } else {
            Reply::Released { unit, pending }
        };
        assert_eq!(answer(command, reply), expected);
    }
}

#[test]
fn errors_stay_on_one_line_and_keep_their_blanks() {
    for (text, expected) in [
        ("unknown work unit abc", "ERROR: unknown work unit abc"),
        // `control.md` §6.4: the classic node sends an empty line after this one.
        (
            "error cancelling remote unit:  unknown work unit X\n",
            "ERROR: error cancelling remote unit:  unknown work unit X",
        ),
        ("a\r\nb\n\n", "ERROR: a  b"),
        ("", "ERROR: "),
        ("trailing ", "ERROR: trailing "),
    ] {
        assert_eq!(answer("work cancel abc", Reply::Error(text.into())), expected);
    }
}

#[test]
fn a_reply_must_fit_its_request() {
    let mut session = Session::new(&"hub".into(), Origin::Network);
    assert_eq!(session.origin(), Origin::Network);
    assert!(session.reply(Reply::Connecting).is_err(), "nothing asked");
    session.handle_data(Bytes::from_static(b"ping b\n"));
    assert!(session.reply(Reply::Error("x".into())).is_err(), "not polled yet");
    assert!(session.poll_request().is_some());
    assert!(session.reply(Reply::Connecting).is_err());
    assert!(session.send_raw(Bytes::new()).is_err());
    assert!(session.finish_raw().is_err());
    assert!(
        session.reply(Reply::Ping(PingReply::Failure("timeout".into()))).is_ok(),
        "still outstanding"
    );
}
