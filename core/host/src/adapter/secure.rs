//! The local end of a pipe whose bytes may be protected: what its user reads and writes is always plain.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use receptor_core::node::io::Layer;
use receptor_core::stream::Secure;

use super::{Incoming, LocalEnd, Tls};

/// Room for records that a write waits for, so that it does not make many small ones of a large piece.
const WRITE_LEAST: usize = 4 << 10;

/// Most plain bytes encrypted in one go: large enough to be cheap, small enough not to keep a task's thread.
const WRITE_MOST: usize = 64 << 10;

/// A [`LocalEnd`] and what the node said its bytes are.
///
/// First comes the handshake, in the task of whoever wants to use the stream; only then are bytes read and written. One
/// task may read and another write, each with its own waker.
pub struct SecureEnd {
    local: LocalEnd,
    tls: Arc<Tls>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Records that found no credit.
    unsent: Bytes,
    /// Plain bytes that the reader did not take.
    unread: Bytes,
    /// Why it failed, if it did.
    failure: Option<String>,
}

enum Phase {
    /// The node has not said what the bytes are.
    New,
    Handshake(Box<Secure>),
    Plain,
    Secured(Box<Secure>),
    Failed,
}

impl SecureEnd {
    /// An end of which the node says later what its bytes are.
    pub fn new(local: LocalEnd, tls: Arc<Tls>) -> Self {
        let state = State {
            phase: Phase::New,
            unsent: Bytes::new(),
            unread: Bytes::new(),
            failure: None,
        };
        Self {
            local,
            tls,
            state: Mutex::new(state),
        }
    }

    /// An end of which that is known.
    pub fn begun(local: LocalEnd, tls: Arc<Tls>, layer: &Layer) -> Self {
        let end = Self::new(local, tls);
        end.begin(&mut end.lock(), layer);
        end
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, state: &mut State, layer: &Layer) {
        state.phase = match layer {
            Layer::Plain => Phase::Plain,
            Layer::Secure(security) => match self.tls.secure(security) {
                Ok(secure) => Phase::Handshake(Box::new(secure)),
                Err(reason) => return self.fail(state, reason),
            },
            _ => return self.fail(state, "a layer that this program does not know".to_owned()),
        };
    }

    /// Nothing goes on; the node is told why.
    fn fail(&self, state: &mut State, reason: String) {
        self.local.set_failed(&reason);
        state.failure = Some(reason);
        state.phase = Phase::Failed;
        state.unread = Bytes::new();
    }

