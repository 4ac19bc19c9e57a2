//! A byte stream of a peer, through framing into a node.

use bytes::BytesMut;
use receptor_core::link::framing;
use receptor_core::time::Duration;

use crate::rig::Rig;
use crate::rig::frames::hello;
use crate::source::Source;

/// The first bytes decide how the rest is sliced, and whether the peer has introduced itself; the frames must not depend
/// on the slicing, and the node must take them all.
pub fn link(input: &[u8]) {
    let Some((&[slicing, how], stream)) = input.split_first_chunk() else {
        return;
    };
    let whole = frames(stream, |_| stream.len().max(1));
    assert_eq!(frames(stream, |i| 1 + (usize::from(slicing) * (i + 1)) % 97), whole);

    let mut rig = Rig::new(how & 1 != 0);
    rig.start();
    let link = rig.link_up(false).0;
    if how & 2 != 0 {
        // Classic or extended.
        rig.frame(link, &hello(&mut Source::new(&[0, 0, 0, how >> 2, 0])));
    }
    for frame in whole {
        rig.frame(link, &frame);
        if slicing & 1 != 0 {
            rig.timeout(Duration::from_millis(u64::from(slicing)));
            rig.settle();
        }
    }
    rig.finish();
}

fn frames(mut stream: &[u8], size: impl Fn(usize) -> usize) -> Vec<BytesMut> {
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    let mut slices = 0;
    while !stream.is_empty() {
        let (slice, rest) = stream.split_at(size(slices).min(stream.len()));
        (stream, slices) = (rest, slices + 1);
        buffer.extend_from_slice(slice);
        while let Some(frame) = framing::next_frame(&mut buffer) {
            assert!(!frame.is_empty());
            found.push(frame);
        }
        assert!(framing::missing(&buffer) > 0);
    }
    found
}
