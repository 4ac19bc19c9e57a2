//! From the bytes of a connection to frames and back, through layers.
//!
//! ```text
//!  connection ── handle_bytes ─► proxy ─► TLS ─► WebSocket or lengths ── poll_frame ──► node
//!  connection ◄─ poll_transmit ── proxy ◄─ TLS ◄─ WebSocket or lengths ◄─ push_frame ─── node
//! ```
//!
//! A [`Transport`] is a machine like the others, but runs beside the node, since its work takes time. Plain TCP needs none:
//! there [`super::framing`] is all. [`datagram`] is what UDP needs.

#[cfg(feature = "websocket")]
mod connect;
pub mod datagram;
mod proxy;
mod url;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(all(test, feature = "tls", feature = "websocket"))]
mod tests;

#[cfg(any(feature = "tls", feature = "websocket"))]
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
#[cfg(feature = "websocket")]
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

#[cfg(feature = "websocket")]
use self::connect::Connect;
pub use self::proxy::proxy_for;
pub use self::url::{Url, UrlError};
#[cfg(feature = "websocket")]
pub use self::websocket::{MAX_MESSAGE, check_header};
use super::framing;
#[cfg(feature = "websocket")]
use crate::config::HttpProxy;
#[cfg(feature = "tls")]
use crate::tls::Records;

/// A dial has failed if connecting and all handshakes have taken longer (`wire.md` §3.2).
pub const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// A listener gives up a TLS handshake that has taken longer.
pub const TLS_LIMIT: Duration = Duration::from_secs(15);

/// A listener gives up a WebSocket connection whose request has not come as a whole by then, TLS included (`wire.md` §3.4).
pub const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Most bytes of the head of an HTTP request or answer.
pub const HEAD_MAX: usize = 32 << 10;

/// Why a connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TransportError {
    /// The peer sent more than so many bytes and is not through with the handshake.
    HandshakeTooLong(usize),
    /// What the peer sent is no TLS, or is refused.
    Tls(String),
    /// The proxy does not connect; what it says.
    Proxy(String),
    /// A header of this name cannot be sent.
    Header(String),
    /// The upgrade to WebSocket has failed.
    Upgrade(String),
    /// What the peer sent is no WebSocket, or is too large.
    WebSocket(String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeTooLong(limit) => write!(f, "handshake longer than {limit} bytes"),
            // What the peer's alert says begins so by itself.
            Self::Tls(why) => write!(f, "tls: {}", why.strip_prefix("tls: ").unwrap_or(why)),
            Self::Proxy(why) => write!(f, "proxy does not connect: {why}"),
            Self::Header(name) => write!(f, "header {name:?} cannot be sent"),
            Self::Upgrade(why) => write!(f, "websocket: bad handshake: {why}"),
            Self::WebSocket(why) => write!(f, "websocket: {why}"),
        }
    }
}

impl core::error::Error for TransportError {}

