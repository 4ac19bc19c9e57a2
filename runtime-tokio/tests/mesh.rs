//! Whole nodes over loopback.

use std::time::{Duration, Instant};

use receptor_core::config::{Backend, BackendKind, Config, ControlService, SocketFile};
use receptor_core::id::{BackendId, NodeId};
use receptor_host::tcp::free_loopback_port;
use receptor_tokio::{End, Mesh, MeshError, MeshEvent, Options, ReceiveError, StartError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn backend(kind: BackendKind) -> Backend {
    Backend {
        kind,
        cost: 1.0,
        node_costs: Default::default(),
        allowed_peers: None,
    }
}

fn config(name: &str, backends: impl IntoIterator<Item = BackendKind>) -> Config {
    let mut config = Config::new(NodeId::new(name));
    config.backends = backends.into_iter().map(backend).collect();
    config
}

async fn start(name: &str, backends: impl IntoIterator<Item = BackendKind>) -> Mesh {
    Mesh::start(config(name, backends), Options::default()).await.unwrap()
}

fn listener(port: u16) -> BackendKind {
    BackendKind::listener(format!("127.0.0.1:{port}"))
}

fn peer(port: u16) -> BackendKind {
    BackendKind::peer(format!("127.0.0.1:{port}"))
}

async fn until_reachable(mesh: &Mesh, node: &str) {
    // A ping that is lost while routes still change would be answered after ten seconds.
    let patience = Duration::from_secs(1);
    let reached = async {
        while !matches!(tokio::time::timeout(patience, mesh.ping(node)).await, Ok(Ok(_))) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("{node} is not reachable"));
}

/// A chain `n0 - n1 - …` over TCP.
async fn chain(count: usize) -> Vec<Mesh> {
    let ports: Vec<u16> = (0..count).map(|_| free_loopback_port().unwrap()).collect();
    let mut nodes = Vec::new();
    for number in 0..count {
        let up = (number > 0).then(|| peer(ports[number - 1]));
        nodes.push(start(&format!("n{number}"), up.into_iter().chain([listener(ports[number])])).await);
    }
    until_reachable(&nodes[0], &format!("n{}", count - 1)).await;
    until_reachable(&nodes[count - 1], "n0").await;
    nodes
}

#[tokio::test]
async fn a_chain_of_four_pings_and_traces() {
    let nodes = chain(4).await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(nodes[0].ping("n3").await.unwrap().from.as_str(), "n3");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "three hops, one thread: median {:?}, worst {:?}",
        times[100], times[199]
    );
    let hops = nodes[0].traceroute("n3").await.unwrap();
    assert_eq!(hops.len(), 4);
    let status = nodes[0].status().await.unwrap();
    assert!(status.contains("\"n3\""), "{status}");
    for node in &nodes {
        node.shutdown().await;
    }
    assert_eq!(nodes[0].ping("n3").await, Err(MeshError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_carry_bytes_both_ways_with_half_close() {
    let nodes = chain(3).await;
    let mut listener = nodes[2].listen("echo").await.unwrap();
    // Streams are kept until the other end has everything.
    let (held, mut served) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            let held = held.clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.reverse();
                stream.write_all(&all).await.unwrap();
                stream.shutdown().await.unwrap();
                held.send(stream).await.unwrap();
            });
        }
    });
    let data: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 253) as u8).collect();
    let mut stream = nodes[0].dial("n2", "echo").await.unwrap();
    stream.write_all(&data).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut back))
        .await
        .unwrap()
        .unwrap();
    back.reverse();
    assert!(back == data);
    drop(served.recv().await);
    assert!(matches!(
        nodes[0].dial("n2", "nobody").await,
        Err(MeshError::Refused(_))
    ));
}

#[tokio::test]
async fn datagrams_arrive_or_are_reported() {
    let nodes = chain(2).await;
    let here = nodes[0].packet("here").await.unwrap();
    let there = nodes[1].packet("there").await.unwrap();
    here.send_to(&b"question"[..], "n1", "there").await.unwrap();
    let got = tokio::time::timeout(PATIENCE, there.recv_from())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&got.data[..], got.from.as_str(), got.from_service),
        (&b"question"[..], "n0", here.service())
    );
    here.send_to(&b"lost"[..], "n1", "nowhere").await.unwrap();
    let error = tokio::time::timeout(PATIENCE, here.recv_from())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, ReceiveError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn an_embedding_program_brings_its_own_links() {
    let a = start("a", [BackendKind::External]).await;
    let b = start("b", [BackendKind::External]).await;
    let mut events = a.events();
    let (near, far) = tokio::io::duplex(1 << 16);
    a.attach(BackendId(0), near, "b").await.unwrap();
    b.attach(BackendId(0), far, "a").await.unwrap();
    until_reachable(&a, "b").await;
    while tokio::time::timeout(PATIENCE, events.next()).await.unwrap() != Some(MeshEvent::RoutesChanged) {}
    b.shutdown().await;
    // A ping that was under way when the link broke is answered after ten seconds.
    let refused = async {
        loop {
            let ping = tokio::time::timeout(Duration::from_millis(100), a.ping("b"));
            if let Ok(Err(error)) = ping.await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(matches!(error, MeshError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Mesh::start(config("a", [listener(port)]), Options::default())
        .await
        .unwrap_err();
    let StartError::Start(text) = error else {
        panic!("{error:?}")
    };
    assert!(text.contains("address already in use"), "{text}");
}

#[tokio::test]
async fn the_control_socket_answers_and_outlives_half_closed_clients() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let mut config = config("a", [BackendKind::LocalOnly]);
    let socket = SocketFile {
        path: path.to_str().unwrap().to_owned(),
        mode: 0o600,
    };
    config.control_services.push(ControlService {
        socket: Some(socket),
        ..ControlService::default()
    });
    let mut options = Options::default();
    options.data_dir = Some(dir.path().join("data"));
    let mesh = Mesh::start(config, options).await.unwrap();
    let client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let mut client = tokio::io::BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await.unwrap();
    assert_eq!(line, "Receptor Control, node a\n");
    client.get_mut().write_all(b"status").await.unwrap();
    client.get_mut().shutdown().await.unwrap();
    line.clear();
    client.read_to_string(&mut line).await.unwrap();
    assert!(line.starts_with('{') && line.ends_with("}\n"), "{line}");
    mesh.shutdown().await;
    assert_eq!(mesh.closed().await, End::Shutdown);
}
