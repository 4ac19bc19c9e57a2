//! The layers against each other, and against bytes written by hand.

mod layers;
mod proxy;
mod tls;
mod websocket;

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::*;

/// Carries bytes from one end to the other in slices until nothing moves; gives the frames that came out.
fn carry(from: &mut Transport, to: &mut Transport, slice: usize) -> (bool, Vec<Vec<u8>>) {
    let (mut moved, mut frames) = (false, Vec::new());
    while let Some(bytes) = from.poll_transmit() {
        moved = true;
        for part in bytes.chunks(slice) {
            to.handle_bytes(part);
            frames.extend(core::iter::from_fn(|| to.poll_frame()).map(|frame| frame.to_vec()));
        }
    }
    (moved, frames)
}

/// Carries bytes both ways until nothing moves; gives what came out at either end.
fn settle(a: &mut Transport, b: &mut Transport, slice: usize) -> [Vec<Vec<u8>>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    loop {
        let (there, frames) = carry(a, b, slice);
        out[1].extend(frames);
        let (back, frames) = carry(b, a, slice);
        out[0].extend(frames);
        if !there && !back {
            return out;
        }
    }
}

fn frame(byte: u8, len: usize) -> BytesMut {
    BytesMut::from(&vec![byte; len][..])
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn text(transport: &mut Transport) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = transport.poll_transmit() {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn failure(transport: &Transport) -> String {
    match transport.end() {
        Some(End::Failed(error)) => alloc::format!("{error}"),
        other => panic!("{other:?}"),
    }
}
