//! The bytes of a service's connection: between a socket and the local end of its stream, each half closing on its own.
//!
//! [`Proxy`] is polled by one task of the adapter, and does what protects the stream in it. Bytes are read in large pieces
//! and written gathered. It holds at most one piece per direction beside what the pipe's windows hold.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use super::local_tls::{LocalConnection, LocalTls};
use super::{Incoming, SecureEnd};
use crate::{local_socket, socket_file};

/// Least and most bytes read at one time.
const READ_LEAST: usize = 16 << 10;
const READ_MOST: usize = 128 << 10;

/// Pieces up to this size are copied together instead of being passed on one by one.
const COPY_MOST: usize = 4 << 10;

/// Bytes that are written at one time, and pieces.
const WRITE_MOST: usize = 128 << 10;
const WRITE_PIECES: usize = 64;

/// Pieces carried in one go; then other tasks get their turn.
const TURNS: usize = 16;

/// How often [`Proxy::tick`] wants to be called while [`Proxy::wants_tick`].
pub const TICK: Duration = Duration::from_secs(1);

/// After the node has closed the pipe, a socket that takes nothing is given up at this tick.
const LAST_TICKS: u32 = 10;

/// What one system call did.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes read or written.
    pub count: usize,
    /// The kernel has no more of them, or no more room: wait before the next call.
    pub exhausted: bool,
}

