//! Waiting.

use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

pub(crate) async fn sleep(duration: Duration) {
    Timer::after(duration).await;
}

/// The time was over first.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Gives the future so much time.
pub(crate) async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    future::or(async { Ok(future.await) }, async {
        sleep(limit).await;
        Err(Elapsed)
    })
    .await
}
