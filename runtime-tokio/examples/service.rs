//! A service on the mesh: one node listens and sends back what it gets in capitals, another dials it.
//!
//! Both nodes run in this program and are connected through memory; between machines give them backends of kind
//! `Listener` and `Peer` instead, and leave `attach` out.

use std::error::Error;
use std::time::Duration;

use receptor_core::id::BackendId;
use receptor_tokio::config::{Backend, BackendKind};
use receptor_tokio::{Config, Listener, Mesh, MeshError, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// At most 8 characters.
const SERVICE: &str = "shout";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = start("server").await?;
    let client = start("client").await?;
    let (left, right) = tokio::io::duplex(64 << 10);
    server.attach(BackendId(0), left, "client").await?;
    client.attach(BackendId(0), right, "server").await?;

    tokio::spawn(serve(server.listen(SERVICE).await?));

    // There is no route in the first moments.
    let mut stream = loop {
        match client.dial("server", SERVICE).await {
            Ok(stream) => break stream,
            Err(MeshError::Refused(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => return Err(error.into()),
        }
    };
    stream.write_all(b"is anybody there?").await?;
    // Ends our direction; the other goes on.
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");

    client.shutdown().await;
    server.shutdown().await;
    Ok(())
}

async fn start(name: &str) -> Result<Mesh, Box<dyn Error>> {
    let mut config = Config::new(name.into());
    config.backends = vec![Backend::new(BackendKind::External)];
    Ok(Mesh::start(config, Options::default()).await?)
}

/// Serves one client after another until the node ends.
async fn serve(mut listener: Listener) {
    while let Ok(mut stream) = listener.accept().await {
        let mut text = String::new();
        if stream.read_to_string(&mut text).await.is_ok()
            && stream.write_all(text.to_uppercase().as_bytes()).await.is_ok()
        {
            // Reads on until the client has everything and closes: who drops a stream breaks it off.
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0]).await;
        }
    }
}
