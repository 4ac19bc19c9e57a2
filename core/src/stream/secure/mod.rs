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

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{DnsName, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};

use crate::tls::text;

/// Most plain bytes of one [`Secure::write`]: what is encrypted into one piece.
pub const WRITE_MAX: usize = 128 << 10;

/// Most bytes a peer may send before the handshake is done; certificate chains have their place in it.
pub const HANDSHAKE_MAX: usize = 128 << 10;

/// Plain bytes in a full record (RFC 8446 §5.1).
const RECORD: usize = 16 << 10;

/// What a record has besides: header, content type and tag (RFC 8446 §5.2).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;

/// Bytes that an alert and a change of keys may take.
pub const CONTROL_ROOM: usize = 128;

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
            Self::Tls(error) => write!(f, "TLS: {}", text::plain(&alloc::format!("{error}"))),
        }
    }
}

impl core::error::Error for SecureError {}

impl From<rustls::Error> for SecureError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Does the same with either kind of connection; their types differ, their methods do not.
macro_rules! with {
    ($connection:expr, $bound:ident => $deed:expr) => {
        match $connection {
            Connection::Client($bound) => $deed,
            Connection::Server($bound) => $deed,
        }
    };
}

/// One end of TLS over one stream.
///
/// After any call: [`poll_transmit`](Self::poll_transmit) until it gives nothing. An error is final; what is to be sent
/// then is the alert that tells the peer.
pub struct Secure {
    connection: Connection,
    /// Records that came and are not complete.
    incoming: BytesMut,
    /// Plain bytes for the user.
    plain: VecDeque<Bytes>,
    /// Records for the stream.
    outgoing: VecDeque<Bytes>,
    received: usize,
    is_handshaking: bool,
    has_finished: bool,
    peer_has_finished: bool,
    error: Option<SecureError>,
}

