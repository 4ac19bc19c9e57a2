//! TCP connections of links: listening and dialling.

use std::net::SocketAddr;
use std::time::Duration;

use receptor_core::id::{BackendId, TaskId};
use receptor_host::error_text::os_text;
use receptor_host::tcp;
use tokio::net::{TcpListener, TcpStream};

use crate::arrivals::{Arrival, Arrivals};

/// A dial that takes longer has failed, name resolution included.
const DIAL_LIMIT: Duration = Duration::from_secs(15);

/// Pause after a failed accept: mostly there are no file descriptors left, and trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
pub(crate) async fn accept(listener: TcpListener, backend: BackendId, arrivals: Arrivals) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                set_options(&stream);
                let arrival = Arrival::Accepted {
                    backend,
                    connection: Box::new(stream),
                    remote: remote.to_string(),
                };
                if arrivals.send(arrival).await.is_err() {
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

/// Dials and reports the result of `task`.
pub(crate) async fn dial(task: TaskId, address: String, arrivals: Arrivals) {
    let result = match tokio::time::timeout(DIAL_LIMIT, connect(&address)).await {
        Ok(result) => result,
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    };
    // The driver is gone: nobody needs the answer.
    let _ = arrivals
        .send(Arrival::Dialed(
            task,
            result.map(|(stream, remote)| (Box::new(stream) as _, remote)),
        ))
        .await;
}

/// Tries all addresses in turn.
pub(crate) async fn connect(address: &str) -> Result<(TcpStream, String), String> {
    let mut last = None;
    for target in resolve(address).await? {
        match TcpStream::connect(target).await {
            Ok(stream) => {
                set_options(&stream);
                return Ok((stream, target.to_string()));
            }
            Err(error) => last = Some(format!("dial tcp {target}: connect: {}", os_text(&error))),
        }
    }
    Err(last.unwrap_or_else(|| format!("dial tcp {address}: no such host")))
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

fn set_options(stream: &TcpStream) {
    if let Err(error) = tcp::set_link_options(stream) {
        // Only speed is at stake; a broken socket is found by its first read.
        tracing::debug!("setting TCP options failed: {}", os_text(&error));
    }
}
