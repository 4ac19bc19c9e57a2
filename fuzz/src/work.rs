//! The byte stream of a work session.

use bytes::Bytes;
use receptor_core::wire::WireError;
use receptor_core::wire::work::{Decoder, MAX_BODY, Message, Received};

/// The first byte decides how the rest is sliced; the messages must not depend on it.
pub fn work(input: &[u8]) {
    let Some((&slicing, stream)) = input.split_first() else {
        return;
    };
    let whole = decode(stream, |_| stream.len().max(1));
    let sliced = decode(stream, |i| 1 + (usize::from(slicing) * (i + 1)) % 97);
    assert_eq!(whole, sliced);
    for Received { channel, message } in whole.0 {
        if matches!(message, Message::Unknown { .. }) || too_long(&message) {
            continue;
        }
        let mut written = Vec::new();
        message
            .encode(channel, &mut written)
            .expect("a parsed message can be written");
        assert_eq!(
            decode(&written, |_| MAX_BODY * 2),
            (vec![Received { channel, message }], None)
        );
    }
}

/// Joining can make more data than one message may have.
fn too_long(message: &Message) -> bool {
    match message {
        Message::Stdin { data, .. } | Message::Output { data, .. } => data.len() > MAX_BODY - 8,
        _ => false,
    }
}

/// All messages, adjacent data joined, and the error at which the stream ended.
fn decode(mut stream: &[u8], size: impl Fn(usize) -> usize) -> (Vec<Received>, Option<WireError>) {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    let mut slices = 0;
    while !stream.is_empty() {
        let (slice, rest) = stream.split_at(size(slices).min(stream.len()));
        (stream, slices) = (rest, slices + 1);
        decoder.push(Bytes::copy_from_slice(slice));
        loop {
            match decoder.next() {
                Ok(Some(received)) => join(&mut all, received),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

fn join(all: &mut Vec<Received>, new: Received) {
    if let Some(last) = all.last_mut()
        && last.channel == new.channel
    {
        match (&mut last.message, &new.message) {
            (
                Message::Output { offset, data },
                Message::Output {
                    offset: next,
                    data: more,
                },
            )
            | (
                Message::Stdin { offset, data },
                Message::Stdin {
                    offset: next,
                    data: more,
                },
            ) if *offset + data.len() as u64 == *next => {
                *data = [&data[..], &more[..]].concat().into();
                return;
            }
            _ => {}
        }
    }
    all.push(new);
}
