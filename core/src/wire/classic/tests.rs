use super::*;
use crate::id::{NameHash, ServiceName};
use crate::wire::data::{HEADER_LEN, Header};
use crate::wire::vectors::vector;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use proptest::prelude::*;

const EPOCH: u64 = 28_521_267_211_259_375;

fn hello() -> RoutingUpdate {
    RoutingUpdate {
        node_id: "foo".into(),
        update_id: "Zx81QwPb".into(),
        epoch: EPOCH,
        sequence: 1,
        connections: Some(BTreeMap::new()),
        forwarding_node: "foo".into(),
        suspected_duplicate: 0,
        ext: None,
    }
}

fn later() -> RoutingUpdate {
    RoutingUpdate {
        update_id: "k3LmN0aa".into(),
        sequence: 4,
        connections: Some([("bar".into(), 1.0), ("fish".into(), 2.5)].into()),
        ..hello()
    }
}

fn control() -> Advertisement {
    Advertisement {
        node_id: "foo".into(),
        service: "control".into(),
        time: AdvertTime::parse(b"2024-10-24T16:36:52.123456-04:00").unwrap(),
        conn_type: 1,
        tags: Some([("type".into(), "Control Service".into())].into()),
        work_commands: Some(
            [WorkCommand {
                work_type: "echo".into(),
                secure: false,
            }]
            .into(),
        ),
        cancel: false,
        ext: None,
    }
}

fn route(json: &str) -> Result<RoutingUpdate, WireError> {
    RoutingUpdate::parse(format!("\x01{json}").as_bytes())
}

fn advert(json: &str) -> Result<Advertisement, WireError> {
    Advertisement::parse(format!("\x02{json}").as_bytes())
}

/// `wire.md` §3.2: the message of a TCP frame.
fn unframed(bytes: &[u8]) -> &[u8] {
    let (len, message) = bytes.split_first_chunk::<2>().unwrap();
    assert_eq!(usize::from(u16::from_le_bytes(*len)), message.len());
    message
}

#[test]
fn golden_data_messages() {
    let request = Header {
        hops: 29,
        flags: 0,
        from: NameHash::of("foo"),
        to: NameHash::of("bar"),
        from_service: ServiceName::new("Ab12Cd34").unwrap(),
        to_service: ServiceName::PING,
    };
    let reply = Header {
        from: request.to,
        to: request.from,
        from_service: request.to_service,
        to_service: request.from_service,
        ..request
    };
    let marked = Header {
        hops: 28,
        flags: 1,
        ..request
    };
    for (header, bytes) in [
        (request, vector!("data/ping-request")),
        (reply, vector!("data/ping-reply")),
        (marked, vector!("data/marked")),
    ] {
        assert_eq!(Header::parse(&bytes), Ok(header));
        assert_eq!(header.to_bytes()[..], bytes[..]);
    }
    assert_eq!(unframed(&vector!("data/ping-request-tcp")), request.to_bytes());
}

#[test]
fn golden_reject() {
    assert_eq!(vector!("classic/reject"), REJECT);
    assert_eq!(unframed(&vector!("framing/reject-tcp")), REJECT);
}

#[test]
fn golden_routing_updates() {
    let with_ext = RoutingUpdate {
        sequence: 4 << 32,
        ext: Some(Ext::new(5)),
        ..later()
    };
    let notice = RoutingUpdate {
        node_id: "gonode".into(),
        update_id: "19yiDy0Y".into(),
        epoch: 30_120_609_503_912_394,
        sequence: 4,
        connections: Some([("peer".into(), 1.0)].into()),
        forwarding_node: "gonode".into(),
        suspected_duplicate: 30_120_611_183_329_280,
        ext: None,
    };
    for (update, bytes) in [
        (hello(), unframed(&vector!("classic/route-hello-tcp")).to_vec()),
        (later(), vector!("classic/route-later")),
        (with_ext, vector!("classic/route-ext")),
        (notice, vector!("classic/route-notice")),
    ] {
        assert_eq!(RoutingUpdate::parse(&bytes).as_ref(), Ok(&update));
        assert_eq!(update.emit(), bytes);
    }
}

#[test]
fn golden_advertisements() {
    let withdrawal = Advertisement {
        service: "svc".into(),
        time: AdvertTime::parse(b"2024-10-24T16:36:52Z").unwrap(),
        tags: None,
        work_commands: None,
        cancel: true,
        ..control()
    };
    let with_ext = Advertisement {
        cancel: false,
        ext: Some(Ext::new(5).with_epoch(EPOCH)),
        ..withdrawal.clone()
    };
    for (message, bytes) in [
        (control(), vector!("classic/advert-control")),
        (withdrawal, vector!("classic/advert-cancel")),
        (with_ext, vector!("classic/advert-ext")),
    ] {
        let parsed = Advertisement::parse(&bytes).unwrap();
        assert_eq!(parsed, message);
        assert_eq!(parsed.time.as_str(), message.time.as_str());
        assert_eq!(message.emit(), bytes);
    }
}

