//! TLS of a local socket: a connection of a control service's TCP socket, or of a proxy.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use receptor_core::tls::Records;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::{LocalSocket, Progress};
use crate::error_text::os_text;
use crate::local_socket;

/// An accepted connection whose handshake takes longer is closed (`control.md` §1).
pub const LOCAL_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Handshakes of one listener under way; one more ends the oldest of them.
pub const LOCAL_HANDSHAKES: usize = 256;

/// Bytes read at one time.
const READ_SIZE: usize = 64 << 10;

/// Plain bytes made into records at one time.
const WRITE_MOST: usize = 64 << 10;

/// Pieces from this size on are encrypted where they are, smaller ones are put together first.
const WHOLE_LEAST: usize = 16 << 10;

/// A local socket, whose bytes may be records of TLS.
#[derive(Debug)]
pub struct LocalConnection<S> {
    pub(super) socket: S,
    pub(super) tls: Option<Box<LocalTls>>,
}

impl<S: LocalSocket> LocalConnection<S> {
    /// One whose bytes are what they are.
    pub const fn plain(socket: S) -> Self {
        Self { socket, tls: None }
    }

    /// One that was accepted; its handshake comes first.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn server(socket: S, config: Arc<ServerConfig>) -> Result<Self, String> {
        let records = Records::server(config).map_err(|error| error.to_string())?;
        Ok(Self::with(socket, records))
    }

    /// One that was connected to a server of this name; its handshake comes first.
    ///
    /// # Errors
    /// A config that allows no connection.
    pub fn client(socket: S, config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, String> {
        let records = Records::client(config, name).map_err(|error| error.to_string())?;
        Ok(Self::with(socket, records))
    }

    fn with(socket: S, records: Records) -> Self {
        let tls = LocalTls {
            records,
            unsent: Bytes::new(),
            buffer: Vec::new(),
        };
        Self {
            socket,
            tls: Some(Box::new(tls)),
        }
    }

    /// Goes on with the handshake, if there is any to do.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        match &mut self.tls {
            Some(tls) => tls.poll_handshake(cx, &self.socket),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Nobody wants it any more.
    pub fn break_off(&self) {
        local_socket::break_off(self.socket.as_fd());
    }
}

/// The records of one connection.
pub(super) struct LocalTls {
    records: Records,
    /// Records that the socket did not take.
    unsent: Bytes,
    /// Scratch, empty between calls that wait.
    buffer: Vec<u8>,
}

impl LocalTls {
    fn poll_handshake<S: LocalSocket>(&mut self, cx: &mut Context<'_>, socket: &S) -> Poll<Result<(), String>> {
        loop {
            let flushed = self.poll_flush(cx, socket);
            if let Some(error) = self.records.error() {
                // The alert was sent as far as the socket took it.
                return Poll::Ready(Err(error.to_string()));
            }
            ready!(flushed).map_err(|error| os_text(&error))?;
            if !self.records.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx, socket)).map_err(|error| os_text(&error))? == 0 {
                return Poll::Ready(Err("connection was closed".to_owned()));
            }
        }
    }

    /// Plain bytes; `None` at their end. An end of the connection between two records is one like any other: clients end their
    /// half below TLS (`control.md` §1).
    pub(super) fn poll_read<S: LocalSocket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if let Some(plain) = self.records.read() {
                return Poll::Ready(Ok(Some(plain)));
            }
            if self.records.is_finished() {
                return Poll::Ready(Ok(None));
            }
            if let Some(error) = self.records.error() {
                return Poll::Ready(Err(io::Error::other(error.to_string())));
            }
            if ready!(self.poll_receive(cx, socket))? == 0 {
                return Poll::Ready(if self.records.is_between_records() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
            // An alert, or the answer to a change of keys; who writes next sends what is left.
            let _ = self.poll_flush(cx, socket)?;
        }
    }

    /// Makes records of the first of `pieces`, once the socket has taken the earlier ones; says how many bytes it was.
    pub(super) fn poll_write<S: LocalSocket>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &S,
        pieces: &VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx, socket))?;
        let written = match pieces.front() {
            Some(whole) if whole.len() >= WHOLE_LEAST => self.records.write(&whole[..whole.len().min(WRITE_MOST)]),
            _ => {
                self.buffer.clear();
                for piece in pieces {
                    let room = WRITE_MOST - self.buffer.len();
                    self.buffer.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                let written = self.records.write(&self.buffer);
                self.buffer = Vec::new();
                written
            }
        };
        if written == 0 && !pieces.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let _ = self.poll_flush(cx, socket)?;
        Poll::Ready(Ok(written))
    }

    /// Tells the other end that no more will be written.
    pub(super) fn poll_finish<S: LocalSocket>(&mut self, cx: &mut Context<'_>, socket: &S) -> Poll<io::Result<()>> {
        self.records.finish();
        self.poll_flush(cx, socket)
    }

    /// Writes all records that wait.
    pub(super) fn poll_flush<S: LocalSocket>(&mut self, cx: &mut Context<'_>, socket: &S) -> Poll<io::Result<()>> {
        loop {
            if self.unsent.is_empty() {
                match self.records.poll_transmit() {
                    Some(records) => self.unsent = records,
                    None => return Poll::Ready(Ok(())),
                }
            }
            let unsent = &self.unsent;
            let sent = ready!(socket.poll_write(cx, &mut |socket| {
                let count = local_socket::write(socket, &[IoSlice::new(unsent)])?;
                let exhausted = count < unsent.len();
                Ok(Progress { count, exhausted })
            }));
            self.unsent.advance(sent?);
        }
    }

    fn poll_receive<S: LocalSocket>(&mut self, cx: &mut Context<'_>, socket: &S) -> Poll<io::Result<usize>> {
        let buffer = &mut self.buffer;
        buffer.clear();
        let received = socket.poll_read(cx, &mut |socket| {
            // Only now, so that idle connections hold no memory.
            buffer.reserve_exact(READ_SIZE);
            let count = local_socket::read(socket, buffer)?;
            Ok(Progress {
                count,
                exhausted: 0 < count && count < buffer.capacity(),
            })
        });
        match received {
            Poll::Ready(Ok(count)) => {
                self.records.handle_bytes(&self.buffer);
                Poll::Ready(Ok(count))
            }
            other => {
                self.buffer = Vec::new();
                other
            }
        }
    }
}

impl fmt::Debug for LocalTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalTls").field(&self.records).finish()
    }
}

#[cfg(test)]
mod tests;
