//! Unix sockets of control services: accepting, and passing bytes between a connection and its pipe.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use receptor_host::error_text::os_text;
use receptor_host::socket_file::{self, SocketLock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::arrivals::{Arrival, Arrivals};
use crate::pipe::{Incoming, LocalEnd};

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
    let failed = |error: io::Error| format!("error opening Unix socket: {}", os_text(&error));
    socket.listener.set_nonblocking(true).map_err(failed)?;
    Ok(ControlListener { listener: UnixListener::from_std(socket.listener).map_err(failed)?, _lock: socket.lock })
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

/// Which halves have ended.
#[derive(Default)]
struct Ended {
    client: Cell<bool>,
    node: Cell<bool>,
}

/// Returns when the connection is done with.
async fn to_node(reader: &mut ReadHalf<'_>, local: &LocalEnd, ended: &Ended) {
    let mut buffer = BytesMut::new();
    loop {
        let Some(credit) = poll_fn(|cx| local.poll_credit(cx)).await else { return pending().await };
        buffer.reserve(READ_MOST.min(credit));
        // This task is the pipe's only writer, so the credit is still there afterwards.
        match reader.read_buf(&mut (&mut buffer).limit(credit)).await {
            Ok(0) => break,
            Ok(_) => {
                // `None`: the node has closed; its last words go on without us.
                let Some(taken) = poll_fn(|cx| local.poll_write(cx, &buffer)).await else { return pending().await };
                debug_assert_eq!(taken, buffer.len());
                buffer.clear();
            }
            Err(_) => return,
        }
    }
    local.shut_down();
    ended.client.set(true);
    while !ended.node.get() {
        tokio::time::sleep(HANG_UP_CHECK).await;
        let gone = reader.as_ref().ready(tokio::io::Interest::WRITABLE).await;
        if gone.is_ok_and(|ready| ready.is_write_closed()) && !ended.node.get() {
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
    ended.node.set(true);
    if !ended.client.get() {
        poll_fn(|cx| local.poll_closed(cx)).await;
    }
}

/// Returns when the node has closed the session some time ago and the client does not take the rest.
async fn overdue(local: &LocalEnd) {
    poll_fn(|cx| local.poll_closed(cx)).await;
    tokio::time::sleep(LAST_WORDS).await;
}
