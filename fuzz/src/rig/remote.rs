//! A neighbour's real stream with the node, so that bytes reach what lies behind streams.

use bytes::Bytes;
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::rng::Rng;
use receptor_core::stream::{Config, Stream};
use receptor_core::time::Instant;
use receptor_core::wire::data::{HEADER_LEN, Header, MAX_HOPS};

use super::frames::NAMES;
use super::{OWN, Rig};

/// The neighbour's ephemeral service.
const SERVICE: ServiceName = ServiceName::from_wire(*b"fuzzpeer");

/// The stream, and the services at its ends.
#[derive(Debug)]
pub(super) struct Remote {
    stream: Stream,
    service: ServiceName,
    node_service: ServiceName,
}

impl Rig {
    /// The first neighbour opens a new stream; an older one is forgotten.
    pub(crate) fn remote_dial(&mut self, node_service: ServiceName) {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.now.as_nanos().to_le_bytes());
        self.remote = Some(Remote {
            stream: Stream::dial(Config::default(), &mut Rng::from_seed(seed), self.now),
            service: SERVICE,
            node_service,
        });
    }

    pub(crate) fn remote_write(&mut self, data: &[u8]) {
        if let Some(remote) = &mut self.remote {
            let _ = remote.stream.write(self.now, Bytes::copy_from_slice(data));
        }
    }

    pub(crate) fn remote_end(&mut self, reset: bool) {
        match &mut self.remote {
            Some(remote) if reset => remote.stream.reset(self.now, 256, "enough"),
            Some(remote) => remote.stream.finish(),
            None => {}
        }
    }

    /// What the stream wants to send comes over a link.
    pub(crate) fn remote_send(&mut self, link: u64) {
        let mut frames = Vec::new();
        if let Some(remote) = &mut self.remote {
            remote.stream.handle_timeout(self.now);
            while let Some(mut packet) = remote.stream.poll_transmit(self.now, HEADER_LEN) {
                let header = Header {
                    hops: MAX_HOPS,
                    flags: 0,
                    from: NameHash::of(NAMES[0]),
                    to: NameHash::of(OWN),
                    from_service: remote.service,
                    to_service: remote.node_service,
                };
                packet[..HEADER_LEN].copy_from_slice(&header.to_bytes());
                frames.push(packet);
            }
        }
        for frame in frames {
            self.frame(link, &frame);
        }
    }

    /// The first neighbour looks at a frame that left the node: it takes packets of its stream, and a first stream to its
    /// control service.
    pub(super) fn remote_receive(&mut self, frame: &[u8]) {
        let Ok(header) = Header::parse(frame) else { return };
        if header.to != NameHash::of(NAMES[0]) {
            return;
        }
        let packet = Bytes::copy_from_slice(&frame[HEADER_LEN..]);
        match &mut self.remote {
            Some(remote) if remote.service == header.to_service && remote.node_service == header.from_service => {
                remote.stream.handle_packet(self.now, packet, false);
                remote.settle(self.now);
            }
            None if header.to_service == ServiceName::CONTROL => {
                if let Some(stream) = Stream::accept(Config::default(), &packet, self.now, false) {
                    self.remote = Some(Remote {
                        stream,
                        service: header.to_service,
                        node_service: header.from_service,
                    });
                }
            }
            _ => {}
        }
    }
}

impl Remote {
    fn settle(&mut self, now: Instant) {
        while self.stream.read(now).is_some() {}
        while self.stream.poll_event().is_some() {}
    }
}
