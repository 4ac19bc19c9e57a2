//! Peers may say anything.

use super::*;
use crate::rng::Rng;
use crate::wire::classic::{AdvertTime, Advertisement, Ext};
use crate::wire::extended::{self, AdvertSummary, Keepalive, Message, NodeSummary, Record, Request, Summary};
use proptest::prelude::*;

fn node() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), Just("own".to_string()), "[a-d]", "\\PC{0,6}"].boxed()
}

fn number64() -> BoxedStrategy<u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(epoch(0)),
        Just(epoch(1)),
        0u64..9,
        any::<u64>()
    ]
    .boxed()
}

fn routing() -> BoxedStrategy<RoutingUpdate> {
    let connections = proptest::option::of(proptest::collection::btree_map(node(), any::<f64>(), 0..5));
    let suspected = prop_oneof![Just(0), number64()];
    (
        node(),
        node(),
        number64(),
        number64(),
        connections,
        suspected,
        any::<Option<u64>>(),
    )
        .prop_map(
            |(node_id, update_id, epoch, sequence, connections, suspected_duplicate, ext)| RoutingUpdate {
                node_id,
                update_id,
                epoch,
                sequence,
                connections,
                forwarding_node: "a".into(),
                suspected_duplicate,
                ext: ext.map(Ext::new),
            },
        )
        .boxed()
}

fn advertisement() -> BoxedStrategy<Advertisement> {
    (node(), node(), number64(), any::<bool>(), any::<Option<u64>>())
        .prop_map(|(node_id, service, time, cancel, ext)| Advertisement {
            node_id,
            service,
            time: AdvertTime::from_wall(Wall::from_nanos(time)),
            cancel,
            ext: ext.map(|c| Ext::new(c).with_epoch(epoch(0))),
            ..Advertisement::default()
        })
        .boxed()
}

fn message() -> BoxedStrategy<Vec<u8>> {
    let record = routing().prop_map(|u| Record {
        node: u.node_id,
        epoch: u.epoch,
        sequence: u.sequence,
        connections: u
            .connections
            .unwrap_or_default()
            .into_iter()
            .filter(|c| c.1.is_finite())
            .collect(),
        capabilities: 1,
        suspected_duplicate: u.suspected_duplicate,
    });
    let one = |m: Message| m.to_frame().unwrap_or_default();
    prop_oneof![
        record.prop_map(|r| extended::link_state_frames(60_000, [r]).frames.concat()),
        advertisement().prop_map(|a| extended::advert_frames(60_000, [a]).frames.concat()),
        (number64(), number64(), number64()).prop_map(move |(digest, epoch, sequence)| one(Message::Keepalive(
            Keepalive {
                digest,
                epoch,
                sequence
            }
        ))),
        (node(), number64(), number64(), node(), any::<i128>(), any::<bool>()).prop_map(
            move |(node, epoch, sequence, service, time, more)| one(Message::Summary(Summary {
                nodes: vec![NodeSummary {
                    node: node.clone(),
                    epoch,
                    sequence
                }],
                adverts: vec![AdvertSummary { node, service, time }],
                more,
            }))
        ),
        (node(), node()).prop_map(move |(node, service)| one(Message::Request(Request {
            nodes: vec![node.clone()],
            adverts: vec![(node, service)],
        }))),
        proptest::collection::vec(any::<u8>(), 0..60),
    ]
    .boxed()
}

#[derive(Clone, Debug)]
enum Step {
    Route(u64, RoutingUpdate),
    Advert(u64, Vec<u8>),
    Extended(u64, Vec<u8>),
    Data(Vec<u8>),
    Accept(u64, RoutingUpdate),
    Lose(u64),
    Wait(u64),
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        (0u64..4, routing()).prop_map(|(l, u)| Step::Route(l, u)),
        (0u64..4, advertisement()).prop_map(|(l, a)| Step::Advert(l, a.emit())),
        (0u64..4, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(l, f)| Step::Advert(l, f)),
        (0u64..4, message()).prop_map(|(l, f)| Step::Extended(l, f)),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Step::Data),
        (0u64..4, routing()).prop_map(|(l, u)| Step::Accept(l, u)),
        (0u64..4).prop_map(Step::Lose),
        (0u64..20_000).prop_map(Step::Wait),
    ]
    .boxed()
}

proptest! {
    #[test]
    fn nothing_a_peer_says_panics_or_keeps_a_deadline_due(steps in proptest::collection::vec(step(), 1..60)) {
        let limits = Limits { nodes: 12, adverts: 6, ..Limits::default() };
        let mut mono = Instant::ZERO;
        let mut router = Router::new("own".into(), 1, limits, Rng::from_seed([1; 32]), now_at(mono));
        router.set_epoch(now_at(mono), epoch(0));
        router.advertise(now_at(mono), "svc", 1, None, None);
        for step in steps {
            let now = now_at(mono);
            match step {
                Step::Route(link, update) => router.on_route(now, LinkId(link), &update),
                Step::Advert(link, frame) => router.on_advert(now, LinkId(link), &frame),
                Step::Extended(link, frame) => router.on_extended(now, LinkId(link), &frame),
                Step::Data(mut frame) => drop(router.classify_data(now, &mut frame)),
                Step::Accept(link, hello) => {
                    router.link_accepted(now, LinkId(link), 1.0, &hello, 60_000);
                }
                Step::Lose(link) => router.link_lost(now, LinkId(link)),
                Step::Wait(millis) => {
                    mono = mono + Duration::from_millis(millis);
                    router.handle_timeout(now_at(mono));
                    for (_, frame) in sent(&mut router) {
                        prop_assert!(!frame.is_empty() && frame.len() <= wire::MAX_FRAME);
                    }
                    prop_assert!(!router.next_deadline().is_due(mono));
                }
            }
            prop_assert!(router.names.len() <= 12);
            prop_assert!(router.adverts.iter().count() <= 6);
            router.known_costs();
            router.adverts(now);
        }
    }
}
