use super::messages::{MAX_ITEMS, MAX_NAME};
use super::*;
use crate::wire::classic::tests::any_advert;
use crate::wire::classic::{AdvertTime, Advertisement, Ext, WorkCommand};
use crate::wire::vectors::vector;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::{format, vec};
use proptest::prelude::*;

const EPOCH: u64 = 28_521_267_211_259_375;

fn all(frame: &[u8]) -> Vec<Message> {
    messages(frame).collect::<Result<_, _>>().unwrap()
}

fn keepalive() -> Message {
    Message::Keepalive(Keepalive {
        digest: 0x0123_4567_89ab_cdef,
        epoch: EPOCH,
        sequence: 4 << 32 | 7,
    })
}

fn close() -> Message {
    Message::Close(Close {
        code: CloseCode::COST,
        reason: "cost 2 here, 1 there".into(),
    })
}

fn records() -> Vec<Record> {
    vec![
        Record {
            node: "foo".into(),
            epoch: EPOCH,
            sequence: 4 << 32,
            connections: [("bar".into(), 1.0), ("fish".into(), 2.5)].into(),
            capabilities: 5,
            suspected_duplicate: 0,
        },
        Record {
            node: "bar".into(),
            epoch: 300,
            sequence: 9,
            connections: BTreeMap::new(),
            capabilities: 0,
            suspected_duplicate: EPOCH,
        },
    ]
}

fn adverts() -> Vec<Advertisement> {
    vec![
        Advertisement {
            node_id: "foo".into(),
            service: "control".into(),
            time: AdvertTime::parse(b"2024-10-24T16:36:52.123456-04:00").unwrap(),
            conn_type: 1,
            tags: Some([("type".into(), "Control Service".into())].into()),
            work_commands: Some(vec![WorkCommand {
                work_type: "echo".into(),
                secure: true,
            }]),
            cancel: false,
            ext: Some(Ext::new(5).with_epoch(EPOCH)),
        },
        Advertisement {
            node_id: "bar".into(),
            service: "svc".into(),
            time: AdvertTime::parse(b"2024-10-24T16:36:52Z").unwrap(),
            cancel: true,
            ..Advertisement::default()
        },
    ]
}

fn summary() -> Summary {
    Summary {
        nodes: vec![
            NodeSummary {
                node: "bar".into(),
                epoch: 300,
                sequence: 9,
            },
            NodeSummary {
                node: "foo".into(),
                epoch: EPOCH,
                sequence: 4 << 32,
            },
        ],
        adverts: vec![
            AdvertSummary {
                node: "foo".into(),
                service: "control".into(),
                time: 1_729_802_212_123_456_000,
            },
            AdvertSummary {
                node: "old".into(),
                service: "svc".into(),
                time: AdvertTime::default().nanos(),
            },
        ],
        more: true,
    }
}

fn request() -> Request {
    Request {
        nodes: vec!["foo".into()],
        adverts: vec![("foo".into(), "control".into())],
    }
}

/// Each message with its vector.
fn golden() -> Vec<(Message, Vec<u8>)> {
    vec![
        (keepalive(), vector!("extended/keepalive")),
        (
            Message::LinkState(LinkState { records: records() }),
            vector!("extended/link-state"),
        ),
        (
            Message::Adverts(Adverts { adverts: adverts() }),
            vector!("extended/adverts"),
        ),
        (Message::Summary(summary()), vector!("extended/summary")),
        (Message::Request(request()), vector!("extended/request")),
        (close(), vector!("extended/close")),
    ]
}

#[test]
fn golden_vectors_in_both_directions() {
    for (message, bytes) in golden() {
        assert_eq!(message.to_frame().unwrap(), bytes, "{message:?}");
        assert_eq!(all(&bytes), [message]);
    }
}

#[test]
fn several_envelopes_share_a_frame_and_unknown_ones_are_skipped() {
    let unknown = Message::Unknown { kind: 0x7a, version: 9 };
    assert_eq!(all(&vector!("extended/several")), [keepalive(), unknown, close()]);
}

