//! Control messages between nodes of this implementation. Specified byte by byte in `docs/protocol-extended.md`.
//!
//! A frame is one or more envelopes: kind, version, length, body. The body is postcard; what a newer node appends to it is
//! skipped, and so are envelopes of an unknown kind or version. Only links whose two hellos had `Ext` carry such frames.

mod digest;
mod messages;
mod split;

pub use digest::Digest;
pub use messages::{
    AdvertSummary, Adverts, Close, CloseCode, Keepalive, LinkState, NodeSummary, Record, Request, Summary,
};
pub use split::{FRAME_TARGET, Frames, advert_frames, link_state_frames, request_frames, summary_frames};

use alloc::vec::Vec;

use messages::Body;

use super::{KIND_EXTENDED_FIRST, MAX_FRAME, WireError};

/// Bytes of an envelope before its body: kind, version, length (16 bits, little endian).
pub const ENVELOPE_HEADER_LEN: usize = 4;

/// Largest body, in bytes.
pub const MAX_BODY: usize = MAX_FRAME - ENVELOPE_HEADER_LEN;

/// Layout version of every body below. It rises only when an older reader could not make sense of the body; fields that are
/// appended leave it alone.
const BODY_VERSION: u8 = 1;

/// One message between our own nodes.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Message {
    /// The link is alive, and this is what I know.
    Keepalive(Keepalive),
    /// Records of the link-state database.
    LinkState(LinkState),
    /// Service advertisements and withdrawals.
    Adverts(Adverts),
    /// What I know, by name and age only.
    Summary(Summary),
    /// Send me these.
    Request(Request),
    /// I close this link, for this reason.
    Close(Close),
    /// A kind or version that this code does not know; skip it.
    Unknown {
        /// First byte of the envelope.
        kind: u8,
        /// Second byte of the envelope.
        version: u8,
    },
}

impl Message {
    /// A frame with this one message.
    ///
    /// # Errors
    /// A limit of the message is exceeded, or the frame would be too long; the functions that make [`Frames`] split instead.
    pub fn to_frame(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Keepalive(body) => encode(body),
            Self::LinkState(body) => encode(body),
            Self::Adverts(body) => encode(body),
            Self::Summary(body) => encode(body),
            Self::Request(body) => encode(body),
            Self::Close(body) => encode(body),
            Self::Unknown { .. } => Err(WireError::Malformed(
                "extended message of unknown kind cannot be written",
            )),
        }
    }

    fn decode(kind: u8, version: u8, body: &[u8]) -> Result<Self, WireError> {
        match (kind, version) {
            (Keepalive::KIND, BODY_VERSION) => messages::decode(body).map(Self::Keepalive),
            (LinkState::KIND, BODY_VERSION) => messages::decode(body).map(Self::LinkState),
            (Adverts::KIND, BODY_VERSION) => messages::decode(body).map(Self::Adverts),
            (Summary::KIND, BODY_VERSION) => messages::decode(body).map(Self::Summary),
            (Request::KIND, BODY_VERSION) => messages::decode(body).map(Self::Request),
            (Close::KIND, BODY_VERSION) => messages::decode(body).map(Self::Close),
            _ => Ok(Self::Unknown { kind, version }),
        }
    }
}

fn encode<B: Body>(body: &B) -> Result<Vec<u8>, WireError> {
    body.check()?;
    let bytes = postcard::to_allocvec(body).map_err(|_| WireError::Malformed(B::WHAT))?;
    let mut frame = Vec::with_capacity(ENVELOPE_HEADER_LEN + bytes.len());
    write_envelope(&mut frame, B::KIND, &bytes)?;
    Ok(frame)
}

fn write_envelope(frame: &mut Vec<u8>, kind: u8, body: &[u8]) -> Result<(), WireError> {
    let room = MAX_FRAME.saturating_sub(frame.len() + ENVELOPE_HEADER_LEN);
    match u16::try_from(body.len()) {
        Ok(len) if body.len() <= room => {
            frame.extend_from_slice(&[kind, BODY_VERSION]);
            frame.extend_from_slice(&len.to_le_bytes());
            frame.extend_from_slice(body);
            Ok(())
        }
        _ => Err(WireError::TooLong {
            what: "extended message",
            limit: room,
            got: body.len(),
        }),
    }
}

/// Reads the messages of an extended frame one after another. Ends after the first error.
pub fn messages(frame: &[u8]) -> Messages<'_> {
    Messages { rest: frame }
}

/// See [`messages()`].
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl Messages<'_> {
    fn read(&mut self) -> Result<Message, WireError> {
        let rest = core::mem::take(&mut self.rest);
        let Some((&[kind, version, low, high], rest)) = rest.split_first_chunk::<ENVELOPE_HEADER_LEN>() else {
            return Err(WireError::Truncated {
                what: "extended envelope",
                needed: ENVELOPE_HEADER_LEN,
                got: rest.len(),
            });
        };
        if kind < KIND_EXTENDED_FIRST {
            return Err(WireError::Malformed("extended envelope of a kind below 0x40"));
        }
        let needed = usize::from(u16::from_le_bytes([low, high]));
        let Some((body, rest)) = rest.split_at_checked(needed) else {
            return Err(WireError::Truncated {
                what: "extended message",
                needed,
                got: rest.len(),
            });
        };
        let message = Message::decode(kind, version, body)?;
        self.rest = rest;
        Ok(message)
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() { None } else { Some(self.read()) }
    }
}

#[cfg(test)]
mod tests;
