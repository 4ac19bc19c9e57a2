//! Handshakes under way on a listener: a bounded number, of which the oldest makes room for the newest.
//!
//! Whoever connects and says nothing can keep a place only until others want it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use receptor_core::complaints::Complaints;
use receptor_core::time::Instant;

use crate::machine;

/// The places of one listener.
#[derive(Clone)]
pub struct Handshakes {
    limit: usize,
    places: Arc<Mutex<VecDeque<Arc<Mutex<Place>>>>>,
    complaints: SharedComplaints,
}

/// Warnings that anybody can cause at will, of tasks on any thread.
#[derive(Clone, Default, Debug)]
pub struct SharedComplaints(Arc<Mutex<Complaints>>);

impl SharedComplaints {
    /// Logs it, unless there was too much of it of late.
    pub fn warn(&self, text: &str) {
        let now = Instant::from_nanos(machine::mono_nanoseconds());
        let line = lock(&self.0).line(now, text);
        if let Some(line) = line {
            tracing::warn!("{line}");
        }
    }
}

#[derive(Default)]
struct Place {
    is_lost: bool,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handshakes {
    /// At most so many at a time, at least one.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            places: Arc::default(),
            complaints: SharedComplaints::default(),
        }
    }

    /// Logs why a connection did not become a link, unless there were too many of late.
    pub fn complain(&self, remote: &str, error: &str) {
        self.complaints
            .warn(&format!("connection from {remote} refused: {error}"));
    }

    /// A place for one more. If there is none, the oldest is lost.
    pub fn enter(&self) -> Handshake {
        let place = Arc::default();
        let oldest = {
            let mut places = lock(&self.places);
            let oldest = if places.len() >= self.limit {
                places.pop_front()
            } else {
                None
            };
            places.push_back(Arc::clone(&place));
            oldest
        };
        if let Some(oldest) = oldest {
            let waker = {
                let mut oldest = lock(&oldest);
                oldest.is_lost = true;
                oldest.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Handshake {
            place,
            all: self.clone(),
        }
    }
}

/// A place, kept until it is dropped.
pub struct Handshake {
    place: Arc<Mutex<Place>>,
    all: Handshakes,
}

impl Handshake {
    /// Ready if the place was lost to a newer handshake: give up.
    pub fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = lock(&self.place);
        if place.is_lost {
            return Poll::Ready(());
        }
        place.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.all.places).retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes")
            .field("limit", &self.limit)
            .field("under_way", &lock(&self.places).len())
            .finish()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let all = Handshakes::new(2);
        let mut cx = Context::from_waker(Waker::noop());
        let first = all.enter();
        let second = all.enter();
        assert!(first.poll_lost(&mut cx).is_pending());
        let third = all.enter();
        assert!(first.poll_lost(&mut cx).is_ready());
        assert!(second.poll_lost(&mut cx).is_pending());
        drop(second);
        drop(first);
        let fourth = all.enter();
        assert!(third.poll_lost(&mut cx).is_pending() && fourth.poll_lost(&mut cx).is_pending());
        drop((third, fourth));
        assert!(lock(&all.places).is_empty());
    }
}
