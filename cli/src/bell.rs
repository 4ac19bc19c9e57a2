//! A wish from any thread to a task of the node, whatever runs it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// Rung by anybody, heard by one task. Rings that nobody has heard yet are one.
#[derive(Clone, Default, Debug)]
pub struct Bell(Arc<Mutex<State>>);

#[derive(Default, Debug)]
struct State {
    is_rung: bool,
    listener: Option<Waker>,
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_rung = true;
        if let Some(listener) = state.listener.take() {
            listener.wake();
        }
    }

    /// Waits for a ring.
    pub async fn rung(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut state.is_rung) {
                return Poll::Ready(());
            }
            state.listener = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_ring_is_heard_once() {
        let (bell, count) = (Bell::default(), Arc::new(Count(AtomicU32::new(0))));
        let waker = Arc::clone(&count).into();
        let mut cx = Context::from_waker(&waker);
        let mut wait = || pin!(bell.rung()).poll(&mut cx).is_ready();
        assert!(!wait());
        bell.ring();
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(wait());
        assert!(!wait());
        bell.ring();
        assert!(wait());
    }
}