/// How a connection has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer will send no more.
    Closed,
    /// It is broken.
    Failed(TransportError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed by peer"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

enum Framing {
    /// A length before each frame.
    Lengths(BytesMut),
    #[cfg(feature = "websocket")]
    WebSocket(Box<websocket::WebSocket>),
}

/// The layers of one connection.
///
/// After any call: [`poll_frame`](Self::poll_frame) and [`poll_transmit`](Self::poll_transmit) until they give nothing. Once
/// there is an [`end`](Self::end), what is still to be sent is the last word to the peer.
pub struct Transport {
    #[cfg(feature = "websocket")]
    proxy: Option<Connect>,
    #[cfg(feature = "tls")]
    tls: Option<Box<Records>>,
    framing: Framing,
    /// For the layer below the framing.
    plain: BytesMut,
    frames: VecDeque<BytesMut>,
    has_finished: bool,
    end: Option<End>,
}

impl Transport {
    /// Frames with lengths before them, as over plain TCP.
    pub fn lengths() -> Self {
        Self::new(Framing::Lengths(BytesMut::new()), BytesMut::new())
    }

    /// The end of a WebSocket that dials, with a header more if there is one to send.
    ///
    /// # Errors
    /// The header cannot be sent.
    #[cfg(feature = "websocket")]
    pub fn web_socket_client(url: &Url, extra_header: Option<&(String, String)>) -> Result<Self, TransportError> {
        let mut request = BytesMut::new();
        let layer = websocket::WebSocket::client(url, extra_header, &mut request)?;
        Ok(Self::new(Framing::WebSocket(layer.into()), request))
    }

    /// The end of a WebSocket that is dialled at `path`: at that one only, or at what is below it if it ends with `/`.
    #[cfg(feature = "websocket")]
    pub fn web_socket_server(path: &str) -> Self {
        let layer = websocket::WebSocket::server(path.into());
        Self::new(Framing::WebSocket(layer.into()), BytesMut::new())
    }

    fn new(framing: Framing, plain: BytesMut) -> Self {
        Self {
            #[cfg(feature = "websocket")]
            proxy: None,
            #[cfg(feature = "tls")]
            tls: None,
            framing,
            plain,
            frames: VecDeque::new(),
            has_finished: false,
            end: None,
        }
    }

    /// The same within TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn over_tls(mut self, records: Records) -> Self {
        self.tls = Some(records.into());
        self
    }

    /// The same through a proxy that is to connect to `target`, `HOST:PORT`.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn through_proxy(mut self, target: &str, proxy: &HttpProxy) -> Self {
        self.proxy = Some(Connect::new(target, proxy));
        self
    }

    /// Whether frames can neither come nor go yet.
    pub fn is_handshaking(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            return true;
        }
        #[cfg(feature = "websocket")]
        if self.proxy.is_some() {
            return true;
        }
        match &self.framing {
            Framing::Lengths(_) => false,
            #[cfg(feature = "websocket")]
            Framing::WebSocket(layer) => layer.is_handshaking(),
        }
    }

    /// How it has ended, if it has. Frames that came before may still wait.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The peer's certificate in DER, if there is TLS and it has shown one.
    #[cfg(feature = "tls")]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificate().map(AsRef::as_ref)
    }

    /// Bytes of the connection, in any slicing. What they hold is no more than a few times as large as they.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.end.is_some() {
            return;
        }
        #[cfg(feature = "websocket")]
        if let Some(proxy) = &mut self.proxy {
            match proxy.handle_bytes(bytes) {
                Ok(None) => {}
                Ok(Some(rest)) => {
                    self.proxy = None;
                    if !rest.is_empty() {
                        self.handle_inner(&rest);
                    }
                }
                Err(error) => self.fail(error),
            }
            return;
        }
        self.handle_inner(bytes);
    }

    #[cfg(not(feature = "tls"))]
    fn handle_inner(&mut self, bytes: &[u8]) {
        self.handle_plain(bytes);
    }

    #[cfg(feature = "tls")]
    fn handle_inner(&mut self, bytes: &[u8]) {
        let Some(mut tls) = self.tls.take() else {
            return self.handle_plain(bytes);
        };
        tls.handle_bytes(bytes);
        while let Some(plain) = tls.read() {
            if self.end.is_none() {
                self.handle_plain(&plain);
            }
        }
        if let Some(error) = tls.error() {
            let error = TransportError::Tls(alloc::format!("{error}"));
            self.fail(error);
        } else if tls.has_peer_finished() {
            self.end.get_or_insert(End::Closed);
        }
        self.tls = Some(tls);
    }

    fn handle_plain(&mut self, bytes: &[u8]) {
        match &mut self.framing {
            Framing::Lengths(incoming) => {
                incoming.extend_from_slice(bytes);
                self.frames
                    .extend(core::iter::from_fn(|| framing::next_frame(incoming)));
                if incoming.is_empty() {
                    // An idle link holds no buffer.
                    *incoming = BytesMut::new();
                }
            }
            #[cfg(feature = "websocket")]
            Framing::WebSocket(layer) => match layer.handle_bytes(bytes, &mut self.frames, &mut self.plain) {
                Ok(websocket::Outcome::Goes) => {}
                Ok(websocket::Outcome::Closed) => self.end = Some(End::Closed),
                Err(error) => self.fail(error),
            },
        }
    }

    /// The connection has ended, which peers do without a word.
    pub fn handle_eof(&mut self) {
        self.end.get_or_insert(End::Closed);
    }

    /// The next whole frame, never empty.
    pub fn poll_frame(&mut self) -> Option<BytesMut> {
        self.frames.pop_front()
    }

    /// A frame for the peer, not before the handshake is done. One that cannot be sent is left out: the node sends none.
    pub fn push_frame(&mut self, frame: BytesMut) {
        let prefix = framing::prefix(frame.len());
        debug_assert!(prefix.is_some(), "unsendable frame of {} bytes", frame.len());
        debug_assert!(!self.is_handshaking(), "frame during the handshake");
        let Some(prefix) = prefix else { return };
        if self.end.is_some() || self.has_finished {
            return;
        }
        match &mut self.framing {
            Framing::Lengths(_) => {
                self.plain.extend_from_slice(&prefix);
                self.plain.extend_from_slice(&frame);
            }
            #[cfg(feature = "websocket")]
            Framing::WebSocket(layer) => {
                if let Err(error) = layer.write(frame, &mut self.plain) {
                    self.fail(error);
                }
            }
        }
    }

    /// No more frames will be pushed: tells the peer so, behind what was pushed.
    pub fn finish(&mut self) {
        if self.has_finished {
            return;
        }
        self.has_finished = true;
        match &mut self.framing {
            Framing::Lengths(_) => {}
            #[cfg(feature = "websocket")]
            Framing::WebSocket(layer) => layer.finish(&mut self.plain),
        }
    }

    /// The next bytes for the connection.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        #[cfg(feature = "websocket")]
        if let Some(proxy) = &mut self.proxy {
            return proxy.poll_transmit();
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return transmit_records(tls, &mut self.plain, self.has_finished || self.end.is_some());
        }
        (!self.plain.is_empty()).then(|| self.plain.split().freeze())
    }

    #[cfg(any(feature = "tls", feature = "websocket"))]
    fn fail(&mut self, error: TransportError) {
        self.end.get_or_insert(End::Failed(error));
    }
}

#[cfg(feature = "tls")]
fn transmit_records(tls: &mut Records, plain: &mut BytesMut, is_last: bool) -> Option<Bytes> {
    if let Some(records) = tls.poll_transmit() {
        return Some(records);
    }
    if !plain.is_empty() {
        let count = tls.write(plain);
        bytes::Buf::advance(plain, count);
        if plain.is_empty() {
            // An idle link holds no buffer.
            *plain = BytesMut::new();
        }
    }
    if plain.is_empty() && is_last {
        tls.finish();
    }
    tls.poll_transmit()
}

#[cfg(feature = "websocket")]
/// Appends bytes to the head of an HTTP message; tells where it ends, once it does.
fn head_end(head: &mut Vec<u8>, bytes: &[u8]) -> Result<Option<usize>, TransportError> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let before = head.len().saturating_sub(BLANK.len() - 1);
    head.extend_from_slice(bytes);
    let end = head[before..]
        .windows(BLANK.len())
        .position(|window| window == BLANK)
        .map(|at| before + at + BLANK.len());
    if end.unwrap_or(head.len()) > HEAD_MAX {
        return Err(TransportError::HandshakeTooLong(HEAD_MAX));
    }
    Ok(end)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("is_handshaking", &self.is_handshaking())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