impl Secure {
    /// The end that dialled; its first message can be sent at once.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn client(config: Arc<ClientConfig>) -> Result<Self, SecureError> {
        let name = DnsName::try_from_str(SERVER_NAME).map_err(|_| SecureError::Foreign)?;
        let name = ServerName::DnsName(name.to_owned());
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(Connection::Client(connection)))
    }

    /// The end that was dialled.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, SecureError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Connection::Server(connection)))
    }

    fn new(connection: Connection) -> Self {
        let mut secure = Self {
            connection,
            incoming: BytesMut::new(),
            plain: VecDeque::new(),
            outgoing: VecDeque::new(),
            received: 0,
            is_handshaking: true,
            has_finished: false,
            peer_has_finished: false,
            error: None,
        };
        secure.process();
        secure
    }

    /// Bytes of the stream, in any slicing. Give the next ones when [`read`](Self::read) has nothing left: then no more is
    /// kept than one record and these.
    pub fn handle_data(&mut self, data: &[u8]) {
        if self.error.is_some() || self.peer_has_finished {
            return;
        }
        self.incoming.extend_from_slice(data);
        self.process();
        if self.is_handshaking {
            self.received += data.len();
            if self.received > HANDSHAKE_MAX {
                self.fail(SecureError::HandshakeTooLong);
            }
        }
    }

    /// The stream has ended.
    pub fn handle_eof(&mut self) {
        if !self.peer_has_finished && self.error.is_none() {
            self.fail(SecureError::Truncated);
        }
    }

    /// The next plain bytes.
    pub fn read(&mut self) -> Option<Bytes> {
        self.plain.pop_front()
    }

    /// Everything the peer will ever send was read.
    pub fn is_finished(&self) -> bool {
        self.peer_has_finished && self.plain.is_empty()
    }

    /// Whether plain bytes cannot be written yet.
    pub const fn is_handshaking(&self) -> bool {
        self.is_handshaking
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

    /// Encrypts the first bytes of `plain`, at most [`WRITE_MAX`], into one piece; says how many. None during the handshake,
    /// and after [`finish`](Self::finish) or an error.
    pub fn write(&mut self, plain: &[u8]) -> usize {
        if !self.may_write() {
            return 0;
        }
        let plain = &plain[..plain.len().min(WRITE_MAX)];
        let mut records = BytesMut::zeroed(plain.len() + plain.len().div_ceil(RECORD) * RECORD_OVERHEAD + CONTROL_ROOM);
        let written = with!(&mut self.connection, connection => {
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut self.incoming);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(plain, &mut records).map_err(refused),
                Ok(_) => Ok(0),
                Err(error) => Err(error),
            };
            self.incoming.advance(discard);
            written
        });
        if self.take_written(records, written) {
            plain.len()
        } else {
            0
        }
    }

    /// No more will be written: tells the peer so.
    pub fn finish(&mut self) {
        if !self.may_write() {
            return;
        }
        self.has_finished = true;
        let mut records = BytesMut::zeroed(CONTROL_ROOM);
        let written = with!(&mut self.connection, connection => {
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut self.incoming);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    traffic.queue_close_notify(&mut records).map_err(refused)
                }
                Ok(_) => Ok(0),
                Err(error) => Err(error),
            };
            self.incoming.advance(discard);
            written
        });
        self.take_written(records, written);
    }

    fn may_write(&self) -> bool {
        !self.is_handshaking && !self.has_finished && self.error.is_none()
    }

    fn take_written(&mut self, mut records: BytesMut, written: Result<usize, rustls::Error>) -> bool {
        match written {
            Ok(length) => {
                records.truncate(length);
                if length > 0 {
                    self.outgoing.push_back(records.freeze());
                }
                length > 0
            }
            Err(error) => {
                self.fail(error.into());
                false
            }
        }
    }

    /// The next bytes for the stream.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// Works on what came, as far as it goes.
    fn process(&mut self) {
        let step = loop {
            match self.step() {
                Ok(true) => {}
                other => break other,
            }
        };
        if self.incoming.is_empty() {
            // An idle stream holds no buffer.
            self.incoming = BytesMut::new();
        }
        match step {
            Err(error) => {
                // An alert may wait for the peer. With the same bytes as before, since the connection may remember places in
                // them.
                while with!(&mut self.connection, connection => {
                    connection.wants_write() && {
                        let state = connection.process_tls_records(&mut self.incoming).state;
                        state.is_ok_and(|state| encode(state, &mut self.outgoing))
                    }
                }) {}
                self.fail(error);
            }
            Ok(_) if self.is_handshaking => {
                let (is_handshaking, is_ours) = with!(&self.connection, connection => {
                    (connection.is_handshaking(), connection.alpn_protocol() == Some(ALPN))
                });
                self.is_handshaking = is_handshaking;
                if !is_handshaking && !is_ours {
                    self.fail(SecureError::Foreign);
                }
            }
            Ok(_) => {}
        }
    }

    /// One step; `false` if there is nothing more to do.
    fn step(&mut self) -> Result<bool, SecureError> {
        let (discard, result) = with!(&mut self.connection, connection => {
            let UnbufferedStatus { mut discard, state } = connection.process_tls_records(&mut self.incoming);
            let result = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut result = Ok(true);
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                self.plain.push_back(Bytes::copy_from_slice(record.payload));
                            }
                            Err(error) => result = Err(error.into()),
                        }
                    }
                    result
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_has_finished = true;
                    Ok(true)
                }
                Ok(ConnectionState::ReadEarlyData(_)) => Err(SecureError::Foreign),
                Ok(state) => Ok(encode(state, &mut self.outgoing)),
                Err(error) => Err(error.into()),
            };
            (discard, result)
        });
        self.incoming.advance(discard);
        result
    }

    fn fail(&mut self, error: SecureError) {
        self.error.get_or_insert(error);
        self.incoming = BytesMut::new();
    }
}

/// Puts the next message into bytes; `false` if there is none.
fn encode<Data>(state: ConnectionState<'_, '_, Data>, into: &mut VecDeque<Bytes>) -> bool {
    match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let mut record = Vec::new();
            if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut record) {
                record.resize(size.required_size, 0);
                // It has been told how much room there must be, so it fits.
                let _ = message.encode(&mut record);
            }
            into.push_back(record.into());
            true
        }
        ConnectionState::TransmitTlsData(transmitted) => {
            transmitted.done();
            true
        }
        _ => false,
    }
}

fn refused(error: EncryptError) -> rustls::Error {
    rustls::Error::General(alloc::format!("{error}"))
}

impl fmt::Debug for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secure")
            .field("is_handshaking", &self.is_handshaking)
            .field("has_finished", &self.has_finished)
            .field("peer_has_finished", &self.peer_has_finished)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
