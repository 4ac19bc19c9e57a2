//! Records of TLS 1.3 after the handshake (RFC 8446 §5), with the keys that rustls agreed on and with its ciphers.
//!
//! rustls's own connection would do the same, but copies every record twice on its way out and three times on its way in.
//! Here a record is sealed where it is made and opened where it came, and what it held is a slice of that. Of all messages
//! after the handshake two have a meaning: a change of keys is followed, a ticket is dropped, since nothing is resumed.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved,
    ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite,
};

use super::records::RECORD;

/// Type, version and length before each record.
const HEADER: usize = 5;

/// What a record may have besides its plain bytes: content type, padding and tag (RFC 8446 §5.2).
const EXPANSION: usize = 256;

/// Largest message after the handshake: a ticket with all its fields.
const MESSAGE: usize = 128 << 10;

/// Messages that carry no bytes of the user, and that may come one after another.
const IDLE_MESSAGES: u32 = 32;

/// Messages that may be sealed after the last one that is counted: a change of keys and an alert.
const RESERVE: u64 = 4;

const WARNING: u8 = 1;
const FATAL: u8 = 2;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Both directions of a connection whose handshake is done.
pub(crate) struct OpenRecords {
    kernel: Kernel,
    suite: &'static Tls13CipherSuite,
    sealer: Box<dyn MessageEncrypter>,
    /// Number of the next record that is sent under these keys.
    sent: u64,
    /// Records that may be sent under one key.
    limit: u64,
    opener: Box<dyn MessageDecrypter>,
    /// Number of the next record that comes under these keys.
    received: u64,
    /// The front of a message whose rest is in later records.
    message: Vec<u8>,
    /// Messages since the user's bytes came last.
    idle_messages: u32,
}

enum Kernel {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

/// What came in a record.
#[derive(PartialEq, Debug)]
pub(super) enum Opened {
    /// Bytes for the user.
    Data(Bytes),
    /// The peer sends no more.
    End,
    /// Nothing for the user.
    Control,
}

impl OpenRecords {
    /// The end that dialled. What is put into `outgoing` goes before everything else, as for the other end.
    pub(super) fn client(
        (secrets, kernel): (ExtractedSecrets, KernelConnection<ClientConnectionData>),
        outgoing: &mut VecDeque<Bytes>,
    ) -> Result<Self, Error> {
        let suite = kernel.negotiated_cipher_suite();
        Self::new(secrets, suite, Kernel::Client(Box::new(kernel)), outgoing)
    }

    /// The end that was dialled.
    pub(super) fn server(
        (secrets, kernel): (ExtractedSecrets, KernelConnection<ServerConnectionData>),
        outgoing: &mut VecDeque<Bytes>,
    ) -> Result<Self, Error> {
        let suite = kernel.negotiated_cipher_suite();
        Self::new(secrets, suite, Kernel::Server(Box::new(kernel)), outgoing)
    }

    fn new(
        secrets: ExtractedSecrets,
        suite: SupportedCipherSuite,
        kernel: Kernel,
        outgoing: &mut VecDeque<Bytes>,
    ) -> Result<Self, Error> {
        let SupportedCipherSuite::Tls13(suite) = suite else {
            return Err(Error::General("no cipher suite of TLS 1.3".into()));
        };
        let ExtractedSecrets { tx, rx } = secrets;
        let mut records = Self {
            kernel,
            suite,
            sealer: sealer(suite, tx.1)?,
            sent: tx.0,
            limit: suite.common.confidentiality_limit.saturating_sub(RESERVE),
            opener: opener(suite, rx.1)?,
            received: rx.0,
            message: Vec::new(),
            idle_messages: 0,
        };
        if records.sent > 0 {
            // Tickets, for example. A cipher takes the first number it sees for the first of all, so it must be.
            records.update_sent(outgoing)?;
        }
        Ok(records)
    }

    /// Makes records of bytes of the user, each a piece of its own.
    pub(super) fn seal(&mut self, plain: &[u8], into: &mut VecDeque<Bytes>) -> Result<(), Error> {
        for piece in plain.chunks(RECORD) {
            if self.sent >= self.limit {
                self.update_sent(into)?;
            }
            self.seal_one(ContentType::ApplicationData, piece, into)?;
        }
        Ok(())
    }

    /// Tells the peer that nothing follows.
    pub(super) fn seal_end(&mut self, into: &mut VecDeque<Bytes>) -> Result<(), Error> {
        let alert = [WARNING, AlertDescription::CloseNotify.into()];
        self.seal_one(ContentType::Alert, &alert, into)
    }

    /// Tells the peer what was wrong, unless it was the one to tell.
    pub(super) fn seal_error(&mut self, error: &Error, into: &mut VecDeque<Bytes>) {
        let description = match error {
            Error::AlertReceived(_) => return,
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            Error::InvalidMessage(_) => AlertDescription::DecodeError,
            Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => AlertDescription::UnexpectedMessage,
            _ => AlertDescription::InternalError,
        };
        // Where even that fails there is nothing to be told.
        let _ = self.seal_one(ContentType::Alert, &[FATAL, description.into()], into);
    }

    pub(crate) fn seal_one(&mut self, typ: ContentType, piece: &[u8], into: &mut VecDeque<Bytes>) -> Result<(), Error> {
        let plain = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(piece),
        };
        let record = self.sealer.encrypt(plain, self.sent)?;
        self.sent += 1;
        into.push_back(record.encode().into());
        Ok(())
    }

