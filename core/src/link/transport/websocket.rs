//! Frames as WebSocket messages (`wire.md` §3.4, RFC 6455): the upgrade from HTTP, then one binary message each.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tungstenite::handshake::client::{Response, generate_key, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{HeaderName, HeaderValue, ORIGIN};
use tungstenite::http::{HeaderMap, StatusCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::{TransportError, Url, head_end};

/// Largest message, in one piece or many. Classic nodes have no limit; only a routing update of a node with thousands of
/// neighbours comes near this one.
pub const MAX_MESSAGE: usize = 256 << 10;

/// Room for a read: idle links hold no more.
const READ_ROOM: usize = 16 << 10;

/// What this program calls itself.
const USER_AGENT: &str = concat!("receptor/", env!("CARGO_PKG_VERSION"));

/// Headers of which the handshake itself takes care.
const RESERVED: [&str; 8] = [
    "host",
    "origin",
    "connection",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// The WebSocket layer of one connection.
pub(super) struct WebSocket(State);

enum State {
    /// The request was sent.
    Asking { accept_key: String, head: Vec<u8> },
    /// A request is awaited for this path.
    Answering { path: String, head: Vec<u8> },
    Open {
        context: alloc::boxed::Box<WebSocketContext>,
        incoming: BytesMut,
        has_ended: bool,
    },
    /// A handshake that failed.
    Failed,
}

/// What arrived in some bytes.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Perhaps frames, and it goes on.
    Goes,
    /// The peer has closed.
    Closed,
}

impl WebSocket {
    /// The end that dials; its request goes to `out`.
    pub(super) fn client(
        url: &Url,
        extra_header: Option<&(String, String)>,
        out: &mut BytesMut,
    ) -> Result<Self, TransportError> {
        let scheme = if url.is_secure() { "https" } else { "http" };
        let mut request = Request::new(());
        *request.uri_mut() = url.path().parse().map_err(|_| bad("the path of the URL"))?;
        let key = generate_key();
        let origin = alloc::format!("{scheme}://{}", url.authority());
        let headers = request.headers_mut();
        for (name, value) in [
            ("Host", url.authority()),
            ("User-Agent", USER_AGENT),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &key),
            ("Origin", &origin),
        ] {
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad(name))?);
        }
        if let Some((name, value)) = extra_header {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        let (request, _) = generate_request(request).map_err(websocket)?;
        out.extend_from_slice(&request);
        Ok(Self(State::Asking {
            accept_key: derive_accept_key(key.as_bytes()),
            head: Vec::new(),
        }))
    }

    /// The end that is dialled at `path`.
    pub(super) fn server(path: String) -> Self {
        Self(State::Answering { path, head: Vec::new() })
    }

    pub(super) const fn is_handshaking(&self) -> bool {
        matches!(self.0, State::Asking { .. } | State::Answering { .. })
    }

    /// Bytes of the peer; what they hold goes to `frames`, answers to `out`.
    pub(super) fn handle_bytes(
        &mut self,
        bytes: &[u8],
        frames: &mut impl Extend<BytesMut>,
        out: &mut BytesMut,
    ) -> Result<Outcome, TransportError> {
        match &mut self.0 {
            State::Failed => return Ok(Outcome::Closed),
            State::Open { incoming, .. } => incoming.extend_from_slice(bytes),
            State::Asking { head, accept_key } => {
                let Some(end) = head_end(head, bytes)? else {
                    return Ok(Outcome::Goes);
                };
                let verdict = check_response(&head[..end], accept_key);
                let tail = head.split_off(end);
                self.opened(verdict, Role::Client, &tail)?;
            }
            State::Answering { path, head } => {
                let Some(end) = head_end(head, bytes)? else {
                    return Ok(Outcome::Goes);
                };
                let verdict = answer(&head[..end], path, out);
                let tail = head.split_off(end);
                self.opened(verdict, Role::Server, &tail)?;
            }
        }
        self.read(frames, out)
    }

    fn opened(&mut self, verdict: Result<(), TransportError>, role: Role, tail: &[u8]) -> Result<(), TransportError> {
        if verdict.is_err() {
            self.0 = State::Failed;
            return verdict;
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_ROOM)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        self.0 = State::Open {
            context: WebSocketContext::new(role, Some(config)).into(),
            incoming: BytesMut::from(tail),
            has_ended: false,
        };
        Ok(())
    }

    fn read(&mut self, frames: &mut impl Extend<BytesMut>, out: &mut BytesMut) -> Result<Outcome, TransportError> {
        let State::Open {
            context,
            incoming,
            has_ended,
        } = &mut self.0
        else {
            return Ok(Outcome::Goes);
        };
        let mut queue = Queue { incoming, out };
        let frame = |payload: Bytes| {
            // No message of ours is empty, and one from elsewhere means nothing.
            (!payload.is_empty()).then(|| {
                payload
                    .try_into_mut()
                    .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
            })
        };
        loop {
            match context.read(&mut queue) {
                Ok(Message::Binary(payload)) => frames.extend(frame(payload)),
                Ok(Message::Text(text)) => frames.extend(frame(text.into())),
                Ok(Message::Close(_)) => *has_ended = true,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    *has_ended = true;
                    break;
                }
                Err(error) => return Err(websocket(error)),
            }
        }
        // Whatever it answered of itself.
        match context.flush(&mut queue) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
            Err(error) => return Err(websocket(error)),
        }
        Ok(if *has_ended { Outcome::Closed } else { Outcome::Goes })
    }

    /// Puts a frame into a message. Not before the handshake is done, and not after [`finish`](Self::finish).
    pub(super) fn write(&mut self, frame: BytesMut, out: &mut BytesMut) -> Result<(), TransportError> {
        let State::Open { context, incoming, .. } = &mut self.0 else {
            return Ok(());
        };
        match context.write(&mut Queue { incoming, out }, Message::Binary(frame.freeze())) {
            // Nothing is lost that the peer would still read.
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => Ok(()),
            Err(error) => Err(websocket(error)),
        }
    }

    /// Says that no more will come.
    pub(super) fn finish(&mut self, out: &mut BytesMut) {
        if let State::Open { context, incoming, .. } = &mut self.0 {
            // It may be closed already: then there is nothing to say.
            let _ = context.close(&mut Queue { incoming, out }, None);
        }
    }
}

