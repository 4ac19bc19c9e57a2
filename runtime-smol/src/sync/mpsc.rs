//! A queue with one receiver.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::Stream as _;

use super::Closed;

pub(crate) fn channel<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = async_channel::bounded(limit);
    (Sender(sender), Receiver(Box::pin(receiver)))
}

#[derive(Debug)]
pub(crate) struct Sender<T>(async_channel::Sender<T>);

impl<T> Sender<T> {
    /// Waits for room.
    pub(crate) async fn send(&self, value: T) -> Result<(), Closed> {
        self.0.send(value).await.map_err(|_| Closed)
    }

    /// Waits for room; blocks.
    pub(crate) fn blocking_send(&self, value: T) -> Result<(), Closed> {
        self.0.send_blocking(value).map_err(|_| Closed)
    }

    /// Fails also if there is no room.
    pub(crate) fn try_send(&self, value: T) -> Result<(), Closed> {
        self.0.try_send(value).map_err(|_| Closed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Pinned, because a receiver that is polled holds its place in the row of those that wait.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Pin<Box<async_channel::Receiver<T>>>);

impl<T> Receiver<T> {
    /// The next value; `None` when all senders are gone.
    pub(crate) async fn recv(&self) -> Option<T> {
        self.0.recv().await.ok()
    }

    /// Takes up to `limit` values and says how many; none when all senders are gone.
    pub(crate) fn poll_recv_many(&mut self, cx: &mut Context<'_>, into: &mut Vec<T>, limit: usize) -> Poll<usize> {
        for count in 0..limit {
            match self.0.as_mut().poll_next(cx) {
                Poll::Ready(Some(value)) => into.push(value),
                Poll::Pending if count == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(count),
            }
        }
        Poll::Ready(limit)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Else values would live as long as the last sender, and who waits for an answer to one would wait in vain.
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn values_are_taken_in_one_go_and_the_end_is_seen() {
        let (sender, mut receiver) = channel(3);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut values = Vec::new();
        assert!(receiver.poll_recv_many(cx, &mut values, 2).is_pending());
        for value in 1..=3 {
            sender.try_send(value).unwrap();
        }
        assert!(sender.try_send(4).is_err());
        assert_eq!(receiver.poll_recv_many(cx, &mut values, 2), Poll::Ready(2));
        drop(sender);
        assert_eq!(receiver.poll_recv_many(cx, &mut values, 2), Poll::Ready(1));
        assert_eq!(receiver.poll_recv_many(cx, &mut values, 2), Poll::Ready(0));
        assert_eq!(values, [1, 2, 3]);
    }

    #[test]
    fn what_nobody_will_receive_is_dropped() {
        let (sender, receiver) = channel(3);
        let value = Arc::new(());
        sender.try_send(Arc::clone(&value)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(sender.is_closed() && sender.blocking_send(value).is_err());
    }
}