    /// Sends the rest under new keys.
    pub(crate) fn update_sent(&mut self, into: &mut VecDeque<Bytes>) -> Result<(), Error> {
        const NOT_REQUESTED: u8 = 0;
        self.seal_one(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, NOT_REQUESTED], into)?;
        let (sent, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret()?,
            Kernel::Server(kernel) => kernel.update_tx_secret()?,
        };
        self.sealer = sealer(self.suite, secrets)?;
        self.sent = sent;
        Ok(())
    }

    fn update_received(&mut self) -> Result<(), Error> {
        let (received, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_rx_secret()?,
            Kernel::Server(kernel) => kernel.update_rx_secret()?,
        };
        self.opener = opener(self.suite, secrets)?;
        self.received = received;
        Ok(())
    }

    /// Opens the record at the front of `incoming`, if it is complete. `replies` are for the peer.
    pub(super) fn open(
        &mut self,
        incoming: &mut BytesMut,
        replies: &mut VecDeque<Bytes>,
    ) -> Result<Option<Opened>, Error> {
        let Some(length) = record_length(incoming) else {
            return Ok(None);
        };
        // Handshakes are over, so every record is sealed, and looks like this.
        if incoming[0] != u8::from(ContentType::ApplicationData) {
            return Err(unexpected(ContentType::from(incoming[0])));
        }
        if incoming[1..3] != [3, 3] {
            return Err(InvalidMessage::UnknownProtocolVersion.into());
        }
        if length > RECORD + EXPANSION {
            return Err(Error::PeerSentOversizedRecord);
        }
        if incoming.len() < HEADER + length {
            return Ok(None);
        }
        let mut record = incoming.split_to(HEADER + length);
        record.advance(HEADER);
        let start = record.as_ptr() as usize;
        let sealed = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, &mut record);
        let plain = self.opener.decrypt(sealed, self.received)?;
        let (typ, begin, count) = (plain.typ, plain.payload.as_ptr() as usize, plain.payload.len());
        self.received += 1;
        record.advance(begin - start);
        record.truncate(count);
        if !self.message.is_empty() && typ != ContentType::Handshake {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        match typ {
            ContentType::ApplicationData if record.is_empty() => Ok(Some(Opened::Control)),
            ContentType::ApplicationData => {
                self.idle_messages = 0;
                Ok(Some(Opened::Data(record.freeze())))
            }
            ContentType::Alert => self.on_alert(&record).map(Some),
            ContentType::Handshake => self.on_messages(&record, replies).map(|()| Some(Opened::Control)),
            other => Err(unexpected(other)),
        }
    }

    fn on_alert(&mut self, alert: &[u8]) -> Result<Opened, Error> {
        let &[level, description] = alert else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Opened::End),
            AlertDescription::UserCanceled if level == WARNING => self.count().map(|()| Opened::Control),
            other => Err(Error::AlertReceived(other)),
        }
    }

    /// Messages of the handshake protocol, which may be split and joined in any way.
    fn on_messages(&mut self, part: &[u8], replies: &mut VecDeque<Bytes>) -> Result<(), Error> {
        if part.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.into());
        }
        self.message.extend_from_slice(part);
        while let &[kind, a, b, c, ..] = &self.message[..] {
            let end = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if end > MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some(body) = self.message.get(4..end) else { break };
            match (kind, body, &self.kernel) {
                (KEY_UPDATE, &[is_requested @ (0 | 1)], _) => {
                    if self.message.len() > end {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.update_received()?;
                    if is_requested == 1 {
                        self.update_sent(replies)?;
                    }
                }
                (KEY_UPDATE, ..) => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                (NEW_SESSION_TICKET, _, Kernel::Client(_)) => {}
                _ => return Err(unexpected(ContentType::Handshake)),
            }
            self.count()?;
            self.message.drain(..end);
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(())
    }

    /// One more message that is of no use to the user: without end they would only make work.
    fn count(&mut self) -> Result<(), Error> {
        self.idle_messages += 1;
        if self.idle_messages > IDLE_MESSAGES {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.into());
        }
        Ok(())
    }

    /// As if so many records had been sent.
    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }
}

/// Bytes of the first record, without its header; `None` if that has not come.
pub(super) fn record_length(incoming: &[u8]) -> Option<usize> {
    match *incoming {
        [_, _, _, high, low, ..] => Some(u16::from_be_bytes([high, low]).into()),
        _ => None,
    }
}

/// Whether no record is complete.
pub(super) fn is_partial(incoming: &[u8]) -> bool {
    record_length(incoming).is_none_or(|length| incoming.len() < HEADER + length)
}

fn unexpected(got: ContentType) -> Error {
    Error::InappropriateMessage {
        expect_types: [ContentType::ApplicationData].into(),
        got_type: got,
    }
}

fn sealer(suite: &Tls13CipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageEncrypter>, Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok(suite.aead_alg.encrypter(key, iv)),
        _ => Err(foreign_cipher()),
    }
}

fn opener(suite: &Tls13CipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageDecrypter>, Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok(suite.aead_alg.decrypter(key, iv)),
        _ => Err(foreign_cipher()),
    }
}

fn foreign_cipher() -> Error {
    Error::General("a cipher that is not known here".into())
}
