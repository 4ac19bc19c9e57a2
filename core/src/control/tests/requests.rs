//! Every row of the command tables of `control.md` §2, §3 and of the argument errors in §4 to §6.

use super::*;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

fn connect(node: &str, service: &str, tls: Option<&str>) -> Request {
    Request::Connect(ConnectRequest {
        node: node.into(),
        service: service.into(),
        tls: tls.map(Into::into),
    })
}

fn submit(node: &str, work_type: &str, more: impl FnOnce(&mut SubmitRequest)) -> Request {
    let mut submit = SubmitRequest {
        node: node.into(),
        work_type: work_type.into(),
        ..SubmitRequest::default()
    };
    more(&mut submit);
    Request::Work(WorkRequest::Submit(Box::new(submit)))
}

fn results(start: i64, signature: Option<&str>) -> Request {
    Request::Work(WorkRequest::Results {
        unit: "abc".into(),
        start,
        signature: signature.map(Into::into),
    })
}

#[test]
fn commands_become_requests() {
    let work = Request::Work;
    let signed = || Some("jwt".into());
    let release = |force, signature| {
        work(WorkRequest::Release {
            unit: "abc".into(),
            force,
            signature,
        })
    };
    let cancel = |signature| {
        work(WorkRequest::Cancel {
            unit: "abc".into(),
            signature,
        })
    };
    let unit_status = || work(WorkRequest::Status { unit: "abc".into() });
    let list = |unit: Option<&str>| {
        work(WorkRequest::List {
            unit: unit.map(Into::into),
        })
    };
    let ping = |target: &str| Request::Ping { target: target.into() };
    for (line, expected) in [
        ("status\n", Request::Status { fields: None }),
        ("STATUS\r\n", Request::Status { fields: None }),
        ("st\rat\rus", Request::Status { fields: None }),
        ("status \n", Request::Status { fields: None }),
        (r#"{"command":"status"}"#, Request::Status { fields: None }),
        (
            r#"{"command":"status","requested_fields":[]}"#,
            Request::Status {
                fields: Some(Vec::new()),
            },
        ),
        (
            r#"{"command":"status","requested_fields":["Version"],"unknown":{"x":1}}"#,
            Request::Status {
                fields: Some(["Version".into()].into()),
            },
        ),
        ("ping b\n", ping("b")),
        ("PiNg b c \n", ping("b c ")),
        ("ping  \n", ping(" ")),
        (r#"{"command":"ping","target":"b"}"#, ping("b")),
        (r#"{"command":"ping","target":"b","target":"c"}"#, ping("c")),
        (
            "traceroute localhost\n",
            Request::Traceroute {
                target: "localhost".into(),
            },
        ),
        (
            r#"{"command":"traceroute","target":"b"}"#,
            Request::Traceroute { target: "b".into() },
        ),
        ("connect b control\n", connect("b", "control", None)),
        ("connect b control \n", connect("b", "control", None)),
        ("connect b control mtls\n", connect("b", "control", Some("mtls"))),
        (
            r#"{"command":"connect","node":"b","service":"s"}"#,
            connect("b", "s", None),
        ),
        (
            r#"{"command":"connect","node":"b","service":"s","tls":""}"#,
            connect("b", "s", None),
        ),
        (
            r#"{"command":"connect","node":"b","service":"s","tls":"t"}"#,
            connect("b", "s", Some("t")),
        ),
        ("reload\n", Request::Reload),
        ("reload \n", Request::Reload),
        ("reload whatever\n", Request::Reload),
        (r#"{"command":"reload"}"#, Request::Reload),
        ("work submit b echo\n", submit("b", "echo", |_| {})),
        (
            "work Submit b echo one  two\n",
            submit("b", "echo", |s| {
                s.params = BTreeMap::from([("params".into(), "one  two".into())])
            }),
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":"b","worktype":"echo","tlsclient":"","ttl":"","signwork":"yes","signature":"","workUnitID":""}"#,
            submit("b", "echo", |_| {}),
        ),
        (
            r#"{"command":"work","subcommand":"SUBMIT","node":"b","worktype":"echo","tlsclient":"t","ttl":"5s","signwork":"true","signature":"jwt","workUnitID":"hub1","params":"-x","secret_a":"s","workunitid":"p"}"#,
            submit("b", "echo", |s| {
                s.tls_client = Some("t".into());
                s.ttl = Some("5s".into());
                s.sign_work = true;
                s.signature = signed();
                s.work_unit_id = Some("hub1".into());
                let params = [("params", "-x"), ("secret_a", "s"), ("workunitid", "p")];
                s.params = params.map(|(name, value)| (name.into(), value.into())).into();
            }),
        ),
        ("work list\n", list(None)),
        ("work list abc more\n", list(Some("abc"))),
        (r#"{"command":"work","subcommand":"list"}"#, list(None)),
        (
            r#"{"command":"work","subcommand":"list","unitid":"abc"}"#,
            list(Some("abc")),
        ),
        ("work status abc\n", unit_status()),
        (
            r#"{"command":"work","subcommand":"status","unitid":"abc","signature":7}"#,
            unit_status(),
        ),
        ("work cancel abc\n", cancel(None)),
        (
            r#"{"command":"work","subcommand":"cancel","unitid":"abc"}"#,
            cancel(None),
        ),
        (
            r#"{"command":"work","subcommand":"cancel","unitid":"abc","signature":"jwt"}"#,
            cancel(signed()),
        ),
        ("work release abc\n", release(false, None)),
        ("work force-release abc\n", release(true, None)),
        (
            r#"{"command":"work","subcommand":"release","unitid":"abc","signature":"jwt"}"#,
            release(false, signed()),
        ),
        (
            r#"{"command":"work","subcommand":"Force-Release","unitid":"abc","signature":""}"#,
            release(true, None),
        ),
        ("work results abc\n", results(0, None)),
        ("work results abc 5\n", results(5, None)),
        ("work results abc -5\n", results(-5, None)),
        ("work results abc +5\n", results(5, None)),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":0}"#,
            results(0, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":7.9}"#,
            results(7, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":-7.9}"#,
            results(-7, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":5e3}"#,
            results(5000, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":9007199254740993}"#,
            results(9_007_199_254_740_993, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":18446744073709551615}"#,
            results(i64::MAX, None),
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"abc","startpos":1,"signature":"jwt"}"#,
            results(1, Some("jwt")),
        ),
        (
            r#"{"command":"work","subcommand":"upgrade","version":1}"#,
            work(WorkRequest::Upgrade { version: 1, time: None }),
        ),
    ] {
        assert_eq!(request(line), expected, "{line}");
    }
}

#[test]
fn mistakes_get_one_error_line() {
    let long_start = "work results abc 99999999999999999999\n";
    for (line, expected) in [
        ("bogus\n", "Unknown command, bogus"),
        ("BoGus x\n", "Unknown command, bogus"),
        (" status\n", "Unknown command, "),
        (" \n", "Unknown command, "),
        (r#" {"command":"status"}"#, "Unknown command, "),
        (r#"{"command":"Status"}"#, "Unknown command, Status"),
        (r#"{"command":""}"#, "Unknown command, "),
        (r#"{"command":"a\nb"}"#, "Unknown command, a b"),
        ("{}\n", "JSON did not contain a command"),
        (r#"{"Command":"status"}"#, "JSON did not contain a command"),
        (r#"{"command":null}"#, "command must be a string"),
        (r#"{"command":["status"]}"#, "command must be a string"),
        ("status now\n", "status command does not take parameters"),
        ("status  \n", "status command does not take parameters"),
        (
            r#"{"command":"status","requested_fields":null}"#,
            "requested_fields must be a list of strings",
        ),
        (
            r#"{"command":"status","requested_fields":"Version"}"#,
            "requested_fields must be a list of strings",
        ),
        (
            r#"{"command":"status","requested_fields":["a",1]}"#,
            "each element of requested_fields must be a string",
        ),
        ("ping\n", "no ping target"),
        ("ping \n", "no ping target"),
        (r#"{"command":"ping"}"#, "no ping target"),
        (r#"{"command":"ping","target":1}"#, "ping target must be string"),
        ("traceroute\n", "no traceroute target"),
        (r#"{"command":"traceroute"}"#, "no traceroute target"),
        (
            r#"{"command":"traceroute","target":null}"#,
            "traceroute target must be string",
        ),
        ("connect\n", "no connect target"),
        ("connect b\n", "no connect target"),
        ("connect b s t u\n", "too many parameters"),
        ("connect b s t \n", "too many parameters"),
        (r#"{"command":"connect","service":"s"}"#, "no connect target node"),
        (
            r#"{"command":"connect","node":1,"service":"s"}"#,
            "connect target node must be string",
        ),
        (r#"{"command":"connect","node":"b"}"#, "no connect target service"),
        (
            r#"{"command":"connect","node":"b","service":[]}"#,
            "connect target service must be string",
        ),
        (
            r#"{"command":"connect","node":"b","service":"s","tls":null}"#,
            "connect tls name must be string",
        ),
        ("work\n", "bad command"),
        ("work start b echo\n", "bad command"),
        ("work upgrade 1\n", "bad command"),
        ("work  list\n", "bad command"),
        (r#"{"command":"work"}"#, "field subcommand missing"),
        (
            r#"{"command":"work","subcommand":1}"#,
            "field subcommand must be a string",
        ),
        (r#"{"command":"work","subcommand":"start"}"#, "bad command"),
        ("work submit\n", "work submit requires a target node and work type"),
        ("work submit b\n", "work submit requires a target node and work type"),
        (
            r#"{"command":"work","subcommand":"submit","worktype":"echo"}"#,
            "field node missing",
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":1,"worktype":"echo"}"#,
            "field node must be a string",
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":"b"}"#,
            "field worktype missing",
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":"b","worktype":{}}"#,
            "field worktype must be a string",
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":"b","worktype":"echo","signwork":true}"#,
            "submit parameters must all be strings and signwork is not",
        ),
        (
            r#"{"command":"work","subcommand":"submit","node":"b","worktype":"echo","count":3}"#,
            "submit parameters must all be strings and count is not",
        ),
        ("work status\n", "work status requires a unit ID"),
        ("work cancel\n", "work cancel requires a unit ID"),
        ("work release\n", "work release requires a unit ID"),
        ("work Force-Release\n", "work force-release requires a unit ID"),
        (
            "work status a b\n",
            "work status does not take parameters after the unit ID",
        ),
        (
            "work cancel a \n",
            "work cancel does not take parameters after the unit ID",
        ),
        (
            "work release a b\n",
            "work release does not take parameters after the unit ID",
        ),
        (
            "work force-release a b\n",
            "work force-release does not take parameters after the unit ID",
        ),
        (r#"{"command":"work","subcommand":"status"}"#, "field unitid missing"),
        (
            r#"{"command":"work","subcommand":"cancel","unitid":7}"#,
            "field unitid must be a string",
        ),
        (
            r#"{"command":"work","subcommand":"list","unitid":7}"#,
            "field unitid must be a string",
        ),
        (
            r#"{"command":"work","subcommand":"release","unitid":"a","signature":7}"#,
            "field signature must be a string",
        ),
        ("work results\n", "work results requires a unit ID"),
        (
            "work results a 1 2\n",
            "work results only takes a unit ID and optional start position",
        ),
        (
            "work results abc five\n",
            "error converting start position to integer: strconv.ParseInt: parsing \"five\": invalid syntax",
        ),
        (
            "work results abc \n",
            "error converting start position to integer: strconv.ParseInt: parsing \"\": invalid syntax",
        ),
        (
            long_start,
            "error converting start position to integer: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"a"}"#,
            "field startpos missing",
        ),
        (
            r#"{"command":"work","subcommand":"results","startpos":0}"#,
            "field unitid missing",
        ),
        (
            r#"{"command":"work","subcommand":"results","unitid":"a","startpos":"5"}"#,
            "field startpos must be a number",
        ),
        (r#"{"command":"work","subcommand":"upgrade"}"#, "field version missing"),
        (
            r#"{"command":"work","subcommand":"upgrade","version":"1"}"#,
            "field version must be a number",
        ),
    ] {
        assert_eq!(error(line), expected, "{line}");
    }
}

#[test]
fn bad_json_gets_the_message_of_the_parser() {
    let deep = alloc::format!("{{\"command\":{}", "[".repeat(100_000));
    for line in [
        "{",
        "{\"command\":\"status\"",
        "{\"command\":\"status\"} x",
        "{'a'}",
        "{\"a\":1e999}",
        &deep,
    ] {
        assert!(error(line).contains(" at line 1 column "), "{line}");
    }
    assert!(error(&deep).starts_with("recursion limit exceeded"));
}

#[test]
fn text_that_is_not_utf8_is_replaced() {
    let (requests, _) = transcript(b"ping \xff\nping {\"command\":\"ping\",\"target\":\"\xc3\"}\n", refuse);
    assert_eq!(
        requests[0],
        Request::Ping {
            target: "\u{fffd}".into()
        }
    );
    let (requests, _) = transcript(b"{\"command\":\"ping\",\"target\":\"\xc3\"}\n", refuse);
    assert_eq!(
        requests[0],
        Request::Ping {
            target: "\u{fffd}".into()
        }
    );
}
