//! Cuts a byte stream into work messages.

use alloc::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::message::{Message, kind};
use super::{BODY_VERSION, HEADER_LEN, MAX_BODY};
use crate::wire::WireError;

/// A message and the channel it came on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The channel, chosen by the submitter.
    pub channel: u32,
    /// The message.
    pub message: Message,
}

/// Cuts a byte stream, pushed in any slicing, into messages.
///
/// Data is handed on as it arrives, without being copied: one `Stdin` or `Output` on the wire may come out as several with
/// growing offsets. Everything else is collected until it is complete, up to [`MAX_BODY`]. Call [`Decoder::next`] until it
/// answers `None` after each push; then nothing that was pushed is held, except what is copied out of an incomplete message.
#[derive(Debug, Default)]
pub struct Decoder {
    input: VecDeque<Bytes>,
    /// Beginning of something that is not complete yet.
    pending: BytesMut,
    state: State,
    failed: Option<WireError>,
}

/// What comes next in the stream.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Body {
        header: Header,
    },
    Offset {
        header: Header,
    },
    Data {
        header: Header,
        offset: u64,
        left: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Header {
    kind: u8,
    version: u8,
    channel: u32,
    len: usize,
}

impl Decoder {
    /// Takes bytes that came out of the stream.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() && self.failed.is_none() {
            self.input.push_back(bytes);
        }
    }

    /// Whether the stream stands between two messages, which is where it may end.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Header) && self.pending.is_empty() && self.input.is_empty()
    }

    /// The next message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The stream breaks the protocol. There is no way to go on: the same error comes again.
    #[allow(clippy::should_implement_trait)] // An iterator would end for good at the first `None`.
    pub fn next(&mut self) -> Result<Option<Received>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step();
        if let Err(error) = result {
            *self = Self {
                failed: Some(error),
                ..Self::default()
            };
        }
        result
    }

    fn step(&mut self) -> Result<Option<Received>, WireError> {
        loop {
            match self.state {
                State::Header => {
                    let Some(bytes) = self.take(HEADER_LEN) else {
                        return Ok(None);
                    };
                    let header = Header::parse(bytes)?;
                    let is_data = header.version == BODY_VERSION && matches!(header.kind, kind::STDIN | kind::OUTPUT);
                    if is_data && header.len < 8 {
                        return Err(WireError::Truncated {
                            what: "data of a work message",
                            needed: 8,
                            got: header.len,
                        });
                    }
                    self.state = if is_data {
                        State::Offset { header }
                    } else {
                        State::Body { header }
                    };
                }
                State::Body { header } => {
                    let Some(body) = self.take(header.len) else {
                        return Ok(None);
                    };
                    self.state = State::Header;
                    let message = Message::decode(header.kind, header.version, &body)?;
                    return Ok(Some(Received {
                        channel: header.channel,
                        message,
                    }));
                }
                State::Offset { header } => {
                    let Some(mut bytes) = self.take(8) else { return Ok(None) };
                    let offset = bytes.get_u64_le();
                    let left = header.len - 8;
                    if offset.checked_add(left as u64).is_none() {
                        return Err(WireError::Malformed("work message: offset beyond 64 bits"));
                    }
                    if left == 0 {
                        self.state = State::Header;
                        return Ok(Some(header.data(offset, Bytes::new())));
                    }
                    self.state = State::Data { header, offset, left };
                }
                State::Data { header, offset, left } => {
                    let Some(mut chunk) = self.input.pop_front() else {
                        return Ok(None);
                    };
                    let data = chunk.split_to(left.min(chunk.len()));
                    if !chunk.is_empty() {
                        self.input.push_front(chunk);
                    }
                    let left = left - data.len();
                    self.state = if left == 0 {
                        State::Header
                    } else {
                        State::Data {
                            header,
                            offset: offset + data.len() as u64,
                            left,
                        }
                    };
                    return Ok(Some(header.data(offset, data)));
                }
            }
        }
    }

    /// Exactly `len` bytes; `None`, with all input copied aside, if there are fewer.
    fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.pending.is_empty()
            && let Some(front) = self.input.front_mut()
            && front.len() >= len
        {
            let taken = front.split_to(len);
            if front.is_empty() {
                self.input.pop_front();
            }
            return Some(taken);
        }
        while self.pending.len() < len {
            let mut front = self.input.pop_front()?;
            let part = front.split_to(front.len().min(len - self.pending.len()));
            self.pending.extend_from_slice(&part);
            if !front.is_empty() {
                self.input.push_front(front);
            }
        }
        Some(core::mem::take(&mut self.pending).freeze())
    }
}

impl Header {
    fn parse(mut bytes: Bytes) -> Result<Self, WireError> {
        let (kind, version, channel, len) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u32_le(), bytes.get_u32_le());
        match usize::try_from(len) {
            Ok(len) if len <= MAX_BODY => Ok(Self {
                kind,
                version,
                channel,
                len,
            }),
            _ => Err(WireError::TooLong {
                what: "work message",
                limit: MAX_BODY,
                got: usize::try_from(len).unwrap_or(usize::MAX),
            }),
        }
    }

    fn data(self, offset: u64, data: Bytes) -> Received {
        let message = match self.kind {
            kind::STDIN => Message::Stdin { offset, data },
            _ => Message::Output { offset, data },
        };
        Received {
            channel: self.channel,
            message,
        }
    }
}
