//! What an adapter does for a stream whose bytes the node itself reads: records on one pipe, what is in them on another.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::{Incoming, LocalEnd, SecureEnd};

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
        let reason = cipher.failure();
        return plain.set_failed(reason.as_deref().unwrap_or("handshake failed: stream was closed"));
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
            // Nobody reads records any more, so that the stream broke is seen nowhere else.
            if self.is_inbound_done && !self.is_outbound_done && self.cipher.poll_closed(cx).is_ready() {
                self.fail();
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

    fn fail(&self) {
        let reason = self.cipher.failure();
        self.plain.set_failed(reason.as_deref().unwrap_or("stream was closed"));
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
                    self.fail();
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
                Incoming::Closed => {
                    self.cipher.break_off();
                    return Poll::Ready(None);
                }
            }
        }
        match ready!(self.cipher.poll_write_bytes(cx, &mut self.outbound)) {
            Some(()) => Poll::Ready(Some(())),
            None => {
                self.fail();
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Waker;

    use receptor_core::id::PipeId;
    use receptor_core::node::io::Layer;

    use super::super::{ReadySet, Tls, pipe};
    use super::*;

    #[test]
    fn a_stream_that_breaks_after_its_end_was_heard_is_told() {
        let ready = Arc::new(ReadySet::default());
        let (outer, cipher) = pipe(PipeId(1), &ready);
        let (inner, plain) = pipe(PipeId(2), &ready);
        let end = SecureEnd::begun(cipher, Arc::new(Tls::default()), &Layer::Plain);
        let mut task = pin!(tie(end, plain));
        let mut cx = Context::from_waker(Waker::noop());
        outer.deliver_eof();
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert!(inner.take_news().eof);
        drop(outer);
        assert!(task.as_mut().poll(&mut cx).is_ready());
        assert_eq!(inner.take_news().failure.as_deref(), Some("stream was closed"));
    }
}
