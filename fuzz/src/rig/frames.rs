//! Frames of neighbours: well made from a few choices, so that a fuzzer gets past the parsers.

use std::collections::BTreeMap;

use receptor_core::id::{NameHash, ServiceName};
use receptor_core::time::Duration;
use receptor_core::wire::classic::{AdvertTime, Advertisement, Ext, REJECT, RoutingUpdate, Unreachable, WorkCommand};
use receptor_core::wire::data::Header;
use receptor_core::wire::extended::{
    AdvertSummary, Adverts, Keepalive, LinkState, Message, NodeSummary, Record, Request, Summary,
};
use receptor_core::wire::work;

use super::{OWN, WALL_START};
use crate::source::Source;

/// Nodes that frames speak of. The first is the usual neighbour.
pub(crate) const NAMES: &[&str] = &["a", OWN, "b", "c", "d", "localhost", "", "e\u{301}\n"];

/// Services that frames speak of.
const SERVICES: &[&str] = &["control", "ping", "unreach", "port", "svc", "", "eightchr"];

fn name(source: &mut Source<'_>) -> String {
    source.pick(NAMES).to_owned()
}

fn service(source: &mut Source<'_>) -> String {
    source.pick(SERVICES).to_owned()
}

fn wire_service(source: &mut Source<'_>) -> ServiceName {
    ServiceName::new(source.pick(SERVICES)).expect("a short name")
}

/// Around the time at which tests begin, or far from it.
fn epoch(source: &mut Source<'_>) -> u64 {
    match source.below(4) {
        0 => WALL_START.as_secs() << 24,
        1 => (WALL_START.as_secs() + u64::from(source.byte())) << 24,
        2 => 0,
        _ => source.number(),
    }
}

fn cost(source: &mut Source<'_>) -> f64 {
    source.pick(&[1.0, 2.0, 0.5, 0.0, -1.0, 1e300, f64::MIN_POSITIVE])
}

fn connections(source: &mut Source<'_>) -> BTreeMap<String, f64> {
    (0..source.below(5)).map(|_| (name(source), cost(source))).collect()
}

fn ext(source: &mut Source<'_>) -> Option<Ext> {
    source.flag().then(|| Ext::new(u64::from(source.byte())))
}

/// The update by which a neighbour becomes one.
pub(crate) fn hello(source: &mut Source<'_>) -> Vec<u8> {
    let peer = name(source);
    let update = RoutingUpdate {
        update_id: format!("hello-{}", source.byte()),
        epoch: WALL_START.as_secs() << 24,
        sequence: u64::from(source.byte()),
        connections: Some(BTreeMap::from([(OWN.to_owned(), 1.0)])),
        forwarding_node: peer.clone(),
        suspected_duplicate: 0,
        ext: ext(source),
        node_id: peer,
    };
    update.emit()
}

/// Any frame.
pub(crate) fn frame(source: &mut Source<'_>) -> Vec<u8> {
    let mut frame = match source.below(9) {
        0 => source.bytes().to_vec(),
        1 | 2 => hello(source),
        3 => route(source),
        4 => advert(source).emit(),
        5 | 6 => data(source),
        7 => extended(source),
        _ => REJECT.to_vec(),
    };
    // Now and then damaged.
    if source.byte() >= 0xf0 && !frame.is_empty() {
        let at = source.number() as usize % frame.len();
        frame[at] ^= source.byte();
    }
    frame
}

fn route(source: &mut Source<'_>) -> Vec<u8> {
    let update = RoutingUpdate {
        node_id: name(source),
        update_id: format!("update-{}", source.byte()),
        epoch: epoch(source),
        sequence: source.number(),
        connections: source.flag().then(|| connections(source)),
        forwarding_node: name(source),
        suspected_duplicate: if source.byte() >= 0xc0 { epoch(source) } else { 0 },
        ext: ext(source),
    };
    update.emit()
}

fn advert(source: &mut Source<'_>) -> Advertisement {
    let wall = WALL_START + Duration::from_secs(u64::from(source.byte()));
    Advertisement {
        node_id: name(source),
        service: service(source),
        time: AdvertTime::from_wall(wall),
        conn_type: source.byte() % 4,
        tags: source
            .flag()
            .then(|| BTreeMap::from([("type".to_owned(), name(source))])),
        work_commands: source.flag().then(|| {
            vec![WorkCommand {
                work_type: service(source),
                secure: source.flag(),
            }]
        }),
        cancel: source.flag(),
        ext: ext(source),
    }
}

