//! Unix sockets of control services: accepting, and passing bytes between a connection and its pipe.

use std::future::{pending, poll_fn};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use receptor_host::adapter::{Incoming, LocalEnd};
use receptor_host::error_text::os_text;
use receptor_host::socket_file::{self, SocketLock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::arrivals::{Arrival, Arrivals};

/// Most bytes read at one time.
const READ_MOST: usize = 64 << 10;

/// After the node has closed a session, its client may take so long to read the rest.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A client that has half-closed is looked at this often, whether it still is there.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// Pause after a failed accept: mostly there are no file descriptors left, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening control socket, its path locked.
#[derive(Debug)]
pub(crate) struct ControlListener {
    listener: UnixListener,
    _lock: SocketLock,
}

/// Listens on `path` with these permission bits.
pub(crate) async fn listen(path: String, mode: u32) -> Result<ControlListener, String> {
    let file = PathBuf::from(path);
    let opened = tokio::task::spawn_blocking(move || socket_file::listen(&file, mode)).await;
    let socket = opened.map_err(|_| "the listener's thread died".to_owned())??;
    let failed = |error: io::Error| os_text(&error);
    socket.listener.set_nonblocking(true).map_err(failed)?;
    Ok(ControlListener {
        listener: UnixListener::from_std(socket.listener).map_err(failed)?,
        _lock: socket.lock,
    })
}

/// Accepts for ever.
pub(crate) async fn accept(control: ControlListener, arrivals: Arrivals) {
    loop {
        match control.listener.accept().await {
            Ok((stream, _)) => {
                if arrivals.send(Arrival::Control(stream)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("accepting a control connection failed: {}", os_text(&error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Passes bytes both ways, each half closing on its own, until both have ended or one side is gone.
pub(crate) async fn serve(mut stream: UnixStream, local: LocalEnd) {
    let (mut reader, mut writer) = stream.split();
    let ended = Ended::default();
    tokio::select! {
        biased;
        () = to_client(&mut writer, &local, &ended) => {}
        () = to_node(&mut reader, &local, &ended) => {}
        () = overdue(&local) => {}
    }
}

/// Which halves have ended. Of one task only; atomic so that the task may change threads.
#[derive(Default)]
struct Ended {
    client: AtomicBool,
    node: AtomicBool,
}

/// Returns when the connection is done with.
async fn to_node(reader: &mut ReadHalf<'_>, local: &LocalEnd, ended: &Ended) {
    let mut buffer = BytesMut::new();
    loop {
        let Some(credit) = poll_fn(|cx| local.poll_credit(cx)).await else {
            return pending().await;
        };
        buffer.reserve(READ_MOST.min(credit));
        // This task is the pipe's only writer, so the credit is still there afterwards.
        match reader.read_buf(&mut (&mut buffer).limit(credit)).await {
            Ok(0) => break,
            Ok(_) => {
                // `None`: the node has closed; its last words go on without us.
                let Some(taken) = poll_fn(|cx| local.poll_write(cx, &buffer)).await else {
                    return pending().await;
                };
                debug_assert_eq!(taken, buffer.len());
                buffer.clear();
            }
            Err(_) => return,
        }
    }
    local.shut_down();
    ended.client.store(true, Ordering::Relaxed);
    while !ended.node.load(Ordering::Relaxed) {
        tokio::time::sleep(HANG_UP_CHECK).await;
        if socket_file::is_hung_up(reader.as_ref()) && !ended.node.load(Ordering::Relaxed) {
            return;
        }
    }
    pending().await
}

/// Returns when the connection is done with.
async fn to_client(writer: &mut WriteHalf<'_>, local: &LocalEnd, ended: &Ended) {
    loop {
        match poll_fn(|cx| local.poll_read(cx, usize::MAX)).await {
            Incoming::Data(data) => {
                if writer.write_all(&data).await.is_err() {
                    return;
                }
            }
            Incoming::Eof => break,
            Incoming::Closed => return,
        }
    }
    if writer.shutdown().await.is_err() {
        return;
    }
    ended.node.store(true, Ordering::Relaxed);
    if !ended.client.load(Ordering::Relaxed) {
        poll_fn(|cx| local.poll_closed(cx)).await;
    }
}

/// Returns when the node has closed the session some time ago and the client does not take the rest.
async fn overdue(local: &LocalEnd) {
    poll_fn(|cx| local.poll_closed(cx)).await;
    tokio::time::sleep(LAST_WORDS).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use receptor_core::id::PipeId;
    use receptor_host::adapter::{DriverEnd, LocalNews, ReadySet, pipe};

    use super::*;

    fn session() -> (UnixStream, DriverEnd, Arc<ReadySet>, tokio::task::JoinHandle<()>) {
        let (near, far) = UnixStream::pair().unwrap();
        let ready = Arc::new(ReadySet::default());
        let (driver, local) = pipe(PipeId(1), &ready);
        (far, driver, ready, tokio::spawn(serve(near, local)))
    }

    async fn news(driver: &DriverEnd, ready: &ReadySet) -> LocalNews {
        poll_fn(|cx| ready.poll_take(cx, 8, &mut Vec::new())).await;
        driver.take_news()
    }

    #[tokio::test]
    async fn a_client_may_half_close_and_still_read_its_answer() {
        let (mut client, driver, ready, serving) = session();
        client.write_all(b"status\n").await.unwrap();
        client.shutdown().await.unwrap();
        let mut seen = news(&driver, &ready).await;
        while !seen.eof {
            let more = news(&driver, &ready).await;
            assert!(more.data.is_empty() || seen.data.is_empty());
            seen = LocalNews { eof: more.eof, ..seen };
        }
        assert_eq!(seen.data, [&b"status\n"[..]]);
        driver.deliver(Bytes::from_static(b"{}\n"));
        driver.deliver_eof();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "{}\n");
        serving.await.unwrap();
        while !news(&driver, &ready).await.closed {}
    }

    #[tokio::test]
    async fn last_words_arrive_although_the_node_has_closed() {
        let (mut client, driver, _ready, serving) = session();
        driver.deliver(Bytes::from_static(b"bye"));
        drop(driver);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "bye");
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_after_half_closing_is_noticed() {
        let (mut client, driver, ready, serving) = session();
        client.shutdown().await.unwrap();
        assert!(news(&driver, &ready).await.eof);
        drop(client);
        serving.await.unwrap();
        assert!(driver.take_news().closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_session_whose_client_does_not_read_ends() {
        let (_client, driver, _ready, serving) = session();
        for _ in 0..64 {
            driver.deliver(Bytes::from(vec![0; 64 << 10]));
        }
        drop(driver);
        serving.await.unwrap();
    }
}
