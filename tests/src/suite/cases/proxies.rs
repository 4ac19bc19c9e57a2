//! Services between local sockets and the mesh: `tcp-server`, `tcp-client`, `unix-socket-server`, `unix-socket-client`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use receptor_core::config::{BackendKind, RemoteService, Service, SocketFile};
use receptor_core::id::ServiceName;
use receptor_host::local_socket::break_off;
use serde_json::json;

use crate::live::{free_port, until};
use crate::suite::adapter::{Node, StartError};
use crate::suite::{Bench, PATIENCE, Setup, until_reachable};

fn remote(node: &str, service: &str) -> RemoteService {
    RemoteService {
        node: node.into(),
        service: service.into(),
    }
}

fn name(service: &str) -> ServiceName {
    ServiceName::new(service).expect("a short name")
}

fn text(path: &Path) -> String {
    path.to_str().expect("scratch paths are text").to_owned()
}

/// `near` with a `tcp-server` at the port given back, and `far` with a `tcp-client` to `target`.
fn tcp_pair(bench: &Bench, target: &str) -> (u16, [Box<dyn Node>; 2]) {
    let (link, port) = (free_port(), free_port());
    let far = bench.far(&Setup::new("far").peer(link).service(Service::TcpClient {
        service: name("proxy"),
        address: target.into(),
        tls_server: None,
        tls_client: None,
    }));
    let near = bench.near(
        &Setup::new("near")
            .listen(link)
            .service(tcp_server(port, "far", "proxy")),
    );
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    (port, [near, far])
}

fn tcp_server(port: u16, node: &str, service: &str) -> Service {
    Service::TcpServer {
        bind: format!("127.0.0.1:{port}"),
        remote: remote(node, service),
        tls_server: None,
        tls_client: None,
    }
}

/// A server that somebody connects to through the mesh, and its address.
fn target() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_all(mut stream: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Whether the other end is gone, and not only quiet.
fn until_over(mut stream: impl Read) {
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        other => panic!("not over: {other:?}"),
    }
}

/// The client's end leaves the answer alone, and the server's end the question, over every kind of socket.
pub fn each_half_closes_on_its_own(bench: &Bench) {
    let (listener, address) = target();
    let (port, _nodes) = tcp_pair(bench, &address);
    let mut client = connect(port);
    let mut server = accept(&listener);
    let data = super::pattern(3, 1_000_000);

    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&server), b"question");
    // More than all windows together.
    thread::scope(|scope| {
        scope.spawn(|| {
            server.write_all(&data).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_all(&client) == data);
    });

    let mut client = connect(port);
    let mut server = accept(&listener);
    server.write_all(b"greeting").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), b"greeting");
    thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_all(&server) == data);
    });
}

/// The same through Unix sockets; the accepting one has its mode and its lock, and what was left there does not matter.
pub fn unix_sockets(bench: &Bench) {
    let (link, path, target) = (
        free_port(),
        bench.scratch.join("proxy.sock"),
        bench.scratch.join("target.sock"),
    );
    std::fs::write(&path, "stale").unwrap();
    let listener = UnixListener::bind(&target).unwrap();
    let server = Service::UnixSocketServer {
        socket: SocketFile {
            path: text(&path),
            mode: 0o640,
        },
        remote: remote("far", "proxy"),
        tls: None,
    };
    let near = bench.near(&Setup::new("near").listen(link).service(server.clone()));
    let far = bench.far(&Setup::new("far").peer(link).service(Service::UnixSocketClient {
        service: name("proxy"),
        path: text(&target),
        tls: None,
    }));
    until_reachable(&*near, "far");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let second = Setup::new("second").backend(BackendKind::LocalOnly).service(server);
    let refused = bench.try_near(&second).map(drop).unwrap_err();
    let expected = "error opening Unix socket: could not acquire lock on socket file: fslock is already locked";
    assert_eq!(refused, StartError::Start(expected.into()));

    let data = super::pattern(4, 700_000);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&served), b"question");
    thread::scope(|scope| {
        scope.spawn(|| {
            served.write_all(&data).unwrap();
            served.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_all(&client) == data);
    });
    // Who writes and leaves is heard to the end.
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"last words").unwrap();
    drop(client);
    let (served, _) = listener.accept().unwrap();
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_all(&served), b"last words");
    drop(served);
    drop(far);
}

