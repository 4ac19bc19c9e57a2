//! A link through layers: the machine of its layers between its connection and its pipe of frames, in a task of its own.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use receptor_core::id::NodeId;
use receptor_core::link::transport::Transport;
use receptor_core::tls::node_ids;

use super::{FrameTask, Outgoing};
use crate::error_text::os_text;

/// Bytes read at one time.
const READ: usize = 32 << 10;

/// Reads and writes in one go; then other tasks get their turn.
const TURNS: usize = 16;

/// A connection as its runtime knows it.
pub trait Stream {
    /// Reads some bytes; none at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of the bytes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Closes the sending half.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Why a link does not go on.
#[derive(PartialEq, Eq, Debug)]
pub enum Over {
    /// The connection is gone, or what came over it was wrong; the reason.
    Gone(String),
    /// The driver has closed it, and everything is in the layers: send it with [`Layered::poll_close`].
    Closing,
}

/// One connection and its layers.
pub struct Layered<S> {
    stream: S,
    transport: Transport,
    /// The other end's certificate was verified.
    is_verified: bool,
    unsent: Bytes,
    frames: VecDeque<BytesMut>,
    has_written: bool,
}

impl<S: Stream> Layered<S> {
    /// A connection whose handshakes are to come. `is_verified`: what they let through is who it says it is.
    pub fn new(stream: S, transport: Transport, is_verified: bool) -> Self {
        Self {
            stream,
            transport,
            is_verified,
            unsent: Bytes::new(),
            frames: VecDeque::new(),
            has_written: false,
        }
    }

    /// Goes on with the handshakes.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(os_text(&error)));
            }
            if let Some(end) = self.transport.end() {
                // What is left to say is said behind the error, as far as the connection takes it at once.
                return Poll::Ready(Err(end.to_string()));
            }
            if !self.transport.is_handshaking() && self.unsent.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !self.transport.is_handshaking() {
                // Only our last words are missing.
                ready!(self.poll_flush(cx)).map_err(|error| os_text(&error))?;
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_read(cx)).map_err(|error| os_text(&error))? == 0 {
                return Poll::Ready(Err("connection closed by peer during the handshake".to_owned()));
            }
        }
    }

    /// The node IDs of the other end's certificate, if it has shown one that was verified.
    pub fn certified(&self) -> Option<Vec<NodeId>> {
        let certificate = self.transport.peer_certificate().filter(|_| self.is_verified)?;
        // What cannot be read names nobody.
        let names = node_ids(certificate).unwrap_or_default();
        Some(names.iter().map(|name| NodeId::new(name)).collect())
    }

    /// Carries frames both ways until the link is over.
    pub fn poll_carry(&mut self, cx: &mut Context<'_>, pipe: &FrameTask) -> Poll<Over> {
        for _ in 0..TURNS {
            self.deliver(pipe);
            if let Some(end) = self.transport.end() {
                return Poll::Ready(Over::Gone(end.to_string()));
            }
            let outbound = match self.poll_outbound(cx, pipe) {
                Poll::Ready(Err(over)) => return Poll::Ready(over),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            let inbound = pipe.poll_room(cx).is_ready() && {
                match self.poll_read(cx) {
                    Poll::Ready(Ok(0)) => {
                        self.transport.handle_eof();
                        true
                    }
                    Poll::Ready(Ok(_)) => true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Over::Gone(os_text(&error))),
                    Poll::Pending => false,
                }
            };
            if !outbound && !inbound {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn deliver(&mut self, pipe: &FrameTask) {
        let Some(first) = self.transport.poll_frame() else {
            return;
        };
        let rest = std::iter::from_fn(|| self.transport.poll_frame());
        pipe.deliver(std::iter::once(first).chain(rest));
    }

    /// Writes what is there, and gets more.
    fn poll_outbound(&mut self, cx: &mut Context<'_>, pipe: &FrameTask) -> Poll<Result<(), Over>> {
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Over::Gone(os_text(&error)))),
            Poll::Pending => {
                if std::mem::take(&mut self.has_written) {
                    pipe.blocked();
                }
                return Poll::Pending;
            }
        }
        if std::mem::take(&mut self.has_written) {
            pipe.flowing();
        }
        match ready!(pipe.poll_outgoing(cx, &mut self.frames)) {
            Outgoing::Close => Poll::Ready(Err(Over::Closing)),
            Outgoing::Frames => {
                self.has_written = true;
                for frame in self.frames.drain(..) {
                    self.transport.push_frame(frame);
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes everything the layers have.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.unsent.is_empty() {
                let count = ready!(self.stream.poll_write(cx, &self.unsent))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.unsent.advance(count);
            }
            match self.transport.poll_transmit() {
                Some(bytes) => self.unsent = bytes,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // On the stack, so that idle links hold no memory.
        let mut buffer = [0; READ];
        loop {
            match ready!(self.stream.poll_read(cx, &mut buffer)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.transport.handle_bytes(&buffer[..count]);
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Says the last words of all layers and closes the sending half.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.finish();
        ready!(self.poll_flush(cx))?;
        self.stream.poll_shutdown(cx)
    }

    /// Waits for the peer's end. Closing a socket with unread input resets the connection, and the peer might lose our last
    /// words.
    pub fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sink = [0; 4096];
        loop {
            match ready!(self.stream.poll_read(cx, &mut sink)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S> fmt::Debug for Layered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
