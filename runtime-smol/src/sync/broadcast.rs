//! Values for everybody who listens. A slow listener loses the oldest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A broadcast whose listeners keep up to `limit` values each.
pub(crate) fn channel<T: Clone>(limit: usize) -> Sender<T> {
    Sender {
        shared: Arc::new(Shared {
            limit,
            listeners: Mutex::default(),
        }),
    }
}

#[derive(Debug)]
struct Shared<T> {
    limit: usize,
    listeners: Mutex<Vec<Listener<T>>>,
}

#[derive(Debug)]
struct Listener<T> {
    queue: async_channel::Sender<T>,
    lost: Arc<AtomicU64>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Listener<T>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Clone> Sender<T> {
    /// Whether somebody listens.
    pub(crate) fn has_receivers(&self) -> bool {
        !self.shared.lock().is_empty()
    }

    pub(crate) fn send(&self, value: &T) {
        self.shared
            .lock()
            .retain(|listener| match listener.queue.force_send(value.clone()) {
                Ok(oldest) => {
                    listener.lost.fetch_add(oldest.is_some().into(), Ordering::Relaxed);
                    true
                }
                Err(_) => false,
            });
    }

    pub(crate) fn downgrade(&self) -> WeakSender<T> {
        WeakSender(Arc::downgrade(&self.shared))
    }
}

/// Lets listeners be added, and the broadcast end.
#[derive(Debug)]
pub(crate) struct WeakSender<T>(Weak<Shared<T>>);

impl<T> WeakSender<T> {
    /// Listens from now on; what a broadcast that has ended gives is its end.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        let shared = self.0.upgrade();
        let (sender, queue) = async_channel::bounded(shared.as_ref().map_or(1, |shared| shared.limit));
        let lost = Arc::new(AtomicU64::new(0));
        if let Some(shared) = shared {
            shared.lock().push(Listener {
                queue: sender,
                lost: Arc::clone(&lost),
            });
        }
        Receiver { queue, lost }
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: async_channel::Receiver<T>,
    lost: Arc<AtomicU64>,
}

/// Why there is no value.
#[derive(PartialEq, Debug)]
pub(crate) enum RecvError {
    /// So many were lost; the next one is there.
    Lagged(u64),
    /// There will be none.
    Closed,
}

impl<T> Receiver<T> {
    pub(crate) async fn recv(&mut self) -> Result<T, RecvError> {
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => self.queue.recv().await.map_err(|_| RecvError::Closed),
            lost => Err(RecvError::Lagged(lost)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn every_listener_hears_everything_or_how_much_it_has_lost() {
        let sender = channel(3);
        assert!(!sender.has_receivers());
        let weak = sender.downgrade();
        let (mut a, mut b) = (weak.subscribe(), weak.subscribe());
        for value in 1..=2 {
            sender.send(&value);
        }
        assert_eq!(block_on(a.recv()), Ok(1));
        for value in 3..=5 {
            sender.send(&value);
        }
        drop(sender);
        let rest = |receiver: &mut Receiver<i32>| std::array::from_fn(|_| block_on(receiver.recv()));
        assert_eq!(
            rest(&mut b),
            [Err(RecvError::Lagged(2)), Ok(3), Ok(4), Ok(5), Err(RecvError::Closed)]
        );
        assert_eq!(
            rest(&mut a),
            [Err(RecvError::Lagged(1)), Ok(3), Ok(4), Ok(5), Err(RecvError::Closed)]
        );
        assert_eq!(block_on(weak.subscribe().recv()), Err(RecvError::Closed));
    }

    #[test]
    fn who_does_not_listen_any_more_is_forgotten() {
        let sender = channel(3);
        drop(sender.downgrade().subscribe());
        sender.send(&1);
        assert!(!sender.has_receivers());
    }
}
