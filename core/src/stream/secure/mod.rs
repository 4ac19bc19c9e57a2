//! TLS 1.3 over one stream: records go in and out in any slicing, plain bytes come out and go in. A machine like the others,
//! but not of the node's task, since its work takes time (feature `tls`).
//!
//! ```text
//!  stream ── handle_data ─► records ─► read ──► user
//!  stream ◄─ poll_transmit ◄─ records ◄─ write ── user
//! ```
//!
//! Each half ends by `close_notify` and then by the end of the stream; an end of the stream alone is a truncation. Nothing of
//! a session outlives it: there are no tickets, no resumption and no early data, so names are checked on every handshake.

pub mod anonymous;

use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;
use rustls::pki_types::{DnsName, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::tls::records::RECORD;
pub use crate::tls::records::{CONTROL_ROOM, HANDSHAKE_MAX, WRITE_MAX};
use crate::tls::{Records, RecordsError, text};

/// What a record has besides: header, content type and tag (RFC 8446 §5.2).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// What is spoken inside, so that no other user of TLS is taken for a node.
pub const ALPN: &[u8] = b"receptor-stream/1";

/// What stands in every handshake for a name: node IDs need not be valid as server names. It is not sent.
const SERVER_NAME: &str = "receptor";

/// Why nothing more will be read or written.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum SecureError {
    /// The stream ended before the peer had said so: bytes may be missing.
    Truncated,
    /// The peer sent more than [`HANDSHAKE_MAX`] bytes and is not through with the handshake.
    HandshakeTooLong,
    /// The other end speaks TLS, but not to a node.
    Foreign,
    /// What the peer sent was wrong, or refused.
    Tls(rustls::Error),
}

impl fmt::Display for SecureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("TLS: stream ended without close_notify"),
            Self::HandshakeTooLong => write!(f, "TLS: handshake longer than {HANDSHAKE_MAX} bytes"),
            Self::Foreign => f.write_str("TLS: the other end is no receptor stream"),
            Self::Tls(error) => {
                use rustls::Error as E;
                let text = text::plain(&alloc::format!("{error}"));
                // What remote work looks for, in streams of Go nodes too, if TLS itself refuses an end.
                match error {
                    E::AlertReceived(_) => write!(f, "CRYPTO_ERROR (remote): {text}"),
                    E::InvalidCertificate(_)
                    | E::NoCertificatesPresented
                    | E::NoApplicationProtocol
                    | E::PeerIncompatible(_) => write!(f, "CRYPTO_ERROR (local): {text}"),
                    _ => write!(f, "TLS: {text}"),
                }
            }
        }
    }
}

impl core::error::Error for SecureError {}

impl From<RecordsError> for SecureError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::HandshakeTooLong => Self::HandshakeTooLong,
            RecordsError::Tls(error) => Self::Tls(error),
        }
    }
}

/// One end of TLS over one stream.
///
/// After any call: [`poll_transmit`](Self::poll_transmit) until it gives nothing. An error is final; what is to be sent
/// then is the alert that tells the peer.
pub struct Secure {
    records: Records,
    /// Both ends have said what they speak.
    is_checked: bool,
    error: Option<SecureError>,
}

impl Secure {
    /// The end that dialled; its first message can be sent at once.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn client(config: Arc<ClientConfig>) -> Result<Self, SecureError> {
        let name = DnsName::try_from_str(SERVER_NAME).map_err(|_| SecureError::Foreign)?;
        Ok(Self::new(Records::client(
            config,
            ServerName::DnsName(name.to_owned()),
        )?))
    }

    /// The end that was dialled.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, SecureError> {
        Ok(Self::new(Records::server(config)?))
    }

    const fn new(records: Records) -> Self {
        Self {
            records,
            is_checked: false,
            error: None,
        }
    }

    /// Bytes of the stream, in any slicing. Give the next ones when [`read`](Self::read) has nothing left: then no more is
    /// kept than one record and these.
    pub fn handle_data(&mut self, data: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.records.handle_bytes(data);
        if let Some(error) = self.records.error() {
            self.error = Some(error.clone().into());
        } else if !self.is_checked && !self.records.is_handshaking() {
            self.is_checked = true;
            if self.records.alpn() != Some(ALPN) {
                self.error = Some(SecureError::Foreign);
            }
        }
    }

    /// The stream has ended.
    pub fn handle_eof(&mut self) {
        if !self.records.has_peer_finished() {
            self.error.get_or_insert(SecureError::Truncated);
        }
    }

    /// The next plain bytes.
    pub fn read(&mut self) -> Option<Bytes> {
        self.records.read()
    }

    /// Everything the peer will ever send was read.
    pub fn is_finished(&self) -> bool {
        self.records.is_finished()
    }

    /// Whether plain bytes cannot be written yet.
    pub const fn is_handshaking(&self) -> bool {
        self.records.is_handshaking()
    }

    /// Why it is over, if it is.
    pub const fn error(&self) -> Option<&SecureError> {
        self.error.as_ref()
    }

    /// How many plain bytes make records of at most `room` bytes, one [`write`](Self::write) at most.
    pub const fn plain_room(room: usize) -> usize {
        // A change of keys may have to go before them.
        let room = room.saturating_sub(CONTROL_ROOM);
        let full = room / (RECORD + RECORD_OVERHEAD);
        let rest = (room % (RECORD + RECORD_OVERHEAD)).saturating_sub(RECORD_OVERHEAD);
        let plain = full * RECORD + rest;
        if plain < WRITE_MAX { plain } else { WRITE_MAX }
    }

    /// Encrypts the first bytes of `plain`, at most [`WRITE_MAX`]; says how many. None during the handshake,
    /// and after [`finish`](Self::finish) or an error.
    pub fn write(&mut self, plain: &[u8]) -> usize {
        if self.error.is_some() {
            return 0;
        }
        let count = self.records.write(plain);
        self.note_error();
        count
    }

    /// No more will be written: tells the peer so.
    pub fn finish(&mut self) {
        if self.error.is_none() {
            self.records.finish();
            self.note_error();
        }
    }

    fn note_error(&mut self) {
        if let Some(error) = self.records.error() {
            self.error.get_or_insert_with(|| error.clone().into());
        }
    }

    /// The next bytes for the stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.records.poll_transmit()
    }
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure")
            .field("records", &self.records)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
