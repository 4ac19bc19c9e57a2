//! Our QUIC endpoint and aioquic, an implementation that shares nothing with ours or Go's, in both roles. UDP datagrams on
//! loopback stand for those of the mesh.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant as StdInstant};

use bytes::{Bytes, BytesMut};
use receptor_core::id::{NameHash, ServiceName};
use receptor_core::quic::{ConnectionId, Endpoint, EndpointConfig, FromEndpoint, Path, ToEndpoint, WINDOW};
use receptor_core::time::Instant;
use receptor_core::wire::data::HEADER_LEN;
use receptor_tests::live::{PATIENCE, aioquic, script};

const SIZE: usize = 3 << 20;

const OURS: ServiceName = ServiceName::from_wire(*b"ours\0\0\0\0");
const THEIRS: ServiceName = ServiceName::from_wire(*b"theirs\0\0");

/// The Python process.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &std::path::Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(python)
            .arg(script("aioquic_peer.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Tells it that the test is over.
    fn end(mut self) {
        self.stdin = None;
        assert!(self.child.wait().expect("it ends").success(), "see its complaint above");
    }
}

/// The endpoint in place of a node, with one connection.
struct Ours {
    endpoint: Endpoint,
    socket: UdpSocket,
    start: StdInstant,
    peer: Option<SocketAddr>,
    id: Option<ConnectionId>,
    credit: usize,
    received: BytesMut,
    eof: bool,
    closed: Option<Option<String>>,
}

impl Ours {
    fn new(peer: Option<SocketAddr>) -> Self {
        let config = EndpointConfig {
            max_connections: 10,
            origin: StdInstant::now(),
        };
        Self {
            endpoint: Endpoint::new(config, [9; 32]).expect("cryptography that works"),
            socket: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            start: StdInstant::now(),
            peer,
            id: None,
            credit: WINDOW,
            received: BytesMut::new(),
            eof: false,
            closed: None,
        }
    }

    fn path(local_service: ServiceName) -> Path {
        Path {
            remote: NameHash(7),
            remote_service: THEIRS,
            local_service,
        }
    }

    fn tell(&mut self, message: ToEndpoint) {
        let now = Instant::ZERO + self.start.elapsed();
        self.endpoint.handle(now, message);
    }

    /// Works until it is so.
    fn run(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let mut buffer = [0; 2048];
        while !done(self) {
            assert!(self.start.elapsed() < PATIENCE, "not in time: {what}");
            while let Some(output) = self.endpoint.poll_output() {
                self.carry_out(output);
            }
            let now = Instant::ZERO + self.start.elapsed();
            let wait = self.endpoint.next_deadline().wait(now).unwrap_or(Duration::MAX);
            let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket.set_read_timeout(Some(wait)).expect("a socket");
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                self.peer = Some(from);
                let payload = Bytes::copy_from_slice(&buffer[..length]);
                self.tell(ToEndpoint::Datagram(Self::path(OURS), payload));
            }
            self.endpoint.handle_timeout(Instant::ZERO + self.start.elapsed());
        }
    }

    fn carry_out(&mut self, output: FromEndpoint) {
        match output {
            FromEndpoint::Datagram(_, packet) => {
                let peer = self.peer.expect("somebody to answer");
                self.socket.send_to(&packet[HEADER_LEN..], peer).expect("loopback");
            }
            FromEndpoint::Accepted(id, path) => {
                assert_eq!(path, Self::path(OURS));
                self.id = Some(id);
            }
            FromEndpoint::Opened(id) => assert_eq!(self.id, Some(id)),
            FromEndpoint::Data(id, data) => {
                self.received.extend_from_slice(&data);
                self.tell(ToEndpoint::Drained(id, data.len()));
            }
            FromEndpoint::Eof(_) => self.eof = true,
            FromEndpoint::Credit(_, bytes) => self.credit += bytes,
            FromEndpoint::Closed(_, reason) => self.closed = Some(reason),
            FromEndpoint::Released(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Sends as much as there is credit for; whether that was all.
    fn send_some(&mut self, data: &mut Bytes) -> bool {
        let size = data.len().min(self.credit);
        if size > 0 {
            self.credit -= size;
            let id = self.id.expect("a connection");
            self.tell(ToEndpoint::Data(id, data.split_to(size)));
        }
        data.is_empty()
    }
}

#[test]
fn aioquic_dials_us() {
    let Some(python) = aioquic() else { return };
    let mut ours = Ours::new(None);
    ours.tell(ToEndpoint::Listen(OURS, None));
    let port = ours.socket.local_addr().expect("an address").port().to_string();
    let mut peer = Peer::start(&python, &["dial", &port, &SIZE.to_string()]);
    ours.run("everything has come", |ours| ours.eof);
    let mut back = ours.received.split().freeze();
    assert_eq!(back.len(), SIZE);
    ours.run("everything is sent", |ours| ours.send_some(&mut back));
    let id = ours.id.expect("it was accepted");
    ours.tell(ToEndpoint::Eof(id));
    ours.run("the other side closes", |ours| ours.closed.is_some());
    assert_eq!(ours.closed, Some(None), "in peace");
    assert_eq!(peer.line(), "done");
    peer.end();
}

#[test]
fn we_dial_aioquic() {
    let Some(python) = aioquic() else { return };
    let mut peer = Peer::start(&python, &["listen", &SIZE.to_string()]);
    let port = peer.line();
    let port = port.strip_prefix("port ").and_then(|port| port.parse().ok());
    let mut ours = Ours::new(Some(([127, 0, 0, 1], port.expect("a port")).into()));
    let id = ConnectionId(1);
    ours.id = Some(id);
    ours.tell(ToEndpoint::Dial(id, Ours::path(OURS), None));
    let data: Bytes = (0..SIZE).map(|i| (i * 7 + i / 253) as u8).collect();
    let mut left = data.clone();
    ours.run("everything is sent", |ours| ours.send_some(&mut left));
    ours.tell(ToEndpoint::Eof(id));
    ours.run("everything is back", |ours| ours.eof);
    assert!(ours.received == data, "{} bytes", ours.received.len());
    assert_eq!(
        ours.closed, None,
        "nobody closes a connection because both directions have ended"
    );
    assert_eq!(peer.line(), "done");
    peer.end();
}
