//! TLS over one connection: records go in and out in any slicing, plain bytes come out and go in.
//!
//! rustls shakes hands, and speaks TLS 1.2. Records of TLS 1.3 after that are made and read in `open`, with its keys and
//! ciphers.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};

use super::open::{self, OpenRecords, Opened};
use super::text;

/// Most plain bytes of one [`Records::write`].
pub const WRITE_MAX: usize = 128 << 10;

/// Most bytes a peer may send before the handshake is done; certificate chains have their place in it.
pub const HANDSHAKE_MAX: usize = 128 << 10;

/// Plain bytes in a full record (RFC 8446 §5.1).
pub const RECORD: usize = 16 << 10;

/// What a record has besides: header, nonce or content type, and tag, in TLS 1.2 or 1.3.
const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// Bytes that an alert and a change of keys may take.
pub const CONTROL_ROOM: usize = 128;

/// Why nothing more will be read or written.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum RecordsError {
    /// The peer sent more than [`HANDSHAKE_MAX`] bytes and is not through with the handshake.
    HandshakeTooLong,
    /// What the peer sent was wrong, or refused.
    Tls(rustls::Error),
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeTooLong => write!(f, "handshake longer than {HANDSHAKE_MAX} bytes"),
            Self::Tls(error) => f.write_str(&text::plain(&alloc::format!("{error}"))),
        }
    }
}

impl core::error::Error for RecordsError {}

impl From<rustls::Error> for RecordsError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

enum Connection {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    /// TLS 1.3, and the handshake is done.
    Open(Box<Open>),
    /// The change from one to the other has failed.
    Failed,
}

/// What is left of a handshake.
struct Open {
    records: OpenRecords,
    peer_certificate: Option<CertificateDer<'static>>,
    alpn: Option<Box<[u8]>>,
}

/// Does the same with either kind of connection of rustls; their types differ, their methods do not.
macro_rules! with {
    ($connection:expr, $bound:ident => $deed:expr, _ => $otherwise:expr) => {
        match $connection {
            Connection::Client($bound) => $deed,
            Connection::Server($bound) => $deed,
            Connection::Open(_) | Connection::Failed => $otherwise,
        }
    };
}

/// One end of TLS, version 1.2 or 1.3.
///
/// After any call: [`poll_transmit`](Self::poll_transmit) until it gives nothing. An error is final; what is to be sent
/// then is the alert that tells the peer.
pub struct Records {
    connection: Connection,
    /// Records that came and are not complete.
    incoming: BytesMut,
    /// Plain bytes for the layer above.
    plain: VecDeque<Bytes>,
    /// Records for the connection.
    outgoing: VecDeque<Bytes>,
    received: usize,
    is_handshaking: bool,
    has_finished: bool,
    peer_has_finished: bool,
    error: Option<RecordsError>,
}