/// Both ends of a proxy on one node, which `localhost` names.
pub fn on_one_node(bench: &Bench) {
    let (listener, address) = target();
    let port = free_port();
    let _node = bench.near(
        &Setup::new("near")
            .backend(BackendKind::LocalOnly)
            .service(tcp_server(port, "LocalHost", "proxy"))
            .service(Service::TcpClient {
                service: name("proxy"),
                address,
                tls_server: None,
                tls_client: None,
            }),
    );
    let mut client = connect(port);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(accept(&listener)), b"question");
    assert_eq!(read_all(&client), b"");
}

/// Whatever stands in the way closes the accepted socket, and the service goes on.
pub fn who_cannot_be_connected_is_closed(bench: &Bench) {
    let refused = free_port();
    let (port, [near, far]) = tcp_pair(bench, &format!("127.0.0.1:{refused}"));
    until_over(connect(port));
    let listener = TcpListener::bind(("127.0.0.1", refused)).unwrap();
    let mut client = connect(port);
    let server = accept(&listener);
    client.write_all(b"now").unwrap();
    drop(client);
    assert_eq!(read_all(&server), b"now");
    drop(far);
    crate::suite::until_unreachable(&*near, "far");
    until_over(connect(port));

    let (unknown, nowhere) = (free_port(), free_port());
    let _other = bench.near(
        &Setup::new("other")
            .backend(BackendKind::LocalOnly)
            .service(tcp_server(unknown, "other", "nobody"))
            .service(tcp_server(nowhere, "nowhere", "nobody")),
    );
    until_over(connect(unknown));
    until_over(connect(nowhere));
}

/// What cannot be listened on is an error at the start, in the classic words.
pub fn start_errors(bench: &Bench) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let alone = || Setup::new("near").backend(BackendKind::LocalOnly);
    let error = |setup: &Setup| bench.try_near(setup).map(drop).unwrap_err();
    assert_eq!(
        error(&alone().service(tcp_server(port, "far", "proxy"))),
        StartError::Start(format!(
            "error listening on TCP: listen tcp 127.0.0.1:{port}: bind: address already in use"
        ))
    );
    let client = |service| Service::TcpClient {
        service: name(service),
        address: "127.0.0.1:1".into(),
        tls_server: None,
        tls_client: None,
    };
    assert_eq!(
        error(&alone().service(client("ping"))),
        StartError::Start("error listening on Receptor network: service ping is already listening".into())
    );
    assert_eq!(
        error(&alone().service(client("twice")).service(client("twice"))),
        StartError::Start("error listening on Receptor network: service twice is already listening".into())
    );
}

/// Services that accept streams are advertised with their tags, others not.
pub fn advertised_with_their_tags(bench: &Bench) {
    let (_port, [near, _far]) = tcp_pair(bench, "localhost:22");
    let advert = |service: &str| {
        let status = near.status().unwrap();
        let adverts = status["Advertisements"].as_array().cloned().unwrap_or_default();
        adverts.into_iter().find(|advert| advert["Service"] == service)
    };
    until("the service is advertised", PATIENCE, || {
        let found = advert("proxy").ok_or("not yet")?;
        assert_eq!(found["NodeID"], "far");
        assert_eq!(found["ConnType"], 1);
        assert_eq!(found["Tags"], json!({"type": "TCP Proxy", "address": "localhost:22"}));
        Ok(())
    });
    let status = near.status().unwrap();
    assert_eq!(status["Advertisements"].as_array().map(Vec::len), Some(1), "{status}");
}

