//! The frames of a link between the driver and the task that has its connection: one queue for each direction, both
//! bounded in bytes.
//!
//! The driver puts no more into the pipe than its room, so that what waits stands in the node, where priorities are. The
//! task delivers no more than its room either, and then reads no more: a slow node slows its peer down.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use receptor_core::id::LinkId;

use super::ready::{Flag, ReadySet, Source};

/// Bytes of frames that may wait for the node.
const INCOMING_MOST: usize = 256 << 10;

/// Least and most bytes of frames that wait for the connection; what it took in its last turn, between these.
const OUTGOING_LEAST: usize = 8 << 10;
const OUTGOING_MOST: usize = 64 << 10;

/// Makes links and their pipes, for the driver and for the tasks that accept and dial.
#[derive(Debug)]
pub struct LinkMaker {
    ready: Arc<ReadySet>,
    next: AtomicU64,
}

impl LinkMaker {
    /// The first link is number 1.
    pub fn new(ready: Arc<ReadySet>) -> Self {
        Self {
            ready,
            next: AtomicU64::new(1),
        }
    }

    /// A fresh ID, and its flag.
    pub fn link(&self) -> (LinkId, Arc<Flag>) {
        let id = LinkId(self.next.fetch_add(1, Ordering::Relaxed));
        (id, self.ready.flag(Source::Link(id)))
    }

    /// A fresh pipe: the driver's end and the task's.
    pub fn pipe(&self) -> (FrameDriver, FrameTask) {
        let (link, flag) = self.link();
        let shared = Arc::new(Shared {
            flag,
            state: Mutex::new(State {
                outgoing_limit: OUTGOING_MOST,
                ..State::default()
            }),
        });
        let driver = FrameDriver {
            link,
            shared: Arc::clone(&shared),
        };
        (driver, FrameTask { shared })
    }
}

struct Shared {
    flag: Arc<Flag>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    incoming: Vec<BytesMut>,
    incoming_bytes: usize,
    /// Frames that found no room, where the connection cannot wait.
    lost: u64,
    outgoing: VecDeque<BytesMut>,
    outgoing_bytes: usize,
    outgoing_limit: usize,
    /// Bytes that the task took since the connection took no more.
    taken: usize,
    /// The driver found no room and is to be told of some.
    wants_room: bool,
    /// The driver puts no more in: what is there is to be sent, and then the connection closed.
    is_closing: bool,
    /// The connection is gone, and why.
    ended: Option<String>,
    has_ended: bool,
    /// Waits for outgoing frames.
    reader: Option<Waker>,
    /// Waits for room for incoming ones.
    writer: Option<Waker>,
    /// Waits for the end.
    driver: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>, guard: MutexGuard<'_, State>) {
    drop(guard);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The driver's end. Dropping it closes the link.
pub struct FrameDriver {
    link: LinkId,
    shared: Arc<Shared>,
}

impl FrameDriver {
    /// The link that this is.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Moves what has arrived to `into`; gives the reason if the connection is gone, once, behind its last frame.
    pub fn take(&self, into: &mut Vec<BytesMut>) -> Option<String> {
        let mut state = self.shared.lock();
        into.append(&mut state.incoming);
        state.incoming_bytes = 0;
        let ended = state.ended.take();
        wake(state.writer.take(), state);
        ended
    }

    /// Bytes of frames to be pulled from the node now. If there is no room, the flag will be raised when there is.
    pub fn room(&self) -> usize {
        let mut state = self.shared.lock();
        let room = state.outgoing_limit.saturating_sub(state.outgoing_bytes);
        state.wants_room = room == 0;
        room
    }

    /// Frames for the connection.
    pub fn push(&self, frames: &mut Vec<BytesMut>) {
        if frames.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.has_ended {
            frames.clear();
            return;
        }
        state.outgoing_bytes += frames.iter().map(BytesMut::len).sum::<usize>();
        state.outgoing.extend(frames.drain(..));
        wake(state.reader.take(), state);
    }