#[test]
fn appended_fields_are_skipped_and_new_layouts_are_unknown() {
    let short = Message::Keepalive(Keepalive {
        digest: 1,
        epoch: 2,
        sequence: 3,
    });
    assert_eq!(all(&vector!("extended/keepalive-longer")), [short]);
    let newer = Message::Unknown { kind: 0x40, version: 2 };
    assert_eq!(
        all(&vector!("extended/keepalive-version-2")),
        core::slice::from_ref(&newer)
    );
    assert!(newer.to_frame().is_err());
}

#[test]
fn every_truncation_is_an_error() {
    for (message, bytes) in golden() {
        for len in 1..bytes.len() {
            let results: Vec<_> = messages(&bytes[..len]).collect();
            assert!(matches!(results[..], [Err(_)]), "{message:?} cut to {len}");
            // The same with a body that ends early inside an intact envelope.
            if let Some(body_len) = len.checked_sub(ENVELOPE_HEADER_LEN) {
                let mut frame = bytes[..len].to_vec();
                frame[2..4].copy_from_slice(&(body_len as u16).to_le_bytes());
                assert!(
                    messages(&frame).next().unwrap().is_err(),
                    "{message:?} with a body of {body_len}"
                );
            }
        }
    }
    assert_eq!(messages(&[]).next(), None);
}

#[test]
fn a_classic_kind_inside_a_frame_ends_it() {
    let mut frame = vector!("extended/close");
    frame.extend(*b"\x00\x01\x00\x00");
    let results: Vec<_> = messages(&frame).collect();
    assert_eq!(results.len(), 2);
    assert_eq!(
        results[1],
        Err(WireError::Malformed("extended envelope of a kind below 0x40"))
    );
}

#[test]
fn limits_hold_in_both_directions() {
    let long = Record {
        node: "x".repeat(MAX_NAME + 1),
        ..Record::default()
    };
    let expected = WireError::TooLong {
        what: "name",
        limit: MAX_NAME,
        got: MAX_NAME + 1,
    };
    let message = Message::LinkState(LinkState {
        records: vec![long.clone()],
    });
    assert_eq!(message.to_frame(), Err(expected));
    let body = postcard::to_allocvec(&LinkState { records: vec![long] }).unwrap();
    let mut frame = Vec::new();
    write_envelope(&mut frame, 0x41, &body).unwrap();
    assert_eq!(messages(&frame).next(), Some(Err(expected)));

    let many = Request {
        nodes: vec![String::new(); MAX_ITEMS + 1],
        adverts: vec![],
    };
    let body = postcard::to_allocvec(&many).unwrap();
    let mut frame = Vec::new();
    write_envelope(&mut frame, 0x44, &body).unwrap();
    let expected = WireError::TooMany {
        what: "requested records",
        limit: MAX_ITEMS,
    };
    assert_eq!(messages(&frame).next(), Some(Err(expected)));

    let nan = Record {
        connections: [("a".into(), f64::NAN)].into(),
        ..Record::default()
    };
    assert!(Message::LinkState(LinkState { records: vec![nan] }).to_frame().is_err());
}