/// A non-blocking socket, and how its runtime waits for it.
pub trait LocalSocket {
    /// Calls `read` when the socket may be readable, until it does not fail with [`io::ErrorKind::WouldBlock`].
    fn poll_read(
        &self,
        cx: &mut Context<'_>,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>>;

    /// The same for writing.
    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>>;

    /// The socket itself.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// One connection of a service.
///
/// Dropping it without having seen the end of the socket's bytes tells the node that the socket broke.
#[derive(Debug)]
pub struct Proxy<S> {
    socket: S,
    /// What makes and reads the records of the socket, if it has TLS.
    tls: Option<Box<LocalTls>>,
    end: SecureEnd,
    /// The handshake is done.
    is_secured: bool,
    /// Where the next read goes to, and its size.
    buffer: Vec<u8>,
    read_size: usize,
    /// What was read and not yet taken by the pipe.
    outbound: Bytes,
    /// The socket sends no more.
    is_outbound_ended: bool,
    /// And the pipe knows; or the pipe takes no more.
    is_outbound_done: bool,
    /// What the mesh sent and the socket has not taken.
    inbound: VecDeque<Bytes>,
    inbound_bytes: usize,
    /// The mesh sends no more.
    is_inbound_ended: bool,
    /// And the socket knows.
    is_inbound_done: bool,
    /// Ticks since the node has closed the pipe without anything written.
    idle_ticks: u32,
    is_closed: bool,
}

/// The connection is over.
struct Over;

impl<S: LocalSocket> Proxy<S> {
    /// A connection whose bytes go through `end`, after its handshake.
    pub fn new(connection: LocalConnection<S>, end: SecureEnd) -> Self {
        let LocalConnection { socket, tls } = connection;
        Self {
            socket,
            tls,
            end,
            is_secured: false,
            buffer: Vec::new(),
            read_size: READ_LEAST,
            outbound: Bytes::new(),
            is_outbound_ended: false,
            is_outbound_done: false,
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            is_inbound_ended: false,
            is_inbound_done: false,
            idle_ticks: 0,
            is_closed: false,
        }
    }

    /// Carries what can be carried; ready when both directions have ended, or one side broke.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_secured && ready!(self.poll_handshake(cx)).is_err() {
            return Poll::Ready(());
        }
        for _ in 0..TURNS {
            let inbound = self.poll_inbound(cx);
            let outbound = self.poll_outbound(cx);
            if self.is_inbound_done && self.is_outbound_done {
                return Poll::Ready(());
            }
            match (inbound, outbound) {
                (Poll::Ready(Err(Over)), _) | (_, Poll::Ready(Err(Over))) => return Poll::Ready(()),
                (Poll::Pending, Poll::Pending) => {
                    self.is_closed = self.end.poll_closed(cx).is_ready();
                    return Poll::Pending;
                }
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether something has to be looked at that wakes nobody.
    pub fn wants_tick(&self) -> bool {
        !self.is_secured || self.is_outbound_done || self.is_closed
    }

    /// Looks at it; ready when the connection is over.
    pub fn tick(&mut self) -> Poll<()> {
        if !self.is_secured {
            // Who has gone in peace is still to be heard, who broke off is not.
            return if socket_file::is_broken(&self.socket.as_fd()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            };
        }
        if self.is_closed {
            self.idle_ticks += 1;
        }
        // Who has half-closed may have gone altogether, which no read tells.
        if self.idle_ticks >= LAST_TICKS || socket_file::is_hung_up(&self.socket.as_fd()) {
            local_socket::break_off(self.socket.as_fd());
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Opens the stream, and looks whether anybody still wants it.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        match self.end.poll_handshake(cx) {
            Poll::Ready(true) => {
                self.is_secured = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(false) => {
                local_socket::break_off(self.socket.as_fd());
                Poll::Ready(Err(Over))
            }
            Poll::Pending => {
                if self.outbound.is_empty() && !self.is_outbound_ended {
                    ready!(self.poll_receive(cx)).map_err(|_| Over)?;
                }
                Poll::Pending
            }
        }
    }

    /// One write from the mesh to the socket.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        if self.is_inbound_done {
            return Poll::Pending;
        }
        while !self.is_inbound_ended && self.inbound_bytes < WRITE_MOST && self.inbound.len() < WRITE_PIECES {
            match self.end.poll_read(cx, usize::MAX) {
                Poll::Pending => break,
                Poll::Ready(Incoming::Data(data)) => {
                    self.inbound_bytes += data.len();
                    self.inbound.push_back(data);
                }
                Poll::Ready(Incoming::Eof) => self.is_inbound_ended = true,
                Poll::Ready(Incoming::Closed) if self.inbound.is_empty() => {
                    local_socket::break_off(self.socket.as_fd());
                    return Poll::Ready(Err(Over));
                }
                Poll::Ready(Incoming::Closed) => break,
            }
        }
        if !self.inbound.is_empty() {
            return self.poll_send(cx).map_err(|_| Over);
        }
        if !self.is_inbound_ended {
            if let Some(tls) = &mut self.tls
                && let Poll::Ready(Err(_)) = tls.poll_flush(cx, &self.socket)
            {
                return Poll::Ready(Err(Over));
            }
            return Poll::Pending;
        }
        if let Some(tls) = &mut self.tls {
            ready!(tls.poll_finish(cx, &self.socket)).map_err(|_| Over)?;
        }
        self.is_inbound_done = true;
        Poll::Ready(local_socket::shut_down(self.socket.as_fd()).map_err(|_| Over))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = match &mut self.tls {
            Some(tls) => tls.poll_write(cx, &self.socket, &self.inbound),
            None => self.poll_send_plain(cx),
        };
        let mut count = ready!(sent)?;
        self.idle_ticks = 0;
        self.inbound_bytes -= count;
        while let Some(front) = self.inbound.front_mut()
            && count > 0
        {
            let taken = count.min(front.len());
            front.advance(taken);
            count -= taken;
            if front.is_empty() {
                self.inbound.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send_plain(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut parts: [IoSlice<'_>; WRITE_PIECES] = std::array::from_fn(|_| IoSlice::new(&[]));
        for (part, piece) in parts.iter_mut().zip(&self.inbound) {
            *part = IoSlice::new(piece);
        }
        let (parts, total) = (&parts[..self.inbound.len()], self.inbound_bytes);
        self.socket.poll_write(cx, &mut |socket| {
            let count = local_socket::write(socket, parts)?;
            let exhausted = count < total;
            Ok(Progress { count, exhausted })
        })
    }

    /// One read from the socket to the mesh.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        if self.is_outbound_done {
            return Poll::Pending;
        }
        if self.outbound.is_empty() && !self.is_outbound_ended {
            ready!(self.poll_receive(cx)).map_err(|_| Over)?;
        }
        let is_open = if self.is_outbound_ended && self.outbound.is_empty() {
            self.is_outbound_done = ready!(self.end.poll_shut_down(cx)).is_some();
            self.is_outbound_done
        } else {
            ready!(self.poll_pass_on(cx)).is_some()
        };
        if !is_open {
            // The node has closed; its last words go on without us.
            self.is_outbound_done = true;
            self.outbound = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Passes on what was read. `None` if the stream takes no more.
    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        while !self.outbound.is_empty() {
            let taken = if self.outbound.len() > COPY_MOST {
                ready!(self.end.poll_write_bytes(cx, &mut self.outbound))
            } else {
                let taken = ready!(self.end.poll_write(cx, &self.outbound));
                taken.map(|count| self.outbound.advance(count))
            };
            if taken.is_none() {
                return Poll::Ready(None);
            }
        }
        // The bytes went into records: what they were in is good for the next read.
        if self.tls.is_none()
            && let Ok(used) = std::mem::take(&mut self.outbound).try_into_mut()
        {
            self.buffer = used.into();
            self.buffer.clear();
        }
        Poll::Ready(Some(()))
    }

    /// One read, or the end of the socket's bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            match ready!(tls.poll_read(cx, &self.socket))? {
                Some(plain) => self.outbound = plain,
                None => self.is_outbound_ended = true,
            }
            return Poll::Ready(Ok(()));
        }
        let (buffer, size) = (&mut self.buffer, self.read_size);
        let received = self.socket.poll_read(cx, &mut |socket| {
            // Only now, so that idle connections hold no memory.
            buffer.reserve_exact(size);
            let count = local_socket::read(socket, buffer)?;
            Ok(Progress {
                count,
                exhausted: 0 < count && count < buffer.capacity(),
            })
        });
        let Poll::Ready(Ok(count @ 1..)) = received else {
            self.buffer = Vec::new();
            return received.map_ok(|_| self.is_outbound_ended = true);
        };
        self.read_size = match count {
            _ if count >= size => (size * 2).min(READ_MOST),
            _ if count < size / 4 => (size / 2).max(READ_LEAST),
            _ => size,
        };
        if count <= COPY_MOST {
            // The buffer is good for the next read.
            self.outbound = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
        } else {
            let mut piece = std::mem::take(&mut self.buffer);
            if count < piece.capacity() / 2 {
                // What waits must not hold more memory than it counts for.
                piece.shrink_to_fit();
            }
            self.outbound = Bytes::from(piece);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
