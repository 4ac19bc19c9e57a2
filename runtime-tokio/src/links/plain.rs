//! Connections the driver polls itself, so that a frame passes from socket to socket without a change of task.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use super::{Connection, FLUSH_LIMIT, ReadOutcome};
use bytes::{Buf, BytesMut};
use receptor_host::adapter::{Batch, Flag, FrameReader, ReadBuffer};
use receptor_host::error_text::os_text;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Parts given to one gathered write. Two per large frame.
const GATHER: usize = 128;

/// One link's connection with what is under way on it.
pub(crate) struct Plain {
    connection: Box<dyn Connection>,
    flag: Arc<Flag>,
    waker: Waker,
    reader: FrameReader,
    batch: Batch,
    /// The node has said that frames wait, and has not been pulled dry since.
    pub(crate) frames_wait: bool,
}

impl Plain {
    /// Takes over a connection. The flag is raised once, so that it is looked at.
    pub(crate) fn new(connection: Box<dyn Connection>, flag: Arc<Flag>) -> Self {
        flag.raise();
        let waker = Waker::from(Arc::clone(&flag));
        Self {
            connection,
            flag,
            waker,
            reader: FrameReader::default(),
            batch: Batch::default(),
            frames_wait: false,
        }
    }

    /// Reads once and cuts whole frames, which are slices of `shared`.
    pub(crate) fn read(&mut self, shared: &mut ReadBuffer, frames: &mut Vec<BytesMut>) -> ReadOutcome {
        let mut cx = Context::from_waker(&self.waker);
        let read = match self.reader.spare_room(shared) {
            // It keeps no state between two polls.
            Some(room) => pin!(self.connection.read_buf(room)).poll(&mut cx),
            None => pin!(self.connection.read(self.reader.room(shared))).poll(&mut cx),
        };
        match read {
            Poll::Pending => return ReadOutcome::Pending,
            Poll::Ready(Ok(0)) => return ReadOutcome::Gone("connection closed by peer".to_owned()),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => return ReadOutcome::Gone(os_text(&error)),
            Poll::Ready(Ok(count)) => self.reader.received(count, shared, frames),
        }
        // There may be more: other links come first.
        self.flag.raise();
        ReadOutcome::Progress
    }

    /// Whether a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        self.batch.has_remaining()
    }

    /// Bytes of frames to be pulled from the node at one time. What is not yet pulled stays where priorities can see it.
    pub(crate) fn room(&self) -> usize {
        self.batch.room()
    }

    /// Takes frames to be written after what is under way.
    pub(crate) fn enqueue(&mut self, frames: &mut Vec<BytesMut>) {
        self.batch.extend(frames);
        if !self.connection.is_write_vectored() {
            self.batch.coalesce();
        }
    }

    /// Writes until everything is out or the connection takes no more; then the flag will be raised.
    pub(crate) fn write(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(&self.waker);
        let written = write_batch(&mut self.connection, &mut self.batch, &mut cx);
        if written.is_pending() {
            self.batch.blocked();
        }
        written
    }

    /// Writes what is under way and closes the sending half, within a second; says how that went.
    pub(crate) async fn flush_and_shut_down(&mut self) -> &'static str {
        let flush = async {
            std::future::poll_fn(|cx| write_batch(&mut self.connection, &mut self.batch, cx)).await?;
            self.connection.shutdown().await
        };
        match tokio::time::timeout(FLUSH_LIMIT, flush).await {
            Ok(Ok(())) => "closed",
            Ok(Err(_)) => "closed; the connection broke before everything was sent",
            Err(_) => "closed; the peer did not take everything in time",
        }
    }

    /// Waits for the peer's end, a second at most. Closing a socket with unread input resets the connection, and the peer
    /// might lose our last words.
    pub(crate) async fn linger(mut self) {
        let drain = async {
            let mut sink = [0; 4096];
            while self.connection.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        };
        // The end of the time is the end of the connection either way.
        let _ = tokio::time::timeout(FLUSH_LIMIT, drain).await;
    }
}