#[test]
fn golden_unreachable() {
    let vector = vector!("classic/unreachable-tcp");
    let (header, payload) = unframed(&vector).split_at(HEADER_LEN);
    let header = Header::parse(header).unwrap();
    assert_eq!(
        (header.from_service, header.to_service),
        (ServiceName::UNREACH, ServiceName::UNREACH)
    );
    let message = Unreachable {
        from_node: "foo".into(),
        to_node: "bar".into(),
        from_service: "Ab12Cd34".into(),
        to_service: "nosuch".into(),
        problem: Unreachable::SERVICE_UNKNOWN.into(),
    };
    assert_eq!(Unreachable::parse(payload).as_ref(), Ok(&message));
    assert_eq!(message.emit(), payload);
}

#[test]
fn every_truncation_is_an_error() {
    let update = later().emit();
    let message = control().emit();
    for len in 0..update.len() {
        assert!(RoutingUpdate::parse(&update[..len]).is_err(), "{len}");
    }
    for len in 0..message.len() {
        assert!(Advertisement::parse(&message[..len]).is_err(), "{len}");
    }
    let payload = Unreachable::default().emit();
    for len in 0..payload.len() {
        assert!(Unreachable::parse(&payload[..len]).is_err(), "{len}");
    }
}

#[test]
fn the_kind_byte_is_checked() {
    let wrong = WireError::Malformed("wrong kind byte");
    assert_eq!(RoutingUpdate::parse(&control().emit()), Err(wrong));
    assert_eq!(Advertisement::parse(&hello().emit()), Err(wrong));
}