/// Tests a header that a user wants to have sent with the request.
///
/// # Errors
/// It is no header, or one of the handshake's own.
pub fn check_header(name: &str, value: &str) -> Result<(), TransportError> {
    header(name, value).map(drop)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), TransportError> {
    let failed = || TransportError::Header(name.into());
    let key = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| failed())?;
    if RESERVED.contains(&key.as_str()) {
        return Err(failed());
    }
    Ok((key, HeaderValue::from_str(value.trim()).map_err(|_| failed())?))
}

fn check_response(head: &[u8], accept_key: &str) -> Result<(), TransportError> {
    let response = match Response::try_parse(head) {
        Ok(Some((_, response))) => response,
        Ok(None) => return Err(bad("no whole answer")),
        Err(error) => return Err(websocket(error)),
    };
    let headers = response.headers();
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(bad(&response.status().to_string()));
    }
    if !has_token(headers, "upgrade", "websocket") || !has_token(headers, "connection", "upgrade") {
        return Err(bad("no upgrade to websocket"));
    }
    if headers
        .get("sec-websocket-accept")
        .is_none_or(|value| value != accept_key)
    {
        return Err(bad("wrong Sec-WebSocket-Accept"));
    }
    // Neither is offered, so neither may be chosen.
    for name in ["sec-websocket-protocol", "sec-websocket-extensions"] {
        if headers.contains_key(name) {
            return Err(bad(name));
        }
    }
    Ok(())
}

/// Whether one of the values of a header, between commas, is `token`.
fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Answers a request, with the upgrade or with an error.
fn answer(head: &[u8], path: &str, out: &mut BytesMut) -> Result<(), TransportError> {
    let (status, why) = match Request::try_parse(head) {
        Ok(Some((_, request))) => match refusal(&request, path) {
            Some(refusal) => refusal,
            None => match create_response(&request) {
                Ok(response) => {
                    let mut text = Vec::new();
                    write_response(&mut text, &response).map_err(websocket)?;
                    out.extend_from_slice(&text);
                    return Ok(());
                }
                Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
            },
        },
        Ok(None) => (StatusCode::BAD_REQUEST, "no whole request".to_string()),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    };
    let text = alloc::format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    out.extend_from_slice(text.as_bytes());
    Err(bad(&alloc::format!("refused with {}, {why}", status.as_u16())))
}

/// Why a request that may be right otherwise has no answer here.
fn refusal(request: &Request, path: &str) -> Option<(StatusCode, String)> {
    let asked = request.uri().path();
    let is_served = if path.ends_with('/') {
        asked.starts_with(path)
    } else {
        asked == path
    };
    if !is_served {
        return Some((StatusCode::NOT_FOUND, alloc::format!("path {asked:?}")));
    }
    let headers = request.headers();
    let origin = headers.get(ORIGIN)?;
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    let is_own = origin.to_str().is_ok_and(|origin| {
        // As in a URL: what stands between `//` and the path.
        let authority = origin.split_once("//").map_or("", |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
    });
    (!is_own).then(|| {
        (
            StatusCode::FORBIDDEN,
            alloc::format!("origin {origin:?} is not the host asked for"),
        )
    })
}

fn bad(what: &str) -> TransportError {
    TransportError::Upgrade(what.into())
}

fn websocket(error: Error) -> TransportError {
    TransportError::WebSocket(error.to_string())
}

/// The connection as `tungstenite` sees it: never blocks, never ends.
struct Queue<'a> {
    incoming: &'a mut BytesMut,
    out: &'a mut BytesMut,
}

impl Read for Queue<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            // An idle link holds no second buffer.
            *self.incoming = BytesMut::new();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(self.incoming.len());
        self.incoming.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

impl Write for Queue<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
