//! A local pipe: the two buffers between the driver and one local user of the node, each within a credit window.
//!
//! The local side never has more bytes under way than the node granted; the node never has more undrained bytes here
//! than [`PIPE_WINDOW`]. Both rules are the contract of `receptor_core::node::io`; this file only counts.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use receptor_core::id::PipeId;
use receptor_core::node::io::{Layer, PIPE_WINDOW};

use super::ready::{Flag, ReadySet, Source};

/// Drained bytes are told to the node when the local side has taken everything, or this many.
const DRAIN_STEP: usize = PIPE_WINDOW / 8;

/// Makes a pipe: the driver's end and the local one.
pub fn pipe(id: PipeId, ready: &Arc<ReadySet>) -> (DriverEnd, LocalEnd) {
    let shared = Arc::new(Shared {
        flag: ready.flag(Source::Pipe(id)),
        state: Mutex::new(State {
            credit: PIPE_WINDOW,
            ..State::default()
        }),
    });
    (
        DriverEnd {
            shared: Arc::clone(&shared),
        },
        LocalEnd { shared },
    )
}

struct Shared {
    flag: Arc<Flag>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// From the node, not yet taken by the local side.
    incoming: VecDeque<Bytes>,
    /// Nothing follows `incoming`.
    incoming_ended: bool,
    /// Taken by the local side, not yet told to the node.
    drained: usize,
    /// What the bytes are, until the local side has asked.
    begin: Option<Layer>,
    /// From the local side, not yet taken by the driver: whole pieces, then `tail`.
    outgoing: VecDeque<Bytes>,
    /// Small writes, gathered.
    tail: BytesMut,
    /// Nothing follows `outgoing` and `tail`.
    outgoing_ended: bool,
    /// The handshake is done, and the driver was not yet told.
    secured: bool,
    /// Why the local side gave the pipe up; the driver was not yet told.
    failure: Option<String>,
    /// The local side gave the pipe up.
    outgoing_broken: bool,
    /// The node was told so.
    outgoing_end_told: bool,
    /// Bytes the local side may still write.
    credit: usize,
    /// The node closed the pipe, or the driver ended.
    closed_by_node: bool,
    /// The local end was dropped.
    closed_by_local: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the gathering of small writes.
    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.outgoing.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Credit for as many of `wanted` bytes as there is: at least one, unless none is wanted.
    fn claim(&mut self, wanted: usize) -> Claim {
        if self.closed_by_node || self.outgoing_ended || self.outgoing_broken {
            return Claim::Closed;
        }
        let count = wanted.min(self.credit);
        if count == 0 && wanted > 0 {
            return Claim::Blocked;
        }
        self.credit -= count;
        Claim::Granted(count)
    }

    /// A whole piece, for which there was credit.
    fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.close_tail();
            self.outgoing.push_back(data);
        }
    }

    /// The writer is woken when the node grants more.
    fn await_credit<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// What a writer gets.
enum Claim {
    Granted(usize),
    /// No credit is left.
    Blocked,
    /// Nothing can be written any more.
    Closed,
}

/// What the local side did since the driver last looked. To be told to the node in the order of the fields.
#[derive(Default, PartialEq, Debug)]
pub struct LocalNews {
    /// Bytes taken.
    pub drained: usize,
    /// The handshake is done.
    pub secured: bool,
    /// Bytes written.
    pub data: VecDeque<Bytes>,
    /// No more will be written.
    pub eof: bool,
    /// The local end was dropped, or its layer failed.
    pub closed: bool,
    /// Why, if that was so.
    pub failure: Option<String>,
}

/// The driver's end. Dropping it closes the pipe.
pub struct DriverEnd {
    shared: Arc<Shared>,
}

impl DriverEnd {
    /// Takes what the local side did; the end of its data is reported once.
    pub fn take_news(&self) -> LocalNews {
        let mut state = self.shared.lock();
        let eof = state.outgoing_ended && !state.outgoing_end_told && state.failure.is_none();
        state.outgoing_end_told |= eof;
        state.close_tail();
        LocalNews {
            drained: std::mem::take(&mut state.drained),
            secured: std::mem::take(&mut state.secured),
            data: std::mem::take(&mut state.outgoing),
            eof,
            closed: state.closed_by_local || state.failure.is_some(),
            failure: state.failure.take(),
        }
    }

