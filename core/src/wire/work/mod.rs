//! The byte stream of an upgraded `control` session, by which a submitter and an executor of our own push units of work,
//! status and output to each other. Specified byte by byte in `docs/protocol-extended.md`.
//!
//! The stream is a sequence of messages: kind, version, channel, length, body. A channel is a number chosen by the submitter
//! for one unit on this session; 0 is the session itself. Bodies are postcard, except that `Stdin` and `Output` are an
//! offset and then raw bytes.

mod decoder;
mod message;

pub use decoder::{Decoder, Received};
pub use message::{End, Message, Status, Submit, output_head, stdin_head};

/// Bytes before a body: kind, version, channel (32 bits), length (32 bits), little endian.
pub const HEADER_LEN: usize = 10;

/// Bytes before the data of a `Stdin` or `Output` message: header and offset.
pub const DATA_HEAD_LEN: usize = HEADER_LEN + 8;

/// Largest body, in bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// Most data in one `Stdin` or `Output` message, in bytes.
pub const MAX_DATA: usize = MAX_BODY - 8;

/// Layout version of every body. It rises only when an older reader could not make sense of the body; fields that are appended
/// leave it alone.
const BODY_VERSION: u8 = 1;

#[cfg(test)]
mod tests;