fn data(source: &mut Source<'_>) -> Vec<u8> {
    let from = NameHash::of(source.pick(NAMES));
    // Mostly for this node.
    let to = if source.flag() { OWN } else { source.pick(NAMES) };
    let header = Header {
        hops: source.byte() % 40,
        flags: u16::from(source.byte() % 3),
        from,
        to: NameHash::of(to),
        from_service: wire_service(source),
        to_service: wire_service(source),
    };
    let unreachable = source.flag().then(|| Unreachable {
        from_node: name(source),
        to_node: name(source),
        from_service: service(source),
        to_service: service(source),
        problem: source
            .pick(&["service unknown", "message expired", "blocked by firewall", ""])
            .into(),
    });
    let payload = match unreachable {
        Some(message) if header.to_service == ServiceName::UNREACH => message.emit(),
        _ => source.bytes().to_vec(),
    };
    [&header.to_bytes()[..], &payload].concat()
}

fn extended(source: &mut Source<'_>) -> Vec<u8> {
    let count = source.below(4);
    let message = match source.below(5) {
        0 => Message::Keepalive(Keepalive {
            digest: source.number(),
            epoch: epoch(source),
            sequence: source.number(),
        }),
        1 => Message::LinkState(LinkState {
            records: (0..count).map(|_| record(source)).collect(),
        }),
        2 => Message::Adverts(Adverts {
            adverts: (0..count).map(|_| advert(source)).collect(),
        }),
        3 => Message::Summary(Summary {
            nodes: (0..count).map(|_| node_summary(source)).collect(),
            adverts: (0..count).map(|_| advert_summary(source)).collect(),
            more: source.flag(),
        }),
        _ => Message::Request(Request {
            nodes: (0..count).map(|_| name(source)).collect(),
            adverts: (0..count).map(|_| (name(source), service(source))).collect(),
        }),
    };
    message.to_frame().unwrap_or_default()
}

fn record(source: &mut Source<'_>) -> Record {
    Record {
        node: name(source),
        epoch: epoch(source),
        sequence: source.number(),
        connections: connections(source),
        capabilities: u64::from(source.byte()),
        suspected_duplicate: if source.byte() >= 0xc0 { epoch(source) } else { 0 },
    }
}

fn node_summary(source: &mut Source<'_>) -> NodeSummary {
    NodeSummary {
        node: name(source),
        epoch: epoch(source),
        sequence: source.number(),
    }
}

fn advert_summary(source: &mut Source<'_>) -> AdvertSummary {
    AdvertSummary {
        node: name(source),
        service: service(source),
        time: i128::from(source.number()),
    }
}

/// A message of a work session, of either side.
pub(crate) fn work_message(source: &mut Source<'_>) -> Vec<u8> {
    let channel = u32::from(source.byte() % 3);
    let unit = || "unit".to_owned();
    let text = || "no".to_owned();
    let data = |source: &mut Source<'_>| bytes::Bytes::copy_from_slice(source.bytes());
    let message = match source.below(17) {
        0 => work::Message::Submit(work::Submit {
            unit: unit(),
            work_type: source.pick(&["cat", "other", "none"]).into(),
            params: Vec::new(),
            signature: String::new(),
        }),
        1 => work::Message::Stdin {
            offset: source.number(),
            data: data(source),
        },
        2 => work::Message::StdinEnd { total: source.number() },
        3 => work::Message::Attach {
            unit: unit(),
            offset: source.number(),
            signature: String::new(),
        },
        4 => work::Message::Cancel {
            unit: unit(),
            signature: String::new(),
        },
        5 => work::Message::Release {
            unit: unit(),
            force: source.flag(),
            signature: String::new(),
        },
        6 => work::Message::Detach,
        7 => work::Message::Accepted {
            unit: unit(),
            stdin_offset: source.number(),
            fresh: source.flag(),
        },
        8 => work::Message::Refused { text: text() },
        9 => work::Message::Started,
        10 => work::Message::Status(work::Status {
            state: source.byte() % 6,
            stdout_size: source.number(),
            ..work::Status::default()
        }),
        11 => work::Message::Output {
            offset: source.number(),
            data: data(source),
        },
        12 => work::Message::End(work::End {
            state: source.byte() % 6,
            total: source.number(),
            ..work::End::default()
        }),
        13 => work::Message::Done,
        14 => work::Message::Failed { text: text() },
        15 => work::Message::Credit { bytes: source.number() },
        _ => work::Message::Ping { token: source.number() },
    };
    let mut written = Vec::new();
    message.encode(channel, &mut written).expect("a short message");
    written
}