/// `wire.md` §7.
#[test]
fn keys_are_matched_without_case_and_the_last_wins() {
    let update =
        route(r#" {"nodeid":"a","NODEID":"b","New":[1,{"x":null}],"updateepoch":7,"ConNecTions":{"x":1,"x":2}} "#);
    let update = update.unwrap();
    assert_eq!((update.node_id.as_str(), update.epoch), ("b", 7));
    assert_eq!(update.connections, Some([("x".into(), 2.0)].into()));
}

#[test]
fn missing_keys_and_null_are_zero() {
    assert_eq!(route("{}"), Ok(RoutingUpdate::default()));
    assert_eq!(route("null"), Ok(RoutingUpdate::default()));
    let nulls = r#"{"NodeID":null,"UpdateEpoch":null,"Connections":null,"SuspectedDuplicate":null,"Ext":null}"#;
    assert_eq!(route(nulls), Ok(RoutingUpdate::default()));
    assert_eq!(
        route(r#"{"Connections":{"a":null}}"#).unwrap().connections,
        Some([("a".into(), 0.0)].into())
    );
    let nil = String::from_utf8(RoutingUpdate::default().emit()).unwrap();
    assert!(nil.contains(r#""Connections":null"#), "{nil}");
}

/// As Go does: `null` leaves text and numbers alone, makes maps nil, and a second map adds to the first.
#[test]
fn duplicates_of_other_values() {
    assert_eq!(route(r#"{"NodeID":"a","NodeID":null}"#).unwrap().node_id, "a");
    let merged = route(r#"{"Connections":{"a":1,"b":1},"Connections":{"b":2}}"#)
        .unwrap()
        .connections;
    assert_eq!(merged, Some([("a".into(), 1.0), ("b".into(), 2.0)].into()));
    assert_eq!(
        route(r#"{"Connections":{"a":1},"Connections":null}"#)
            .unwrap()
            .connections,
        None
    );
}

#[test]
fn a_wrong_type_discards_the_message() {
    for json in [
        r#"{"NodeID":1}"#,
        r#"{"UpdateEpoch":1.0}"#,
        r#"{"UpdateEpoch":1e3}"#,
        r#"{"UpdateEpoch":-1}"#,
        r#"{"UpdateEpoch":"1"}"#,
        r#"{"UpdateEpoch":18446744073709551616}"#,
        r#"{"Connections":[]}"#,
        r#"{"Connections":{"a":"1"}}"#,
        "[]",
        "\"\"",
        "{} x",
        "{}{}",
        "",
    ] {
        assert!(route(json).is_err(), "{json}");
    }
    for json in [
        r#"{"NodeID":"a","ConnType":256}"#,
        r#"{"NodeID":"a","Time":"yesterday"}"#,
        r#"{"NodeID":"a","Time":1}"#,
        r#"{"NodeID":"a","Cancel":1}"#,
        r#"{"NodeID":"a","WorkCommands":{}}"#,
        r#"{"NodeID":"a","WorkCommands":[1]}"#,
        // Go does not undo escapes in times.
        r#"{"NodeID":"a","Time":"2024-10-24T16:36:52\u005a"}"#,
    ] {
        assert!(advert(json).is_err(), "{json}");
    }
}

/// `wire.md` §23: Go nodes crash on these.
#[test]
fn an_advertisement_without_main_keys_is_refused() {
    for json in ["{}", "null", r#"{"Cancel":true}"#, r#"{"x":1,"Ext":{"V":1}}"#] {
        assert!(advert(json).is_err(), "{json}");
    }
    for key in ["NodeID", "Service", "Time", "ConnType", "Tags", "WorkCommands"] {
        let json = format!(r#"{{"{key}":null}}"#);
        assert_eq!(advert(&json), Ok(Advertisement::default()), "{json}");
    }
}

#[test]
fn ext_never_fails_a_message() {
    for value in [
        "1",
        "\"x\"",
        "[]",
        "{}",
        "null",
        r#"{"V":0}"#,
        r#"{"V":"1"}"#,
        r#"{"V":1.5,"C":1}"#,
        r#"{"C":1}"#,
    ] {
        assert_eq!(route(&format!(r#"{{"Ext":{value}}}"#)).unwrap().ext, None, "{value}");
    }
    let newer = route(r#"{"ext":{"v":2,"c":18446744073709551615,"Z":[{}]}}"#)
        .unwrap()
        .ext;
    assert_eq!(
        newer,
        Some(Ext {
            version: 2,
            capabilities: u64::MAX,
            epoch: 0
        })
    );
    assert!(route(r#"{"Ext":{"V":1"#).is_err());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{0,12}", any::<String>()]
}

fn ext() -> impl Strategy<Value = Option<Ext>> {
    let some = (1..=u64::MAX, any::<u64>(), any::<u64>());
    proptest::option::of(some.prop_map(|(version, capabilities, epoch)| Ext {
        version,
        capabilities,
        epoch,
    }))
}

fn finite() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |cost| cost.is_finite())
}

prop_compose! {
    fn any_update()(
        node_id in text(), update_id in text(), epoch: u64, sequence: u64, forwarding_node in text(),
        connections in proptest::option::of(proptest::collection::btree_map(text(), finite(), 0..6)),
        suspected_duplicate: u64, ext in ext(),
    ) -> RoutingUpdate {
        RoutingUpdate { node_id, update_id, epoch, sequence, connections, forwarding_node, suspected_duplicate, ext }
    }
}

prop_compose! {
    pub(crate) fn any_advert()(
        node_id in text(), service in text(), nanos: u64, conn_type: u8, cancel: bool, ext in ext(),
        tags in proptest::option::of(proptest::collection::btree_map(text(), text(), 0..4)),
        work_commands in proptest::option::of(proptest::collection::vec((text(), any::<bool>()), 0..4)),
    ) -> Advertisement {
        let command = |(work_type, secure)| WorkCommand { work_type, secure };
        let work_commands = work_commands.map(|list| list.into_iter().map(command).collect());
        let time = AdvertTime::from_wall(crate::time::Wall::from_nanos(nanos));
        Advertisement { node_id, service, time, conn_type, tags, work_commands, cancel, ext }
    }
}

proptest! {
    #[test]
    fn routing_updates_round_trip(update in any_update()) {
        prop_assert_eq!(RoutingUpdate::parse(&update.emit()).unwrap(), update);
    }

    #[test]
    fn advertisements_round_trip(message in any_advert()) {
        prop_assert_eq!(Advertisement::parse(&message.emit()).unwrap(), message);
    }

    #[test]
    fn unreachable_messages_round_trip(texts in proptest::array::uniform5(text())) {
        let [from_node, to_node, from_service, to_service, problem] = texts;
        let message = Unreachable { from_node, to_node, from_service, to_service, problem };
        prop_assert_eq!(Unreachable::parse(&message.emit()).unwrap(), message);
    }

    #[test]
    fn what_parses_is_stable(bytes in damaged()) {
        if let Ok(update) = RoutingUpdate::parse(&bytes) {
            prop_assert_eq!(RoutingUpdate::parse(&update.emit()).unwrap(), update);
        }
        if let Ok(message) = Advertisement::parse(&bytes) {
            prop_assert_eq!(Advertisement::parse(&message.emit()).unwrap(), message);
        }
    }
}

/// A legal message with a few bytes overwritten.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4);
    (prop_oneof![Just(later().emit()), Just(control().emit())], edits).prop_map(|(mut bytes, edits)| {
        for (at, byte) in edits {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        bytes
    })
}