impl Records {
    /// The end that dialled a host of this name; its first message can be sent at once.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn client(mut config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, RecordsError> {
        if !config.enable_secret_extraction {
            Arc::make_mut(&mut config).enable_secret_extraction = true;
        }
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Self::new(Connection::Client(Box::new(connection))))
    }

    /// The end that was dialled.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn server(mut config: Arc<ServerConfig>) -> Result<Self, RecordsError> {
        if !config.enable_secret_extraction {
            Arc::make_mut(&mut config).enable_secret_extraction = true;
        }
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Connection::Server(Box::new(connection))))
    }

    fn new(connection: Connection) -> Self {
        let mut records = Self {
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
        records.process();
        records
    }

    /// Bytes of the connection, in any slicing. Give the next ones when [`read`](Self::read) has nothing left: then no more is
    /// kept than one record and these.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.error.is_some() || self.peer_has_finished {
            return;
        }
        self.incoming.extend_from_slice(bytes);
        self.process();
        if self.is_handshaking {
            self.received += bytes.len();
            if self.received > HANDSHAKE_MAX {
                self.fail(RecordsError::HandshakeTooLong);
            }
        }
    }

    /// The next plain bytes.
    pub fn read(&mut self) -> Option<Bytes> {
        self.plain.pop_front()
    }

    /// The peer has said that it sends no more.
    pub const fn has_peer_finished(&self) -> bool {
        self.peer_has_finished
    }

    /// Everything the peer will ever send was read.
    pub fn is_finished(&self) -> bool {
        self.peer_has_finished && self.plain.is_empty()
    }

    /// Whether all that came are whole records: an end here cuts none of them.
    pub fn is_between_records(&self) -> bool {
        !self.is_handshaking && self.incoming.is_empty()
    }

    /// Whether plain bytes cannot be written yet.
    pub const fn is_handshaking(&self) -> bool {
        self.is_handshaking
    }

    /// Why it is over, if it is.
    pub const fn error(&self) -> Option<&RecordsError> {
        self.error.as_ref()
    }

    /// The peer's own certificate, if it has shown one.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.connection {
            Connection::Open(open) => open.peer_certificate.as_ref(),
            other => with!(other, connection => connection.peer_certificates(), _ => None)?.first(),
        }
    }

    /// The protocol that both ends agreed on, if they did.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.connection {
            Connection::Open(open) => open.alpn.as_deref(),
            other => with!(other, connection => connection.alpn_protocol(), _ => None),
        }
    }

    /// Encrypts the first bytes of `plain`, at most [`WRITE_MAX`]; says how many. None during the handshake, and after
    /// [`finish`](Self::finish) or an error.
    pub fn write(&mut self, plain: &[u8]) -> usize {
        if !self.may_write() {
            return 0;
        }
        let plain = &plain[..plain.len().min(WRITE_MAX)];
        if let Connection::Open(open) = &mut self.connection {
            let sealed = open.records.seal(plain, &mut self.outgoing);
            return match sealed {
                Ok(()) => plain.len(),
                Err(error) => {
                    self.fail(error.into());
                    0
                }
            };
        }
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
        }, _ => Ok(0));
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
        if let Connection::Open(open) = &mut self.connection {
            if let Err(error) = open.records.seal_end(&mut self.outgoing) {
                self.fail(error.into());
            }
            return;
        }
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
        }, _ => Ok(0));
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

    /// Writes with other keys from now on, which the peer must follow.
    #[cfg(test)]
    pub(crate) fn change_keys(&mut self) {
        let Connection::Open(open) = &mut self.connection else {
            panic!("no handshake, or not TLS 1.3");
        };
        open.records
            .update_sent(&mut self.outgoing)
            .expect("keys can be changed");
    }

    /// The next bytes for the connection.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// Works on what came, as far as it goes.
    fn process(&mut self) {
        self.process_with_rustls();
        if let Connection::Open(open) = &mut self.connection
            && self.error.is_none()
        {
            while !self.peer_has_finished {
                match open.records.open(&mut self.incoming, &mut self.outgoing) {
                    Ok(Some(Opened::Data(plain))) => self.plain.push_back(plain),
                    Ok(Some(Opened::End)) => self.peer_has_finished = true,
                    Ok(Some(Opened::Control)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        open.records.seal_error(&error, &mut self.outgoing);
                        self.fail(error.into());
                        break;
                    }
                }
            }
        }
        if self.incoming.is_empty() || self.peer_has_finished {
            // An idle connection holds no buffer.
            self.incoming = BytesMut::new();
        }
    }

    fn process_with_rustls(&mut self) {
        let step = loop {
            match self.step() {
                Ok(true) => {}
                other => break other,
            }
        };
        match step {
            Err(error) => {
                // An alert may wait for the peer. With the same bytes as before, since the connection may remember places in
                // them.
                while with!(&mut self.connection, connection => {
                    connection.wants_write() && {
                        let state = connection.process_tls_records(&mut self.incoming).state;
                        state.is_ok_and(|state| encode(state, &mut self.outgoing))
                    }
                }, _ => false)
                {}
                self.fail(error.into());
            }
            Ok(_) if self.is_handshaking => {
                let (is_handshaking, version) = with!(&self.connection, connection => {
                    (connection.is_handshaking(), connection.protocol_version())
                }, _ => return);
                if is_handshaking {
                    return;
                }
                if version != Some(ProtocolVersion::TLSv1_3) {
                    self.is_handshaking = false;
                } else if self.peer_has_finished || open::is_partial(&self.incoming) {
                    // Else the rest of a message after the handshake is missing, whose front rustls has.
                    self.open();
                }
            }
            Ok(_) => {}
        }
    }

    /// The handshake is done, and nothing is left in the connection.
    fn open(&mut self) {
        let (peer_certificate, alpn) = (self.peer_certificate().cloned(), self.alpn().map(Box::from));
        let records = match core::mem::replace(&mut self.connection, Connection::Failed) {
            Connection::Client(client) => client
                .dangerous_into_kernel_connection()
                .and_then(|open| OpenRecords::client(open, &mut self.outgoing)),
            Connection::Server(server) => server
                .dangerous_into_kernel_connection()
                .and_then(|open| OpenRecords::server(open, &mut self.outgoing)),
            Connection::Open(_) | Connection::Failed => return,
        };
        match records {
            Ok(records) => {
                let open = Open {
                    records,
                    peer_certificate,
                    alpn,
                };
                self.connection = Connection::Open(Box::new(open));
                self.is_handshaking = false;
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// The keys and what came with them, for tests that say what no end of ours would.
    #[cfg(test)]
    pub(crate) fn opened(&mut self) -> (&mut OpenRecords, &mut VecDeque<Bytes>) {
        match &mut self.connection {
            Connection::Open(open) => (&mut open.records, &mut self.outgoing),
            _ => panic!("the handshake is not done"),
        }
    }

    /// One step; `false` if there is nothing more to do.
    fn step(&mut self) -> Result<bool, rustls::Error> {
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
                            Err(error) => result = Err(error),
                        }
                    }
                    result
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_has_finished = true;
                    Ok(true)
                }
                Ok(ConnectionState::ReadEarlyData(_)) => Err(rustls::Error::General("early data".into())),
                Ok(state) => Ok(encode(state, &mut self.outgoing)),
                Err(error) => Err(error),
            };
            (discard, result)
        }, _ => return Ok(false));
        self.incoming.advance(discard);
        result
    }

    fn fail(&mut self, error: RecordsError) {
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

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("is_handshaking", &self.is_handshaking)
            .field("has_finished", &self.has_finished)
            .field("peer_has_finished", &self.peer_has_finished)
            .finish_non_exhaustive()
    }
}