    /// No more frames will be pushed: the task sends what is there and ends.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closing = true;
        let writer = state.writer.take();
        wake(state.reader.take(), state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Waits until the task has closed the connection.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.has_ended {
            return Poll::Ready(());
        }
        state.driver = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for FrameDriver {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the driver wants.
#[derive(PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// Frames to be sent.
    Frames,
    /// Nothing more will come: close the connection.
    Close,
}

/// The task's end. Dropping it ends the link.
pub struct FrameTask {
    shared: Arc<Shared>,
}

impl FrameTask {
    /// Takes the frames that are to be sent.
    pub fn poll_outgoing(&self, cx: &mut Context<'_>, into: &mut VecDeque<BytesMut>) -> Poll<Outgoing> {
        let mut state = self.shared.lock();
        if state.outgoing.is_empty() {
            if state.is_closing || state.has_ended {
                return Poll::Ready(Outgoing::Close);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        into.append(&mut state.outgoing);
        state.taken = state.taken.saturating_add(state.outgoing_bytes);
        state.outgoing_bytes = 0;
        let tell = std::mem::take(&mut state.wants_room);
        drop(state);
        if tell {
            self.shared.flag.raise();
        }
        Poll::Ready(Outgoing::Frames)
    }

    /// The connection takes no more for now: it gets no more at a time than it took in this turn.
    pub fn blocked(&self) {
        let mut state = self.shared.lock();
        state.outgoing_limit = std::mem::take(&mut state.taken).clamp(OUTGOING_LEAST, OUTGOING_MOST);
    }

    /// The connection took everything at once: more may be tried.
    pub fn flowing(&self) {
        let mut state = self.shared.lock();
        state.outgoing_limit = (2 * state.outgoing_limit).min(OUTGOING_MOST);
    }

    /// Waits for room for what arrives; ready at once if the link is closing, when it will not be asked for.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.incoming_bytes < INCOMING_MOST || state.is_closing {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Frames that have arrived. They are taken whatever the room: ask for it before reading.
    pub fn deliver(&self, frames: impl IntoIterator<Item = BytesMut>) {
        let mut state = self.shared.lock();
        let before = state.incoming.len();
        for frame in frames {
            state.incoming_bytes += frame.len();
            state.incoming.push(frame);
        }
        let is_news = state.incoming.len() > before && !state.is_closing;
        if state.is_closing {
            // Nobody reads them.
            state.incoming.clear();
            state.incoming_bytes = 0;
        }
        drop(state);
        if is_news {
            self.shared.flag.raise();
        }
    }

    /// A frame that has arrived and cannot wait: without room it is lost, and counted.
    pub fn deliver_or_lose(&self, frame: BytesMut) {
        {
            let mut state = self.shared.lock();
            if state.incoming_bytes >= INCOMING_MOST {
                state.lost += 1;
                return;
            }
        }
        self.deliver([frame]);
    }

    /// A frame that could not be sent.
    pub fn count_lost(&self) {
        self.shared.lock().lost += 1;
    }

    /// Frames that were lost on this end.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// The connection is gone, and why. Only the first reason counts.
    pub fn end(&self, reason: &str) {
        let mut state = self.shared.lock();
        if state.has_ended {
            return;
        }
        state.has_ended = true;
        state.ended = Some(reason.to_owned());
        state.outgoing = VecDeque::new();
        let reader = state.reader.take();
        wake(state.driver.take(), state);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.shared.flag.raise();
    }

    /// Whether the driver has closed the link.
    pub fn is_closing(&self) -> bool {
        self.shared.lock().is_closing
    }
}

impl Drop for FrameTask {
    fn drop(&mut self) {
        self.end("the link's task has ended");
    }
}

impl fmt::Debug for FrameDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameDriver").field(&self.link).finish()
    }
}

impl fmt::Debug for FrameTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameTask").field(&self.shared.flag).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> (Arc<ReadySet>, FrameDriver, FrameTask) {
        let ready = Arc::new(ReadySet::default());
        let (driver, task) = LinkMaker::new(Arc::clone(&ready)).pipe();
        (ready, driver, task)
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn raised(ready: &ReadySet) -> bool {
        ready.poll_take(&mut cx(), 8, &mut Vec::new()).is_ready()
    }

    fn frames(count: usize, len: usize) -> Vec<BytesMut> {
        vec![BytesMut::zeroed(len); count]
    }

    #[test]
    fn the_driver_is_told_of_room_when_it_found_none() {
        let (ready, driver, task) = new();
        assert_eq!(driver.room(), OUTGOING_MOST);
        let mut all = frames(3, OUTGOING_MOST / 2);
        driver.push(&mut all);
        assert!(all.is_empty());
        assert!(!raised(&ready));
        let mut into = VecDeque::new();
        assert_eq!(task.poll_outgoing(&mut cx(), &mut into), Poll::Ready(Outgoing::Frames));
        assert_eq!(into.len(), 3);
        assert!(!raised(&ready), "it did not ask");
        driver.push(&mut frames(1, OUTGOING_MOST));
        assert_eq!(driver.room(), 0);
        assert!(task.poll_outgoing(&mut cx(), &mut into).is_ready());
        assert!(raised(&ready));
        assert!(task.poll_outgoing(&mut cx(), &mut into).is_pending());
    }

    #[test]
    fn a_slow_connection_gets_what_it_took_in_its_last_turn() {
        let (_ready, driver, task) = new();
        driver.push(&mut frames(1, 20_000));
        assert!(task.poll_outgoing(&mut cx(), &mut VecDeque::new()).is_ready());
        task.blocked();
        assert_eq!(driver.room(), 20_000);
        task.blocked();
        assert_eq!(driver.room(), OUTGOING_LEAST);
        task.flowing();
        assert_eq!(driver.room(), 2 * OUTGOING_LEAST);
        for _ in 0..10 {
            task.flowing();
        }
        assert_eq!(driver.room(), OUTGOING_MOST);
    }

    #[test]
    fn a_slow_node_stops_the_task() {
        let (ready, driver, task) = new();
        assert!(task.poll_room(&mut cx()).is_ready());
        task.deliver(frames(4, INCOMING_MOST / 4));
        assert!(raised(&ready));
        assert!(task.poll_room(&mut cx()).is_pending());
        task.deliver_or_lose(BytesMut::zeroed(1));
        assert_eq!(task.lost(), 1);
        let mut into = Vec::new();
        assert_eq!(driver.take(&mut into), None);
        assert_eq!(into.len(), 4);
        assert!(task.poll_room(&mut cx()).is_ready());
        task.deliver_or_lose(BytesMut::zeroed(1));
        assert_eq!(task.lost(), 1);
    }

    #[test]
    fn the_end_comes_behind_the_last_frame_and_once() {
        let (ready, driver, task) = new();
        task.deliver(frames(1, 1));
        task.end("gone");
        task.end("again");
        drop(task);
        assert!(raised(&ready));
        let mut into = Vec::new();
        assert_eq!(driver.take(&mut into).as_deref(), Some("gone"));
        assert_eq!(into.len(), 1);
        assert_eq!(driver.take(&mut into), None);
        assert!(driver.poll_ended(&mut cx()).is_ready());
        driver.push(&mut frames(1, 1));
    }

    #[test]
    fn what_was_pushed_before_the_close_is_still_sent() {
        let (_ready, driver, task) = new();
        driver.push(&mut frames(2, 1));
        driver.close();
        let mut into = VecDeque::new();
        assert_eq!(task.poll_outgoing(&mut cx(), &mut into), Poll::Ready(Outgoing::Frames));
        assert_eq!(into.len(), 2);
        assert_eq!(task.poll_outgoing(&mut cx(), &mut into), Poll::Ready(Outgoing::Close));
        assert!(driver.poll_ended(&mut cx()).is_pending());
        task.deliver(frames(1, 1));
        assert_eq!(driver.take(&mut Vec::new()), None);
        drop(task);
        assert!(driver.poll_ended(&mut cx()).is_ready());
        assert!(driver.take(&mut Vec::new()).is_some());
    }

    #[test]
    fn a_driver_that_is_gone_closes_its_links() {
        let (_ready, driver, task) = new();
        drop(driver);
        assert!(task.is_closing());
        assert_eq!(
            task.poll_outgoing(&mut cx(), &mut VecDeque::new()),
            Poll::Ready(Outgoing::Close)
        );
        assert!(task.poll_room(&mut cx()).is_ready());
    }
}