    /// What the bytes of this pipe are.
    pub fn begin(&self, layer: Layer) {
        let mut state = self.shared.lock();
        state.begin = Some(layer);
        wake(state.reader.take(), state);
    }

    /// Bytes for the local side.
    pub fn deliver(&self, data: Bytes) {
        let mut state = self.shared.lock();
        if state.closed_by_local || data.is_empty() {
            return;
        }
        state.incoming.push_back(data);
        wake(state.reader.take(), state);
    }

    /// The node will send no more.
    pub fn deliver_eof(&self) {
        let mut state = self.shared.lock();
        state.incoming_ended = true;
        wake(state.reader.take(), state);
    }

    /// The local side may send `n` more bytes.
    pub fn grant(&self, n: usize) {
        let mut state = self.shared.lock();
        state.credit = state.credit.saturating_add(n);
        wake(state.writer.take(), state);
    }
}

impl Drop for DriverEnd {
    fn drop(&mut self) {
        let (reader, writer) = {
            let mut state = self.shared.lock();
            state.closed_by_node = true;
            (state.reader.take(), state.writer.take())
        };
        [reader, writer].into_iter().flatten().for_each(Waker::wake);
    }
}

/// Wakes outside the lock.
fn wake(waker: Option<Waker>, guard: MutexGuard<'_, State>) {
    drop(guard);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What a read found.
#[derive(PartialEq, Debug)]
pub enum Incoming {
    /// The next bytes, at most as many as asked for.
    Data(Bytes),
    /// The node has sent its last byte.
    Eof,
    /// The node closed the pipe before it had said that there is no more.
    Closed,
}

/// The local side's end. Dropping it closes both directions.
pub struct LocalEnd {
    shared: Arc<Shared>,
}

impl LocalEnd {
    /// Takes up to `max` bytes of what the node sent. What was sent before the pipe was closed can still be read.
    pub fn poll_read(&self, cx: &mut Context<'_>, max: usize) -> Poll<Incoming> {
        let mut state = self.shared.lock();
        let Some(front) = state.incoming.front_mut() else {
            return if state.incoming_ended {
                Poll::Ready(Incoming::Eof)
            } else if state.closed_by_node {
                Poll::Ready(Incoming::Closed)
            } else {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            };
        };
        let data = if front.len() > max {
            front.split_to(max)
        } else {
            std::mem::take(front)
        };
        if front.is_empty() {
            state.incoming.pop_front();
        }
        state.drained += data.remaining();
        let tell = state.incoming.is_empty() || state.drained >= DRAIN_STEP;
        drop(state);
        if tell {
            self.shared.flag.raise();
        }
        Poll::Ready(Incoming::Data(data))
    }

    /// Puts as much of `data` on its way as the credit allows: at least one byte, or `None` if the pipe is closed or
    /// was shut down.
    pub fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        let mut state = self.shared.lock();
        let count = match state.claim(data.len()) {
            Claim::Granted(count) => count,
            Claim::Blocked => return state.await_credit(cx),
            Claim::Closed => return Poll::Ready(None),
        };
        state.tail.extend_from_slice(&data[..count]);
        drop(state);
        self.shared.flag.raise();
        Poll::Ready(Some(count))
    }

    /// As [`Self::poll_write`], without a copy: what the credit allows is cut off the front of `data`. For pieces of some
    /// size: small ones are better copied together.
    pub fn poll_write_bytes(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Option<()>> {
        let mut state = self.shared.lock();
        match state.claim(data.len()) {
            Claim::Granted(count) => state.push(data.split_to(count)),
            Claim::Blocked => return state.await_credit(cx),
            Claim::Closed => return Poll::Ready(None),
        }
        drop(state);
        self.shared.flag.raise();
        Poll::Ready(Some(()))
    }

    /// As [`LocalEnd::poll_write_bytes`], and nobody waits: `false` if nothing was written.
    pub fn try_write_bytes(&self, data: &mut Bytes) -> bool {
        let mut state = self.shared.lock();
        let Claim::Granted(count @ 1..) = state.claim(data.len()) else {
            return false;
        };
        state.push(data.split_to(count));
        drop(state);
        self.shared.flag.raise();
        true
    }

    /// Waits until the node has granted at least one byte; answers how many, `None` if the pipe is closed.
    pub fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.poll_credit_of(cx, 1)
    }

    /// Waits until the node has granted at least so many bytes, which must be fewer than [`PIPE_WINDOW`].
    pub fn poll_credit_of(&self, cx: &mut Context<'_>, least: usize) -> Poll<Option<usize>> {
        let mut state = self.shared.lock();
        if state.closed_by_node {
            return Poll::Ready(None);
        }
        if state.credit < least {
            return state.await_credit(cx);
        }
        Poll::Ready(Some(state.credit))
    }

    /// Waits until the node has said what the bytes of this pipe are, once; `None` if it is closed. Uses the reader's place.
    pub fn poll_begin(&self, cx: &mut Context<'_>) -> Poll<Option<Layer>> {
        let mut state = self.shared.lock();
        if let Some(layer) = state.begin.take() {
            return Poll::Ready(Some(layer));
        }
        if state.closed_by_node {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Tells the node that the handshake is done.
    pub fn set_secured(&self) {
        self.shared.lock().secured = true;
        self.shared.flag.raise();
    }

    /// The layer has failed: nothing more is written or will be read.
    pub fn set_failed(&self, reason: &str) {
        {
            let mut state = self.shared.lock();
            if state.closed_by_node || state.outgoing_broken {
                return;
            }
            state.failure = Some(reason.to_owned());
            state.outgoing_broken = true;
        }
        self.shared.flag.raise();
    }

    /// Waits until the node has closed the pipe. Uses the reader's place: for the task that reads.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.closed_by_node {
            return Poll::Ready(());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// No more bytes will be written.
    pub fn shut_down(&self) {
        self.shared.lock().outgoing_ended = true;
        self.shared.flag.raise();
    }
}

impl Drop for LocalEnd {
    fn drop(&mut self) {
        let leftover = {
            let mut state = self.shared.lock();
            state.closed_by_local = true;
            std::mem::take(&mut state.incoming)
        };
        drop(leftover);
        self.shared.flag.raise();
    }
}

impl fmt::Debug for DriverEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DriverEnd").field(&self.shared.flag).finish()
    }
}