    /// Why the stream failed here, if it did; of other ends only the node knows.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Goes on with the handshake; says whether it succeeded. The node hears it, too, and why if not.
    pub fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut guard = self.lock();
        loop {
            let State {
                phase, unsent, failure, ..
            } = &mut *guard;
            match phase {
                Phase::New => match ready!(self.local.poll_begin(cx)) {
                    Some(layer) => self.begin(&mut guard, &layer),
                    None => return Poll::Ready(false),
                },
                Phase::Handshake(secure) => {
                    let error = secure.error().map(|error| format!("handshake failed: {error}"));
                    if let Some(reason) = error {
                        // The alert, as far as there is credit.
                        self.send_what_fits(secure, unsent);
                        self.fail(&mut guard, reason);
                        continue;
                    }
                    if ready!(self.poll_send(cx, secure, unsent)).is_none() {
                        return Poll::Ready(false);
                    }
                    if !secure.is_handshaking() {
                        self.local.set_secured();
                        let secured = std::mem::replace(phase, Phase::Failed);
                        if let Phase::Handshake(secure) = secured {
                            *phase = Phase::Secured(secure);
                        }
                        continue;
                    }
                    match ready!(self.local.poll_read(cx, usize::MAX)) {
                        Incoming::Data(data) => secure.handle_data(&data),
                        Incoming::Eof => secure.handle_eof(),
                        Incoming::Closed => {
                            failure.get_or_insert_with(|| "handshake failed: stream was closed".to_owned());
                            return Poll::Ready(false);
                        }
                    }
                }
                Phase::Plain | Phase::Secured(_) => return Poll::Ready(true),
                Phase::Failed => return Poll::Ready(false),
            }
        }
    }

    /// Sends all records that wait. `None` if the pipe is closed.
    fn poll_send(&self, cx: &mut Context<'_>, secure: &mut Secure, unsent: &mut Bytes) -> Poll<Option<()>> {
        loop {
            if unsent.is_empty() {
                match secure.poll_transmit() {
                    Some(records) => *unsent = records,
                    None => return Poll::Ready(Some(())),
                }
            }
            if ready!(self.local.poll_write_bytes(cx, unsent)).is_none() {
                return Poll::Ready(None);
            }
        }
    }

    /// The same without waiting for credit: it is the writer who waits.
    fn send_what_fits(&self, secure: &mut Secure, unsent: &mut Bytes) {
        loop {
            if unsent.is_empty() {
                match secure.poll_transmit() {
                    Some(records) => *unsent = records,
                    None => return,
                }
            }
            if !self.local.try_write_bytes(unsent) {
                return;
            }
        }
    }

    /// Takes up to `max` bytes of what the other end sent.
    pub fn poll_read(&self, cx: &mut Context<'_>, max: usize) -> Poll<Incoming> {
        let mut guard = self.lock();
        loop {
            let State {
                phase, unsent, unread, ..
            } = &mut *guard;
            let secure = match phase {
                Phase::Secured(secure) => secure,
                Phase::Plain => return self.local.poll_read(cx, max),
                Phase::New | Phase::Handshake(_) | Phase::Failed => return Poll::Ready(Incoming::Closed),
            };
            if !unread.is_empty() {
                let count = unread.len().min(max);
                return Poll::Ready(Incoming::Data(unread.split_to(count)));
            }
            if let Some(plain) = secure.read() {
                *unread = plain;
                continue;
            }
            if secure.is_finished() {
                return Poll::Ready(Incoming::Eof);
            }
            if let Some(error) = secure.error() {
                let reason = error.to_string();
                self.send_what_fits(secure, unsent);
                self.fail(&mut guard, reason);
                continue;
            }
            match ready!(self.local.poll_read(cx, usize::MAX)) {
                Incoming::Data(data) => secure.handle_data(&data),
                Incoming::Eof => secure.handle_eof(),
                Incoming::Closed => return Poll::Ready(Incoming::Closed),
            }
            // An answer to a change of keys.
            self.send_what_fits(secure, unsent);
        }
    }

    /// Sends as much of `data` as there is room for: at least one byte, or `None` if the stream is closed or was shut down.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        let mut guard = self.lock();
        let State { phase, unsent, .. } = &mut *guard;
        let secure = match phase {
            Phase::Secured(secure) => secure,
            Phase::Plain => return self.local.poll_write(cx, data),
            Phase::New | Phase::Handshake(_) | Phase::Failed => return Poll::Ready(None),
        };
        if ready!(self.poll_send(cx, secure, unsent)).is_none() {
            return Poll::Ready(None);
        }
        if data.is_empty() {
            return Poll::Ready(Some(0));
        }
        let Some(credit) = ready!(self.local.poll_credit_of(cx, WRITE_LEAST)) else {
            return Poll::Ready(None);
        };
        let count = data.len().min(Secure::plain_room(credit)).min(WRITE_MOST);
        let written = secure.write(&data[..count]);
        self.send_what_fits(secure, unsent);
        Poll::Ready(Some(written).filter(|&written| written > 0))
    }

    /// The same, and what is sent is cut off the front. Without a copy where the bytes are not protected here.
    pub fn poll_write_bytes(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Option<()>> {
        if let Phase::Plain = self.lock().phase {
            return self.local.poll_write_bytes(cx, data);
        }
        let written = ready!(self.poll_write(cx, data));
        Poll::Ready(written.map(|count| data.advance(count)))
    }

    /// Ends the sending half. `None` if the stream is closed already.
    pub fn poll_shut_down(&self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let mut guard = self.lock();
        let State { phase, unsent, .. } = &mut *guard;
        match phase {
            Phase::Secured(secure) => {
                secure.finish();
                if ready!(self.poll_send(cx, secure, unsent)).is_none() {
                    return Poll::Ready(None);
                }
            }
            Phase::Plain => {}
            Phase::New | Phase::Handshake(_) | Phase::Failed => return Poll::Ready(None),
        }
        self.local.shut_down();
        Poll::Ready(Some(()))
    }

    /// Breaks the stream off when this end is dropped: the other one sees that bytes may be missing.
    pub fn break_off(&self) {
        self.lock().phase = Phase::Failed;
    }

    /// Waits until the node has closed the pipe. Uses the reader's place: for the task that reads.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.local.poll_closed(cx)
    }
}

impl Drop for SecureEnd {
    /// Who lets a stream go has said all there is to say. Writes leave room for this.
    fn drop(&mut self) {
        let mut guard = self.lock();
        let State { phase, unsent, .. } = &mut *guard;
        if let Phase::Secured(secure) = phase {
            secure.finish();
            self.send_what_fits(secure, unsent);
        }
    }
}

impl fmt::Debug for SecureEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecureEnd").field(&self.local).finish()
    }
}

#[cfg(test)]
mod tests;