#[test]
fn a_count_without_items_allocates_little_and_fails() {
    let frame = [0x41, 1, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(messages(&frame).next().unwrap().is_err());
}

#[test]
fn long_lists_are_split_into_frames() {
    let record = |i: usize| Record {
        node: format!("node-{i:05}.example.org"),
        epoch: EPOCH + i as u64,
        sequence: (i as u64) << 32,
        connections: (0..8)
            .map(|n| (format!("node-{:05}.example.org", i + n), 1.0))
            .collect(),
        ..Record::default()
    };
    let records: Vec<_> = (0..3000).map(record).collect();
    let split = link_state_frames(FRAME_TARGET, &records);
    assert_eq!(split.left_out, 0);
    assert!(split.frames.len() > 1 && split.frames.iter().all(|frame| frame.len() <= 60_000));
    let mut read = Vec::new();
    for message in split.frames.iter().flat_map(|frame| all(frame)) {
        let Message::LinkState(body) = message else {
            panic!("{message:?}")
        };
        read.extend(body.records);
    }
    assert_eq!(read, records);
}

#[test]
fn what_cannot_fit_is_left_out_and_counted() {
    let huge: BTreeMap<_, _> = (0..4000).map(|i| (format!("{i:0>40}"), 1.0)).collect();
    let records = [
        Record {
            connections: huge,
            ..Record::default()
        },
        Record::default(),
    ];
    let split = link_state_frames(FRAME_TARGET, &records);
    assert_eq!((split.frames.len(), split.left_out), (1, 1));
    let long = Advertisement {
        service: "s".repeat(2000),
        ..Advertisement::default()
    };
    assert_eq!(
        advert_frames(FRAME_TARGET, [&long]),
        Frames {
            frames: vec![],
            left_out: 1
        }
    );
}

#[test]
fn a_summary_says_where_it_ends() {
    let empty = summary_frames(FRAME_TARGET, [], []);
    assert_eq!(all(&empty.frames[0]), [Message::Summary(Summary::default())]);

    let nodes = (0..10_000).map(|i| NodeSummary {
        node: format!("node-{i}"),
        epoch: EPOCH,
        sequence: 1,
    });
    let split = summary_frames(FRAME_TARGET, nodes, summary().adverts);
    let parts: Vec<_> = split.frames.iter().flat_map(|frame| all(frame)).collect();
    let mut seen = 0;
    for (i, part) in parts.iter().enumerate() {
        let Message::Summary(part_body) = part else {
            panic!("{part:?}")
        };
        assert_eq!(part_body.more, i + 1 < parts.len());
        assert!(part_body.nodes.len() <= MAX_ITEMS);
        seen += part_body.nodes.len() + part_body.adverts.len();
    }
    assert_eq!(seen, 10_002);
}

#[test]
fn small_lists_share_one_frame() {
    let split = request_frames(FRAME_TARGET, request().nodes, request().adverts);
    assert_eq!(split.frames.len(), 1);
    assert_eq!(all(&split.frames[0]).len(), 2);
    assert_eq!(request_frames(FRAME_TARGET, [], []), Frames::default());
    assert_eq!(
        advert_frames(FRAME_TARGET, adverts()).frames,
        [vector!("extended/adverts")]
    );
    assert_eq!(
        link_state_frames(FRAME_TARGET, records()).frames,
        [vector!("extended/link-state")]
    );
}

prop_compose! {
    fn any_record()(
        node in "[a-z]{0,9}", epoch: u64, sequence: u64, capabilities: u64, suspected_duplicate: u64,
        connections in proptest::collection::btree_map("[a-z]{0,9}", -1e9..1e9, 0..5),
    ) -> Record {
        Record { node, epoch, sequence, connections, capabilities, suspected_duplicate }
    }
}

proptest! {
    #[test]
    fn records_round_trip(records in proptest::collection::vec(any_record(), 0..5)) {
        let message = Message::LinkState(LinkState { records });
        prop_assert_eq!(all(&message.to_frame().unwrap()), [message]);
    }

    #[test]
    fn adverts_round_trip(adverts in proptest::collection::vec(any_advert(), 0..4)) {
        let message = Message::Adverts(Adverts { adverts });
        prop_assert_eq!(all(&message.to_frame().unwrap()), [message]);
    }

    #[test]
    fn summaries_round_trip(
        nodes in proptest::collection::vec((any::<String>(), any::<u64>(), any::<u64>()), 0..5),
        adverts in proptest::collection::vec((any::<String>(), any::<String>(), any::<i128>()), 0..5),
        more: bool,
    ) {
        let nodes = nodes.into_iter().map(|(node, epoch, sequence)| NodeSummary { node, epoch, sequence }).collect();
        let adverts = adverts.into_iter().map(|(node, service, time)| AdvertSummary { node, service, time }).collect();
        let message = Message::Summary(Summary { nodes, adverts, more });
        prop_assert_eq!(all(&message.to_frame().unwrap()), [message]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0x3fu8..0x51, mut frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        if frame.len() > 3 {
            let len = (frame.len() - 4) as u8;
            frame[..4].copy_from_slice(&[kind, 1, len, 0]);
        }
        for message in messages(&frame).flatten() {
            if !matches!(message, Message::Unknown { .. }) {
                prop_assert_eq!(all(&message.to_frame().unwrap()), [message]);
            }
        }
    }
}
