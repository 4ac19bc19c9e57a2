//! Floods, garbage and half a handshake.

use alloc::vec::Vec;

use bytes::Bytes;

use super::net::{Net, Weather, bytes, service};
use crate::id::NameHash;
use crate::quic::{FromEndpoint, Path, ToEndpoint};
use crate::rng::Rng;
use crate::time::Duration;

fn path(from: u64) -> Path {
    Path {
        remote: NameHash(from),
        remote_service: service("x"),
        local_service: service("echo"),
    }
}

/// First packets of so many handshakes.
fn initials(count: usize) -> Vec<Bytes> {
    let mut net = Net::new(30, Weather::default());
    for _ in 0..count {
        net.dial("echo");
    }
    let mut packets = Vec::new();
    while let Some(output) = net.ends[0].endpoint.poll_output() {
        if let FromEndpoint::Datagram(_, packet) = output {
            packets.push(packet.freeze().slice(crate::wire::data::HEADER_LEN..));
        }
    }
    assert_eq!(packets.len(), count, "a first flight is one packet");
    packets
}

#[test]
fn a_flood_of_first_packets_finds_a_limit_and_is_forgotten() {
    let mut net = Net::new(31, Weather::default());
    net.listen("echo");
    for (number, packet) in initials(600).into_iter().enumerate() {
        // Answers go nowhere.
        net.tell(1, ToEndpoint::Datagram(path(number as u64 % 8), packet));
        while net.ends[1].endpoint.poll_output().is_some() {}
    }
    assert_eq!(net.ends[1].endpoint.len(), 256);
    for _ in 0..40 {
        net.now = net.now + Duration::from_secs(1);
        net.ends[1].endpoint.handle_timeout(net.now);
        while net.ends[1].endpoint.poll_output().is_some() {}
    }
    assert!(net.ends[1].endpoint.is_empty());
}

#[test]
fn one_node_alone_cannot_take_all_the_places() {
    let mut net = Net::new(32, Weather::default());
    net.listen("echo");
    for packet in initials(300) {
        net.tell(1, ToEndpoint::Datagram(path(7), packet));
        while net.ends[1].endpoint.poll_output().is_some() {}
    }
    assert_eq!(net.ends[1].endpoint.len(), 64);
    let id = net.dial("echo");
    assert!(net.run(Duration::from_secs(5), |net| net.side(0, id).is_open));
}

#[test]
fn garbage_is_ignored() {
    let mut net = Net::new(33, Weather::default());
    net.listen("echo");
    let first = &initials(1)[0];
    let mut rng = Rng::from_seed([3; 32]);
    for round in 0..2000u64 {
        let mut packet = match round % 3 {
            0 => bytes(rng.below(1500) as usize, round as u8).to_vec(),
            1 => first[..rng.below(first.len() as u64 + 1) as usize].to_vec(),
            _ => first.to_vec(),
        };
        for _ in 0..rng.below(4) {
            let at = rng.below(packet.len().max(1) as u64) as usize;
            if let Some(byte) = packet.get_mut(at) {
                *byte = rng.next_u64() as u8;
            }
        }
        net.tell(1, ToEndpoint::Datagram(path(round), packet.into()));
        while net.ends[1].endpoint.poll_output().is_some() {}
    }
    assert_eq!(net.ends[1].accepted, []);
    let id = net.dial("echo");
    assert!(net.run(Duration::from_secs(30), |net| net.side(0, id).is_open));
}

#[test]
fn answers_to_strangers_do_not_pile_up() {
    let mut net = Net::new(34, Weather::default());
    net.listen("echo");
    // A version nobody speaks, in a packet large enough to be answered.
    let mut packet = initials(1)[0].to_vec();
    packet[1..5].copy_from_slice(&[0xfa, 0xfa, 0xfa, 0xfa]);
    for _ in 0..1000 {
        net.tell(1, ToEndpoint::Datagram(path(1), packet.clone().into()));
    }
    let mut answers = 0;
    while net.ends[1].endpoint.poll_output().is_some() {
        answers += 1;
    }
    assert_eq!(answers, 64);
    net.tell(1, ToEndpoint::Datagram(path(1), packet.into()));
    assert!(net.ends[1].endpoint.poll_output().is_some());
}
