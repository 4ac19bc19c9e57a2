//! The local end of a pipe whose bytes may be protected: what its user reads and writes is always plain.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use receptor_core::node::io::Layer;

use super::{Incoming, LocalEnd};

/// A [`LocalEnd`] and what the node said its bytes are.
///
/// First comes the handshake, in the task of whoever wants to use the stream; only then are bytes read and written. One
/// task may read and another write, each with its own waker.
pub struct SecureEnd {
    local: LocalEnd,
    state: Mutex<State>,
}

enum State {
    /// The node has not said what the bytes are.
    New,
    /// They are what the node says, and the handshake is still to be done.
    Begun(Layer),
    Open,
}

impl SecureEnd {
    /// An end of which the node says later what its bytes are.
    pub fn new(local: LocalEnd) -> Self {
        Self {
            local,
            state: Mutex::new(State::New),
        }
    }

    /// An end of which that is known.
    pub fn begun(local: LocalEnd, layer: Layer) -> Self {
        Self {
            local,
            state: Mutex::new(State::Begun(layer)),
        }
    }

    /// Goes on with the handshake; says whether it succeeded. The node hears it, too, and why if not.
    pub fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &mut *state {
                State::New => match ready!(self.local.poll_begin(cx)) {
                    Some(layer) => *state = State::Begun(layer),
                    None => return Poll::Ready(false),
                },
                State::Begun(layer) => {
                    if matches!(layer, Layer::Secure(_)) {
                        self.local.set_secured();
                    }
                    *state = State::Open;
                }
                State::Open => return Poll::Ready(true),
            }
        }
    }

    /// Takes up to `max` bytes of what the other end sent.
    pub fn poll_read(&self, cx: &mut Context<'_>, max: usize) -> Poll<Incoming> {
        self.local.poll_read(cx, max)
    }

    /// Sends as much of `data` as there is room for: at least one byte, or `None` if the stream is closed or was shut down.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        self.local.poll_write(cx, data)
    }

    /// The same with bytes that need no copy: what is sent is cut off the front.
    pub fn poll_write_bytes(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Option<()>> {
        self.local.poll_write_bytes(cx, data)
    }

    /// Ends the sending half. `None` if the stream is closed already.
    pub fn poll_shut_down(&self, _cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.local.shut_down();
        Poll::Ready(Some(()))
    }

    /// Waits until the node has closed the pipe. Uses the reader's place: for the task that reads.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.local.poll_closed(cx)
    }
}

impl fmt::Debug for SecureEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecureEnd").field(&self.local).finish()
    }
}

/// Carries bytes between the records of a stream and the node that reads what is in them, until both directions have ended
/// or either pipe is closed.
pub async fn tie(cipher: SecureEnd, plain: LocalEnd) {
    let done = poll_fn(|cx| {
        if plain.poll_closed(cx).is_ready() {
            return Poll::Ready(false);
        }
        cipher.poll_handshake(cx)
    });
    if !done.await {
        return plain.set_failed("TLS handshake: connection closed");
    }
    plain.set_secured();
    let mut pump = Pump {
        cipher,
        plain,
        inbound: Bytes::new(),
        outbound: Bytes::new(),
        is_inbound_done: false,
        is_outbound_done: false,
    };
    poll_fn(|cx| pump.poll(cx)).await;
}

/// Pieces carried in one go; then other tasks get their turn.
const TURNS: usize = 32;

struct Pump {
    cipher: SecureEnd,
    plain: LocalEnd,
    /// What was read from one side and not yet taken by the other.
    inbound: Bytes,
    outbound: Bytes,
    is_inbound_done: bool,
    is_outbound_done: bool,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS {
            let inbound = self.poll_inbound(cx);
            let outbound = self.poll_outbound(cx);
            if self.is_outbound_done && (self.is_inbound_done || self.plain.poll_closed(cx).is_ready()) {
                return Poll::Ready(());
            }
            match (inbound, outbound) {
                (Poll::Ready(None), _) | (_, Poll::Ready(None)) => return Poll::Ready(()),
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One piece from the mesh to the node. `None`: nothing goes on in either direction.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.is_inbound_done {
            return Poll::Pending;
        }
        if self.inbound.is_empty() {
            match ready!(self.cipher.poll_read(cx, usize::MAX)) {
                Incoming::Data(data) => self.inbound = data,
                Incoming::Eof => {
                    self.plain.shut_down();
                    self.is_inbound_done = true;
                    return Poll::Ready(Some(()));
                }
                Incoming::Closed => {
                    self.plain.set_failed("connection closed");
                    return Poll::Ready(None);
                }
            }
        }
        match ready!(self.plain.poll_write_bytes(cx, &mut self.inbound)) {
            Some(()) => Poll::Ready(Some(())),
            // Nobody reads any more; what was written before still goes out.
            None => {
                self.is_inbound_done = true;
                Poll::Ready(Some(()))
            }
        }
    }

    /// One piece from the node to the mesh.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.is_outbound_done {
            return Poll::Pending;
        }
        if self.outbound.is_empty() {
            match ready!(self.plain.poll_read(cx, usize::MAX)) {
                Incoming::Data(data) => self.outbound = data,
                Incoming::Eof => {
                    self.is_outbound_done = ready!(self.cipher.poll_shut_down(cx)).is_some();
                    return Poll::Ready(self.is_outbound_done.then_some(()));
                }
                Incoming::Closed => return Poll::Ready(None),
            }
        }
        match ready!(self.cipher.poll_write_bytes(cx, &mut self.outbound)) {
            Some(()) => Poll::Ready(Some(())),
            None => {
                self.plain.set_failed("connection closed");
                Poll::Ready(None)
            }
        }
    }
}
