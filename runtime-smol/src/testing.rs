//! What the tests of this crate run on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_executor::{Executor, Task};
use futures_lite::io::{AsyncRead, AsyncWrite};

use crate::task::{BoxFuture, Spawner};

static EXECUTOR: Executor<'static> = Executor::new();

/// Runs a test, two minutes at most.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let limit = crate::time::timeout(Duration::from_secs(120), test);
    async_io::block_on(EXECUTOR.run(limit)).expect("a test takes no two minutes");
}

/// Whether one of five attempts succeeds. Time is real here: a busy machine may lose a second, but hardly five times.
pub(crate) async fn one_of_five(mut attempt: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..5 {
        if attempt().await {
            return true;
        }
    }
    false
}

/// Beside the test; dropped with its handle.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    EXECUTOR.spawn(future)
}

pub(crate) fn spawner() -> Spawner {
    Spawner::new(|task: BoxFuture| EXECUTOR.spawn(task).detach())
}

/// A connection within the process that holds so many bytes each way.
pub(crate) struct Duplex {
    reader: piper::Reader,
    writer: piper::Writer,
}

pub(crate) fn duplex(capacity: usize) -> (Duplex, Duplex) {
    let (near_reader, far_writer) = piper::pipe(capacity);
    let (far_reader, near_writer) = piper::pipe(capacity);
    let near = Duplex {
        reader: near_reader,
        writer: near_writer,
    };
    let far = Duplex {
        reader: far_reader,
        writer: far_writer,
    };
    (near, far)
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
