//! Two nodes on async-std's executor exchange a stream, which async-std reads and writes.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use async_std::future::timeout;
use async_std::io::{ReadExt as _, Write as _, WriteExt as _};
use async_std::task;
use receptor_host::tcp::free_loopback_port;
use receptor_smol::config::{Backend, BackendKind};
use receptor_smol::{Config, Mesh, NodeId, Options};

async fn start(name: &str, kind: BackendKind) -> Mesh {
    let mut config = Config::new(NodeId::new(name));
    config.backends.push(Backend {
        kind,
        cost: 1.0,
        node_costs: Default::default(),
        allowed_peers: None,
    });
    let spawn = |future| drop(task::spawn(future));
    Mesh::start(config, Options::default(), spawn).await.unwrap()
}

async fn exchange() {
    let bind = format!("127.0.0.1:{}", free_loopback_port().unwrap());
    let a = start("a", BackendKind::listener(bind.clone())).await;
    let b = start("b", BackendKind::peer(bind)).await;

    let mut listener = a.listen("reverse").await.unwrap();
    let server = task::spawn(async move {
        let mut stream = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
        // Kept until the other end has everything.
        stream
    });
    let mut stream = loop {
        match b.dial("a", "reverse").await {
            Ok(stream) => break stream,
            // No route yet.
            Err(_) => task::sleep(Duration::from_millis(20)).await,
        }
    };
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    stream.write_all(&sent).await.unwrap();
    poll_fn(|cx| Pin::new(&mut stream).poll_close(cx)).await.unwrap();
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).await.unwrap();
    back.reverse();
    assert!(back == sent);
    drop(server.await);
    b.shutdown().await;
    a.shutdown().await;
}

#[test]
fn two_nodes_exchange_a_stream() {
    task::block_on(timeout(Duration::from_secs(120), exchange())).unwrap();
}
