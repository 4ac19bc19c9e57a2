//! Who wants the driver's attention: links whose socket woke up, pipes whose local side did something, objects that
//! were dropped.
//!
//! One task polls every socket, but looks only at those that woke: each source has a [`Flag`], which is also the waker
//! its socket is polled with. A flag stands in the queue at most once, so the queue is bounded by the number of sources.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use receptor_core::id::{LinkId, PipeId, PortId, ServiceName};

/// What a flag stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The socket of this link may be readable or writable.
    Link(LinkId),
    /// The local side of this pipe did something.
    Pipe(PipeId),
    /// The application dropped its listener.
    ListenerDropped(ServiceName),
    /// The application dropped its datagram socket.
    PortDropped(PortId),
    /// The QUIC endpoint has messages for the node.
    Quic,
}

/// The queue of raised flags; the driver is its only consumer.
#[derive(Default)]
pub struct ReadySet {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Arc<Flag>>,
    driver: Option<Waker>,
    closed: bool,
}

impl ReadySet {
    /// A flag for `source`, not raised.
    pub fn flag(self: &Arc<Self>, source: Source) -> Arc<Flag> {
        Arc::new(Flag {
            source,
            queued: AtomicBool::new(false),
            set: Arc::clone(self),
        })
    }

    /// Takes up to `limit` raised flags in the order in which they were raised.
    pub fn poll_take(&self, cx: &mut Context<'_>, limit: usize, into: &mut Vec<Source>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            match &mut inner.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let count = limit.min(inner.queue.len());
        into.extend(inner.queue.drain(..count).map(|flag| {
            // Cleared before the source is looked at, so that a wake-up from now on counts.
            flag.queued.store(false, Ordering::Release);
            flag.source
        }));
        Poll::Ready(())
    }

    /// The driver ends: flags are of no interest any more.
    pub fn close(&self) {
        let queue = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.driver = None;
            std::mem::take(&mut inner.queue)
        };
        drop(queue);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ReadySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadySet")
            .field("raised", &self.lock().queue.len())
            .finish_non_exhaustive()
    }
}

/// Raised when its source wants attention.
pub struct Flag {
    source: Source,
    queued: AtomicBool,
    set: Arc<ReadySet>,
}

impl Flag {
    /// Asks for attention; asking twice before the driver came is the same as once.
    pub fn raise(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let driver = {
            let mut inner = self.set.lock();
            if inner.closed {
                return;
            }
            inner.queue.push_back(Arc::clone(self));
            inner.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Asks for attention when its owner is dropped.
#[derive(Debug)]
pub struct DropFlag(pub Arc<Flag>);

impl Drop for DropFlag {
    fn drop(&mut self) {
        self.0.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(std::sync::atomic::AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_flag_is_queued_once_and_wakes_the_driver_once() {
        let set = Arc::new(ReadySet::default());
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let mut taken = Vec::new();
        assert!(set.poll_take(&mut cx, 8, &mut taken).is_pending());

        let (a, b) = (set.flag(Source::Link(LinkId(1))), set.flag(Source::Pipe(PipeId(2))));
        a.raise();
        a.raise();
        b.raise();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(set.poll_take(&mut cx, 1, &mut taken).is_ready());
        assert_eq!(taken, [Source::Link(LinkId(1))]);
        a.raise();
        assert!(set.poll_take(&mut cx, 8, &mut taken).is_ready());
        assert_eq!(taken[1..], [Source::Pipe(PipeId(2)), Source::Link(LinkId(1))]);
        assert!(set.poll_take(&mut cx, 8, &mut taken).is_pending());
    }

    #[test]
    fn after_close_flags_are_not_kept() {
        let set = Arc::new(ReadySet::default());
        let flag = set.flag(Source::Link(LinkId(1)));
        flag.raise();
        set.close();
        set.flag(Source::Link(LinkId(2))).raise();
        assert_eq!(Arc::strong_count(&flag), 1);
        assert!(set.lock().queue.is_empty());
    }
}