/// A socket that breaks at one end breaks at the other, soon, though nobody sends anything.
pub fn a_broken_socket_breaks_the_other(bench: &Bench) {
    let (listener, address) = target();
    let (port, _nodes) = tcp_pair(bench, &address);
    for client_breaks in [true, false] {
        let mut client = connect(port);
        let mut server = accept(&listener);
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
        let (breaks, waits) = if client_breaks {
            (client, &mut server)
        } else {
            (server, &mut client)
        };
        break_off(&breaks);
        drop(breaks);
        let error = loop {
            // The end of the stream comes first, then that nobody is there.
            match waits.write_all(b"anybody?") {
                Ok(()) => thread::sleep(Duration::from_millis(20)),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "{error}"
        );
    }
    // A server that only waits hears it, too.
    let client = connect(port);
    let server = accept(&listener);
    break_off(&client);
    drop(client);
    until("the waiting server is told", PATIENCE, || {
        let is_broken = receptor_host::socket_file::is_hung_up(&server);
        is_broken.then_some(()).ok_or_else(|| "not yet".to_owned())
    });
}

/// A client that breaks off while its stream is being dialled, or at once after that, leaves nothing behind; the next is
/// served.
pub fn clients_that_come_and_go(bench: &Bench) {
    let (listener, address) = target();
    let (port, _nodes) = tcp_pair(bench, &address);
    let (sender, served) = mpsc::channel();
    let serving = thread::spawn(move || {
        loop {
            let mut stream = accept(&listener);
            let mut all = Vec::new();
            // Whoever broke off is no failure of the server.
            if stream.read_to_end(&mut all).is_ok() {
                let _ = stream.write_all(&all);
            }
            if all == b"end" {
                let _ = sender.send(());
                return;
            }
        }
    });
    for number in 0..100 {
        let mut client = connect(port);
        if number % 2 == 0 {
            client.write_all(b"half a request").unwrap();
        }
        if number % 3 == 0 {
            break_off(&client);
        }
    }
    let mut last = connect(port);
    last.write_all(b"end").unwrap();
    last.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&last), b"end");
    served.recv_timeout(PATIENCE).unwrap();
    serving.join().unwrap();
}

/// A client that does not read holds up its server after a bounded number of bytes, and nobody else.
pub fn a_slow_reader_holds_up_its_server_only(bench: &Bench) {
    /// Above what the kernel's buffers and all windows hold, far below what would be unbounded.
    const MOST: usize = 64 << 20;
    let (listener, address) = target();
    let (port, _nodes) = tcp_pair(bench, &address);
    let slow = connect(port);
    let mut server = accept(&listener);
    server.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let chunk = super::pattern(1, 1 << 20);
    let mut sent = 0;
    loop {
        match server.write(&chunk[sent % chunk.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < MOST, "nobody reads, and yet {sent} bytes were taken");
    }
    let mut other = connect(port);
    other.write_all(b"live").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(accept(&listener)), b"live");

    server.shutdown(Shutdown::Write).unwrap();
    let mut reader = &slow;
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            count => {
                for byte in &buffer[..count] {
                    assert_eq!(*byte, chunk[at % chunk.len()], "byte {at}");
                    at += 1;
                }
            }
        }
    }
    assert_eq!(at, sent);
}

/// Connections are independent.
pub fn many_connections_at_once(bench: &Bench) {
    const COUNT: usize = 300;
    let (listener, address) = target();
    let (port, _nodes) = tcp_pair(bench, &address);
    let serving = thread::spawn(move || {
        let served: Vec<_> = (0..COUNT).map(|_| accept(&listener)).collect();
        for mut stream in served.into_iter().rev() {
            let mut all = read_all(&stream);
            all.reverse();
            stream.write_all(&all).unwrap();
        }
    });
    let mut clients: Vec<_> = (0..COUNT).map(|_| connect(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&super::pattern(number as u8, 1000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let mut expected = super::pattern(number as u8, 1000);
        expected.reverse();
        assert!(read_all(client) == expected, "connection {number}");
    }
    serving.join().unwrap();
}

/// Too many connections of one service are closed, not kept waiting; when others go, there is room again.
pub fn the_limit_of_connections(bench: &Bench) {
    let (listener, address) = target();
    let port = free_port();
    let mut setup = Setup::new("near")
        .backend(BackendKind::LocalOnly)
        .service(tcp_server(port, "near", "proxy"))
        .service(Service::TcpClient {
            service: name("proxy"),
            address,
            tls_server: None,
            tls_client: None,
        });
    setup.config.limits.service_connections = 2;
    let _node = bench.near(&setup);
    let first = connect(port);
    let second = connect(port);
    let served = [accept(&listener), accept(&listener)];
    until_over(connect(port));
    drop((first, second));
    for stream in served {
        until_over(stream);
    }
    until("there is room again", PATIENCE, || {
        let mut third = connect(port);
        let _ = third.write_all(b"x");
        third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        match third.read(&mut [0; 1]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            over => Err(format!("{over:?}")),
        }
    });
}
