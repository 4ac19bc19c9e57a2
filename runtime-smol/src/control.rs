//! Unix sockets of control services: accepting, and passing bytes between a connection and its pipe.

use std::future::{pending, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_io::Async;
use bytes::BytesMut;
use futures_lite::future::or;
use futures_lite::io::{AsyncReadExt as _, AsyncWriteExt as _};
use receptor_host::adapter::{Incoming, LocalEnd};
use receptor_host::error_text::os_text;
use receptor_host::socket_file::{self, SocketLock};

use crate::arrivals::{Arrival, Arrivals};
use crate::task::spawn_blocking;
use crate::time::sleep;

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
    listener: Async<UnixListener>,
    _lock: SocketLock,
}

/// Listens on `path` with these permission bits.
pub(crate) async fn listen(path: String, mode: u32) -> Result<ControlListener, String> {
    let file = PathBuf::from(path);
    let opened = spawn_blocking(move || socket_file::listen(&file, mode)).await;
    let socket = opened.map_err(|_| "the listener's thread died".to_owned())??;
    let failed = |error: io::Error| os_text(&error);
    Ok(ControlListener {
        listener: Async::new(socket.listener).map_err(failed)?,
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
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Passes bytes both ways, each half closing on its own, until both have ended or one side is gone.
pub(crate) async fn serve(stream: Async<UnixStream>, local: LocalEnd) {
    let ended = Ended::default();
    let (to_client, to_node) = (to_client(&stream, &local, &ended), to_node(&stream, &local, &ended));
    or(or(to_client, to_node), overdue(&local)).await;
}

/// Which halves have ended. Of one task only; atomic so that the task may change threads.
#[derive(Default)]
struct Ended {
    client: AtomicBool,
    node: AtomicBool,
}

/// Returns when the connection is done with.
async fn to_node(mut reader: &Async<UnixStream>, local: &LocalEnd, ended: &Ended) {
    let mut buffer = BytesMut::new();
    // The last read did not fill the buffer: there is nothing to read before the reactor says so.
    let mut drained = false;
    loop {
        let Some(credit) = poll_fn(|cx| local.poll_credit(cx)).await else {
            return pending().await;
        };
        if drained && reader.readable().await.is_err() {
            return;
        }
        buffer.resize(READ_MOST.min(credit), 0);
        // This task is the pipe's only writer, so the credit is still there afterwards.
        match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                // `None`: the node has closed; its last words go on without us.
                let Some(taken) = poll_fn(|cx| local.poll_write(cx, &buffer[..count])).await else {
                    return pending().await;
                };
                debug_assert_eq!(taken, count);
                drained = count < buffer.len();
            }
            Err(_) => return,
        }
    }
    local.shut_down();
    ended.client.store(true, Ordering::Relaxed);
    while !ended.node.load(Ordering::Relaxed) {
        sleep(HANG_UP_CHECK).await;
        if socket_file::is_hung_up(reader) && !ended.node.load(Ordering::Relaxed) {
            return;
        }
    }
    pending().await
}

/// Returns when the connection is done with.
async fn to_client(mut writer: &Async<UnixStream>, local: &LocalEnd, ended: &Ended) {
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
    if writer.get_ref().shutdown(Shutdown::Write).is_err() {
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
    sleep(LAST_WORDS).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_executor::Task;
    use bytes::Bytes;
    use receptor_core::id::PipeId;
    use receptor_host::adapter::{DriverEnd, LocalNews, ReadySet, pipe};

    use super::*;
    use crate::testing::{run, spawn};

    fn session() -> (Async<UnixStream>, DriverEnd, Arc<ReadySet>, Task<()>) {
        let (near, far) = Async::<UnixStream>::pair().unwrap();
        let ready = Arc::new(ReadySet::default());
        let (driver, local) = pipe(PipeId(1), &ready);
        (far, driver, ready, spawn(serve(near, local)))
    }

    async fn news(driver: &DriverEnd, ready: &ReadySet) -> LocalNews {
        poll_fn(|cx| ready.poll_take(cx, 8, &mut Vec::new())).await;
        driver.take_news()
    }

    #[test]
    fn a_client_may_half_close_and_still_read_its_answer() {
        run(async {
            let (mut client, driver, ready, serving) = session();
            client.write_all(b"status\n").await.unwrap();
            client.get_ref().shutdown(Shutdown::Write).unwrap();
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
            serving.await;
            while !news(&driver, &ready).await.closed {}
        });
    }

    #[test]
    fn last_words_arrive_although_the_node_has_closed() {
        run(async {
            let (mut client, driver, _ready, serving) = session();
            driver.deliver(Bytes::from_static(b"bye"));
            drop(driver);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "bye");
            serving.await;
        });
    }

    #[test]
    fn a_client_that_left_after_half_closing_is_noticed() {
        run(async {
            let (client, driver, ready, serving) = session();
            client.get_ref().shutdown(Shutdown::Write).unwrap();
            assert!(news(&driver, &ready).await.eof);
            drop(client);
            serving.await;
            assert!(driver.take_news().closed);
        });
    }

    #[test]
    fn a_closed_session_whose_client_does_not_read_ends() {
        run(async {
            let (_client, driver, _ready, serving) = session();
            for _ in 0..64 {
                driver.deliver(Bytes::from(vec![0; 64 << 10]));
            }
            drop(driver);
            serving.await;
        });
    }
}
