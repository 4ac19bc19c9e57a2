//! Lists of any length as frames of bounded size.

use alloc::string::String;
use alloc::vec::Vec;
use core::borrow::Borrow;

use serde::Serialize;

use super::messages::{
    AdvertSummary, Adverts, Body, LinkState, MAX_ITEMS, NodeSummary, Record, Request, Summary, check_advert, name,
};
use super::{ENVELOPE_HEADER_LEN, write_envelope};
use crate::wire::WireError;
use crate::wire::classic::Advertisement;

/// Frames are filled up to this size, in bytes, unless the link wants less; below the frame limit of every backend.
pub const FRAME_TARGET: usize = 60_000;

/// Room for the counts and flags around the items of one body.
const BODY_OVERHEAD: usize = 16;

/// What became of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frames {
    /// Filled up to the size that was asked for; longer, up to 60,000 bytes, where one item alone is. Every one is valid alone
    /// and they may be sent in any order.
    pub frames: Vec<Vec<u8>>,
    /// Items that exceed a limit of the protocol by themselves and were left out.
    pub left_out: usize,
}

impl Frames {
    fn push(&mut self, target: usize, kind: u8, body: &[u8]) {
        let len = ENVELOPE_HEADER_LEN + body.len();
        match self.frames.last_mut() {
            Some(last) if last.len() + len <= target => {
                // Cannot fail: the target is below the limit.
                let _ = write_envelope(last, kind, body);
            }
            _ => {
                let mut frame = Vec::with_capacity(len);
                if write_envelope(&mut frame, kind, body).is_ok() {
                    self.frames.push(frame);
                }
            }
        }
    }
}

/// Records as [`LinkState`] messages, in frames of up to `target` bytes.
pub fn link_state_frames<R: Borrow<Record>>(target: usize, records: impl IntoIterator<Item = R>) -> Frames {
    let mut list = List::new(target);
    for record in records {
        let record = record.borrow();
        list.add(record, record.check());
    }
    list.into_frames(LinkState::KIND)
}

/// Advertisements as [`Adverts`] messages, in frames of up to `target` bytes.
pub fn advert_frames<A: Borrow<Advertisement>>(target: usize, adverts: impl IntoIterator<Item = A>) -> Frames {
    let mut list = List::new(target);
    for advert in adverts {
        let advert = advert.borrow();
        list.add(advert, check_advert(advert));
    }
    list.into_frames(Adverts::KIND)
}

/// Everything a node knows as [`Summary`] messages: at least one, the last of which says that no more follow. In frames of up to
/// `target` bytes.
pub fn summary_frames(
    target: usize,
    nodes: impl IntoIterator<Item = NodeSummary>,
    adverts: impl IntoIterator<Item = AdvertSummary>,
) -> Frames {
    let mut node_list = List::new(target);
    for entry in nodes {
        node_list.add(&entry, name(&entry.node));
    }
    let mut advert_list = List::new(target);
    for entry in adverts {
        advert_list.add(&entry, name(&entry.node).and_then(|()| name(&entry.service)));
    }
    let mut bodies = two_lists(&node_list, &advert_list);
    if bodies.is_empty() {
        bodies.push(alloc::vec![0, 0]);
    }
    let last = bodies.len() - 1;
    let mut frames = Frames {
        frames: Vec::new(),
        left_out: node_list.left_out + advert_list.left_out,
    };
    for (i, mut body) in bodies.into_iter().enumerate() {
        body.push(u8::from(i < last));
        frames.push(target, Summary::KIND, &body);
    }
    frames
}

/// Wanted records and advertisements as [`Request`] messages, in frames of up to `target` bytes; none if nothing is wanted.
pub fn request_frames(
    target: usize,
    nodes: impl IntoIterator<Item = String>,
    adverts: impl IntoIterator<Item = (String, String)>,
) -> Frames {
    let mut node_list = List::new(target);
    for node in nodes {
        node_list.add(&node, name(&node));
    }
    let mut advert_list = List::new(target);
    for pair in adverts {
        advert_list.add(&pair, name(&pair.0).and_then(|()| name(&pair.1)));
    }
    let mut frames = Frames {
        frames: Vec::new(),
        left_out: node_list.left_out + advert_list.left_out,
    };
    for body in two_lists(&node_list, &advert_list) {
        frames.push(target, Request::KIND, &body);
    }
    frames
}

/// Bodies that hold the one list or the other, the other being empty.
fn two_lists(first: &List, second: &List) -> Vec<Vec<u8>> {
    let first = first.chunks.iter().map(|chunk| {
        let mut body = chunk.to_bytes();
        body.push(0);
        body
    });
    let second = second.chunks.iter().map(|chunk| {
        let mut body = alloc::vec![0];
        body.extend(chunk.to_bytes());
        body
    });
    first.chain(second).collect()
}

/// Encoded items, cut into chunks that fit a frame.
struct List {
    target: usize,
    chunks: Vec<Chunk>,
    left_out: usize,
}

#[derive(Default)]
struct Chunk {
    count: usize,
    items: Vec<u8>,
}

impl List {
    fn new(target: usize) -> Self {
        Self {
            target: target.min(FRAME_TARGET),
            chunks: Vec::new(),
            left_out: 0,
        }
    }

    /// Adds an item, unless `check` found that it breaks a limit.
    fn add<T: Serialize>(&mut self, item: &T, check: Result<(), WireError>) {
        const AROUND: usize = ENVELOPE_HEADER_LEN + BODY_OVERHEAD;
        let room = self.target.saturating_sub(AROUND);
        let encoded = check
            .ok()
            .and_then(|()| postcard::to_allocvec(item).ok())
            .filter(|bytes| bytes.len() <= FRAME_TARGET - AROUND);
        let Some(bytes) = encoded else {
            self.left_out += 1;
            return;
        };
        let full = |chunk: &Chunk| chunk.count == MAX_ITEMS || chunk.items.len() + bytes.len() > room;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(Chunk::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.count += 1;
            chunk.items.extend_from_slice(&bytes);
        }
    }

    fn into_frames(self, kind: u8) -> Frames {
        let mut frames = Frames {
            frames: Vec::new(),
            left_out: self.left_out,
        };
        for chunk in &self.chunks {
            frames.push(self.target, kind, &chunk.to_bytes());
        }
        frames
    }
}

impl Chunk {
    /// As postcard writes a list: the number of items as a varint, then the items.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.items.len() + BODY_OVERHEAD);
        let mut count = self.count;
        while count > 0x7f {
            bytes.push((count & 0x7f) as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        bytes.extend_from_slice(&self.items);
        bytes
    }
}
