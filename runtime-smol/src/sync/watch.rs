//! A value that changes, and those who wait for it to become something.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;

use super::Closed;

pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        value: Mutex::new(value),
        changed: Event::new(),
        closed: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[derive(Debug)]
struct Shared<T> {
    value: Mutex<T>,
    changed: Event,
    /// The sender is gone.
    closed: AtomicBool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    pub(crate) fn send(&self, value: T) {
        *self.0.lock() = value;
        self.0.changed.notify(usize::MAX);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.changed.notify(usize::MAX);
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T: Clone> Receiver<T> {
    /// Waits until the value is as wanted; fails when it never will be.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&T) -> bool) -> Result<T, Closed> {
        loop {
            // Listened to before looking, so that no change is missed.
            let changed = self.0.changed.listen();
            let closed = self.0.closed.load(Ordering::Acquire);
            let value = self.0.lock().clone();
            if wanted(&value) {
                return Ok(value);
            }
            if closed {
                return Err(Closed);
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
