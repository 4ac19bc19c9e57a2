//! TCP connections of links: listening and dialling.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Async;
use futures_lite::io::{AsyncRead, AsyncWrite};
use receptor_core::id::BackendId;
use receptor_host::error_text::os_text;
use receptor_host::tcp;

use super::{Connection, Linked, NewLink};
use crate::arrivals::{Arrival, Arrivals};
use crate::task::spawn_blocking;
use crate::time::{sleep, timeout};

/// All addresses of a name are tried within this time; who dials may have less, for handshakes and all.
const CONNECT_LIMIT: Duration = Duration::from_secs(14);

/// Pause after a failed accept: mostly there are no file descriptors left, and trying at once would only spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connected socket.
pub(crate) struct Connected {
    stream: Async<TcpStream>,
    /// The last read did not fill its buffer: there is nothing to read before the reactor says so.
    drained: bool,
}

impl Connected {
    pub(crate) fn new(stream: Async<TcpStream>) -> Self {
        if let Err(error) = tcp::set_link_options(&stream) {
            // Only speed is at stake; a broken socket is found by its first read.
            tracing::debug!("setting TCP options failed: {}", os_text(&error));
        }
        Self { stream, drained: false }
    }
}

impl Connection for Connected {
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}

impl AsyncRead for Connected {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.drained {
            ready!(self.stream.poll_readable(cx))?;
            self.drained = false;
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.drained = read.as_ref().is_ok_and(|&count| 0 < count && count < buf.len());
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connected {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

/// Binds a listener; its real address comes with it.
pub(crate) async fn listen(address: String) -> Result<(Async<TcpListener>, String), String> {
    // Resolving a name may block.
    let bound = spawn_blocking(move || {
        let listener = tcp::listen(&address)?;
        Ok::<_, String>((listener, address))
    })
    .await;
    let (listener, address) = bound.map_err(|_| "the listener's thread died".to_owned())??;
    let failed = |error| format!("listen tcp {address}: {}", os_text(&error));
    let listener = Async::new(listener).map_err(failed)?;
    let local = listener.get_ref().local_addr().map_err(failed)?;
    Ok((listener, local.to_string()))
}

/// Accepts for ever. Waiting for the driver is the back-pressure on those who connect.
pub(crate) async fn accept(listener: &Async<TcpListener>, backend: BackendId, arrivals: &Arrivals) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let linked = Linked {
                    connection: NewLink::Plain(Box::new(Connected::new(stream))),
                    remote: remote.to_string(),
                    certified: None,
                };
                if arrivals.send(Arrival::Accepted(backend, linked)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("accepting a TCP connection failed: {}", os_text(&error));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tries all addresses in turn, each for its share of the time.
pub(crate) async fn connect(address: &str) -> Result<(Async<TcpStream>, String), String> {
    let targets = resolve(address).await?;
    let connected = connect_to(&targets).await;
    connected.map_err(|last| last.unwrap_or_else(|| format!("dial tcp {address}: no such host")))
}

/// The first of these addresses that answers; or why the last one did not.
async fn connect_to(targets: &[SocketAddr]) -> Result<(Async<TcpStream>, String), Option<String>> {
    let mut last = None;
    let end = Instant::now() + CONNECT_LIMIT;
    for (index, &target) in targets.iter().enumerate() {
        let share = tcp::share(end.saturating_duration_since(Instant::now()), targets.len() - index);
        match timeout(share, Async::<TcpStream>::connect(target)).await {
            Ok(Ok(stream)) => return Ok((stream, target.to_string())),
            Ok(Err(error)) => last = Some(format!("dial tcp {target}: connect: {}", os_text(&error))),
            Err(_) => last = Some(format!("dial tcp {target}: i/o timeout")),
        }
    }
    Err(last)
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(literal) = address.parse() {
        return Ok(vec![literal]);
    }
    let address = address.to_owned();
    spawn_blocking(move || tcp::resolve(&address))
        .await
        .unwrap_or_else(|_| Err("the resolver's thread died".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_name_are_tried_in_turn() {
        futures_lite::future::block_on(tries_in_turn());
    }

    async fn tries_in_turn() {
        let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let (_stream, remote) = connect_to(&[closed(), open, closed()]).await.unwrap();
        assert_eq!(remote, open.to_string());
        let (first, last) = (closed(), closed());
        let error = connect_to(&[first, last]).await.map(drop).unwrap_err();
        assert_eq!(error, Some(format!("dial tcp {last}: connect: connection refused")));
        assert_eq!(connect_to(&[]).await.map(drop).unwrap_err(), None);
    }
}