fn write_batch(connection: &mut Box<dyn Connection>, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if !batch.has_remaining() {
        return Poll::Ready(Ok(()));
    }
    while batch.has_remaining() {
        let mut parts = [IoSlice::new(&[]); GATHER];
        let count = batch.chunks_vectored(&mut parts);
        let written = ready!(Pin::new(&mut *connection).poll_write_vectored(cx, &parts[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        batch.advance(written);
    }
    Pin::new(connection).poll_flush(cx)
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain")
            .field("source", &self.flag)
            .field("reading", &self.reader.waiting())
            .field("writing", &self.batch.remaining())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use receptor_core::id::LinkId;
    use receptor_host::adapter::{ReadySet, Source};
    use tokio::io::{AsyncRead, DuplexStream, ReadBuf};

    fn link(capacity: usize) -> (Plain, DuplexStream, Arc<ReadySet>) {
        let (near, far) = tokio::io::duplex(capacity);
        let ready = Arc::new(ReadySet::default());
        (
            Plain::new(Box::new(near), ready.flag(Source::Link(LinkId(1)))),
            far,
            ready,
        )
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|f| [&(f.len() as u16).to_le_bytes()[..], f].concat())
            .collect()
    }

    fn samples() -> Vec<Vec<u8>> {
        vec![vec![1], vec![2; 300], vec![3; 65_535], vec![4; 2], vec![5; 40_000]]
    }

    fn small() -> Vec<Vec<u8>> {
        vec![vec![1], vec![2; 300], vec![3; 2000], vec![4; 2]]
    }

    /// Waits until the link's flag is raised.
    async fn raised(ready: &ReadySet) {
        std::future::poll_fn(|cx| ready.poll_take(cx, 8, &mut Vec::new())).await;
    }

    #[tokio::test]
    async fn frames_are_cut_from_any_slicing() {
        for (slice, samples) in [
            (1, small()),
            (2, small()),
            (3, small()),
            (999, samples()),
            (1 << 20, samples()),
        ] {
            let (mut link, mut far, ready) = link(slice);
            let stream = framed(&samples);
            let feed = tokio::spawn(async move {
                far.write_all(&stream).await.unwrap();
            });
            let (mut shared, mut frames, mut all) = (ReadBuffer::default(), Vec::new(), Vec::new());
            loop {
                match link.read(&mut shared, &mut frames) {
                    ReadOutcome::Progress => all.append(&mut frames),
                    ReadOutcome::Pending => raised(&ready).await,
                    ReadOutcome::Gone(reason) => {
                        assert_eq!(reason, "connection closed by peer");
                        break;
                    }
                }
            }
            feed.await.unwrap();
            assert_eq!(all, samples, "slices of {slice}");
        }
    }

    #[tokio::test]
    async fn partial_writes_go_on_where_they_stopped() {
        for (capacity, samples) in [(1, small()), (2, small()), (5, small()), (1000, samples())] {
            let (mut link, mut far, ready) = link(capacity);
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                all
            });
            let mut frames = samples.iter().map(|f| BytesMut::from(&f[..])).collect();
            link.enqueue(&mut frames);
            assert!(frames.is_empty());
            while link.write().is_pending() {
                assert!(link.is_writing());
                raised(&ready).await;
            }
            assert!(!link.is_writing());
            drop(link);
            assert_eq!(reader.await.unwrap(), framed(&samples), "capacity {capacity}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_flushes_first() {
        let (mut link, mut far, _ready) = link(16);
        link.enqueue(&mut vec![BytesMut::from(&[9; 500][..])]);
        let closing = tokio::spawn(async move {
            assert_eq!(link.flush_and_shut_down().await, "closed");
            link.linger().await;
        });
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, framed(&[vec![9; 500]]));
        drop(far);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn closing_does_not_wait_for_a_stuck_peer() {
        let (mut link, _far, _ready) = link(16);
        link.enqueue(&mut vec![BytesMut::from(&[9; 500][..])]);
        let start = tokio::time::Instant::now();
        assert!(link.flush_and_shut_down().await.contains("in time"));
        link.linger().await;
        assert!(start.elapsed() <= 2 * FLUSH_LIMIT + std::time::Duration::from_millis(10));
    }

    /// Hides that its inner connection gathers.
    struct Ungathered(DuplexStream);

    impl AsyncRead for Ungathered {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Ungathered {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn connections_that_do_not_gather_get_whole_batches() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let ready = Arc::new(ReadySet::default());
        let mut link = Plain::new(Box::new(Ungathered(near)), ready.flag(Source::Link(LinkId(1))));
        link.enqueue(&mut samples().iter().map(|f| BytesMut::from(&f[..])).collect());
        assert!(link.write().is_ready());
        drop(link);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, framed(&samples()));
    }
}