impl fmt::Debug for LocalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalEnd").field(&self.shared.flag).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    fn new() -> (Arc<ReadySet>, DriverEnd, LocalEnd) {
        let ready = Arc::new(ReadySet::default());
        let (driver, local) = pipe(PipeId(1), &ready);
        (ready, driver, local)
    }

    fn raised(ready: &ReadySet) -> bool {
        let mut sources = Vec::new();
        ready
            .poll_take(&mut Context::from_waker(Waker::noop()), 8, &mut sources)
            .is_ready()
    }

    fn taken(driver: &DriverEnd) -> Vec<u8> {
        driver.take_news().data.iter().flatten().copied().collect()
    }

    fn write(local: &LocalEnd, data: &[u8]) -> Poll<Option<usize>> {
        local.poll_write(&mut Context::from_waker(Waker::noop()), data)
    }

    fn read(local: &LocalEnd, max: usize) -> Poll<Incoming> {
        local.poll_read(&mut Context::from_waker(Waker::noop()), max)
    }

    #[test]
    fn the_local_side_never_sends_more_than_its_credit() {
        let (ready, driver, local) = new();
        let data = vec![7; PIPE_WINDOW + 10];
        assert_eq!(write(&local, &data), Poll::Ready(Some(PIPE_WINDOW)));
        assert!(write(&local, &data).is_pending());
        assert!(raised(&ready));
        assert_eq!(taken(&driver).len(), PIPE_WINDOW);
        // That the driver took the bytes is no credit: the node gives it.
        assert!(write(&local, &data).is_pending());
        driver.grant(3);
        assert_eq!(write(&local, &data), Poll::Ready(Some(3)));
        assert!(write(&local, &data).is_pending());
    }

    #[test]
    fn whole_pieces_and_small_writes_keep_their_order() {
        let (_ready, driver, local) = new();
        assert_eq!(write(&local, b"a"), Poll::Ready(Some(1)));
        assert_eq!(write(&local, b"b"), Poll::Ready(Some(1)));
        let piece = Bytes::from_static(b"whole");
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(local.poll_write_bytes(cx, &mut piece.clone()), Poll::Ready(Some(())));
        assert_eq!(write(&local, b"c"), Poll::Ready(Some(1)));
        let news = driver.take_news();
        assert_eq!(news.data, [&b"ab"[..], b"whole", b"c"]);
        assert_eq!(news.data[1].as_ptr(), piece.as_ptr(), "not copied");
        assert_eq!(local.poll_credit(cx), Poll::Ready(Some(PIPE_WINDOW - 8)));
        let mut long = Bytes::from(vec![0; PIPE_WINDOW]);
        assert_eq!(local.poll_write_bytes(cx, &mut long), Poll::Ready(Some(())));
        assert_eq!(long.len(), 8);
        assert!(local.poll_write_bytes(cx, &mut long).is_pending());
        local.shut_down();
        assert_eq!(local.poll_write_bytes(cx, &mut long), Poll::Ready(None));
    }

    #[test]
    fn a_grant_wakes_the_writer() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let (_ready, driver, local) = new();
        assert_eq!(write(&local, &vec![0; PIPE_WINDOW]), Poll::Ready(Some(PIPE_WINDOW)));
        assert!(local.poll_write(&mut Context::from_waker(&waker), b"abc").is_pending());
        driver.grant(2);
        assert!(woken.0.load(Ordering::SeqCst));
        assert_eq!(write(&local, b"abc"), Poll::Ready(Some(2)));
    }

    #[test]
    fn drained_bytes_are_told_in_steps_and_when_nothing_is_left() {
        let (ready, driver, local) = new();
        driver.deliver(Bytes::from(vec![1; DRAIN_STEP]));
        driver.deliver(Bytes::from(vec![2; 5]));
        let Poll::Ready(Incoming::Data(first)) = read(&local, 10) else {
            panic!()
        };
        assert_eq!(first.len(), 10);
        assert!(!raised(&ready), "ten bytes are not worth a wake-up");
        let Poll::Ready(Incoming::Data(_)) = read(&local, DRAIN_STEP) else {
            panic!()
        };
        assert!(raised(&ready));
        assert_eq!(driver.take_news().drained, DRAIN_STEP);
        let Poll::Ready(Incoming::Data(last)) = read(&local, 100) else {
            panic!()
        };
        assert_eq!(last, [2; 5][..]);
        assert!(raised(&ready));
        assert_eq!(driver.take_news().drained, 5);
        assert!(read(&local, 100).is_pending());
    }

    #[test]
    fn halves_close_one_by_one() {
        let (_ready, driver, local) = new();
        assert_eq!(write(&local, b"last words"), Poll::Ready(Some(10)));
        local.shut_down();
        assert_eq!(write(&local, b"more"), Poll::Ready(None));
        let news = driver.take_news();
        assert_eq!((news.data.len(), news.eof, news.closed), (1, true, false));
        assert_eq!(news.data[0], b"last words"[..]);
        assert_eq!(driver.take_news(), LocalNews::default(), "the end is told once");
        assert_eq!(write(&local, b"more"), Poll::Ready(None));

        driver.deliver(Bytes::from_static(b"answer"));
        driver.deliver_eof();
        drop(driver);
        assert_eq!(
            read(&local, 100),
            Poll::Ready(Incoming::Data(Bytes::from_static(b"answer")))
        );
        assert_eq!(read(&local, 100), Poll::Ready(Incoming::Eof));
    }

    #[test]
    fn a_closed_pipe_says_so_on_both_ends() {
        let (ready, driver, local) = new();
        drop(local);
        assert!(raised(&ready));
        assert!(driver.take_news().closed);

        let (_ready, driver, local) = new();
        driver.deliver(Bytes::from_static(b"x"));
        drop(driver);
        assert_eq!(write(&local, b"x"), Poll::Ready(None));
        assert_eq!(read(&local, 1), Poll::Ready(Incoming::Data(Bytes::from_static(b"x"))));
        assert_eq!(read(&local, 1), Poll::Ready(Incoming::Closed));
    }
}
