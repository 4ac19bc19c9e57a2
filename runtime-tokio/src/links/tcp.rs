//! TCP connections of links: listening and dialling.

use std::net::SocketAddr;
use std::time::Duration;

use receptor_core::id::BackendId;
use receptor_host::error_text::os_text;
use receptor_host::tcp;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::{Linked, NewLink};
use crate::arrivals::{Arrival, Arrivals};

/// All addresses of a name are tried within this time; who dials may have less, for handshakes and all.
const CONNECT_LIMIT: Duration = Duration::from_secs(14);

/// Pause after a failed accept: mostly there are no file descriptors left, and trying at once would only spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds a listener; its real address comes with it.
pub(crate) async fn listen(address: String) -> Result<(TcpListener, String), String> {
    // Resolving a name may block.
    let bound = tokio::task::spawn_blocking(move || {
        let listener = tcp::listen(&address)?;
        listener
            .set_nonblocking(true)
            .map_err(|error| format!("listen tcp {address}: {}", os_text(&error)))?;
        Ok::<_, String>((listener, address))
    })
    .await;
    let (listener, address) = bound.map_err(|_| "the listener's thread died".to_owned())??;
    let failed = |error| format!("listen tcp {address}: {}", os_text(&error));
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local.to_string()))
}

/// Accepts for ever. Waiting for the driver is the back-pressure on those who connect.
pub(crate) async fn accept(listener: &TcpListener, backend: BackendId, arrivals: &Arrivals) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                set_options(&stream);
                let linked = Linked {
                    connection: NewLink::Plain(Box::new(stream)),
                    remote: remote.to_string(),
                    certified: None,
                };
                if arrivals.send(Arrival::Accepted(backend, linked)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("accepting a TCP connection failed: {}", os_text(&error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tries all addresses in turn, each for its share of the time.
pub(crate) async fn connect(address: &str) -> Result<(TcpStream, String), String> {
    let targets = resolve(address).await?;
    let connected = connect_to(&targets).await;
    connected.map_err(|last| last.unwrap_or_else(|| format!("dial tcp {address}: no such host")))
}

/// The first of these addresses that answers; or why the last one did not.
async fn connect_to(targets: &[SocketAddr]) -> Result<(TcpStream, String), Option<String>> {
    let mut last = None;
    let end = Instant::now() + CONNECT_LIMIT;
    for (index, &target) in targets.iter().enumerate() {
        let share = tcp::share(end.saturating_duration_since(Instant::now()), targets.len() - index);
        match timeout(share, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                set_options(&stream);
                return Ok((stream, target.to_string()));
            }
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
    tokio::task::spawn_blocking(move || tcp::resolve(&address))
        .await
        .unwrap_or_else(|_| Err("the resolver's thread died".to_owned()))
}

pub(crate) fn set_options(stream: &TcpStream) {
    if let Err(error) = tcp::set_link_options(stream) {
        // Only speed is at stake; a broken socket is found by its first read.
        tracing::debug!("setting TCP options failed: {}", os_text(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_addresses_of_a_name_are_tried_in_turn() {
        let closed = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let (_stream, remote) = connect_to(&[closed(), open, closed()]).await.unwrap();
        assert_eq!(remote, open.to_string());
        let (first, last) = (closed(), closed());
        let error = connect_to(&[first, last]).await.map(drop).unwrap_err();
        assert_eq!(error, Some(format!("dial tcp {last}: connect: connection refused")));
        assert_eq!(connect_to(&[]).await.map(drop).unwrap_err(), None);
    }
}
