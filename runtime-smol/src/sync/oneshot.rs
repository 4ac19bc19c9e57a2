//! One value from here to there.

use super::Closed;

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = async_channel::bounded(1);
    (Sender(sender), Receiver(receiver))
}

#[derive(Debug)]
pub(crate) struct Sender<T>(async_channel::Sender<T>);

impl<T> Sender<T> {
    /// Gives the value back if nobody waits for it.
    pub(crate) fn send(self, value: T) -> Result<(), T> {
        self.0.try_send(value).map_err(async_channel::TrySendError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T>(async_channel::Receiver<T>);

impl<T> Receiver<T> {
    pub(crate) async fn recv(self) -> Result<T, Closed> {
        self.0.recv().await.map_err(|_| Closed)
    }
}
