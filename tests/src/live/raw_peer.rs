//! A neighbour over TCP that says whatever a test wants.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::{Node, PATIENCE, neighbours, until};

/// One TCP connection to a listener of a node.
#[derive(Debug)]
pub struct RawPeer(TcpStream);

/// The parts of a routing update (`wire.md` §8) that a test may want to be wrong.
#[derive(Clone, Debug)]
pub struct Hello {
    /// `NodeID`.
    pub node: String,
    /// `ForwardingNode`.
    pub forwarder: String,
    /// `UpdateEpoch`.
    pub epoch: u64,
    /// `UpdateSequence`.
    pub sequence: u64,
    /// `Connections`, as JSON.
    pub connections: String,
    /// Further members, each with a comma before it.
    pub more: String,
}

impl Hello {
    /// The first hello of `node`.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            forwarder: node.to_owned(),
            epoch: 28_521_267_211_259_375,
            sequence: 1,
            connections: "{}".to_owned(),
            more: String::new(),
        }
    }

    /// A later one that lists a neighbour.
    #[must_use]
    pub fn listing(mut self, neighbour: &str, cost: f64) -> Self {
        self.sequence += 1;
        self.connections = format!("{{\"{neighbour}\":{cost}}}");
        self
    }

    /// The message, without its frame.
    pub fn message(&self) -> Vec<u8> {
        let Self {
            node,
            forwarder,
            epoch,
            sequence,
            connections,
            more,
        } = self;
        let json = format!(
            "{{\"NodeID\":\"{node}\",\"UpdateID\":\"u{:07}\",\"UpdateEpoch\":{epoch},\"UpdateSequence\":{sequence},\
             \"Connections\":{connections},\"ForwardingNode\":\"{forwarder}\",\"SuspectedDuplicate\":0{more}}}",
            sequence % 10_000_000
        );
        let mut message = vec![1];
        message.extend_from_slice(json.as_bytes());
        message
    }
}

impl RawPeer {
    /// Connects to a listener on 127.0.0.1.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        Self(stream)
    }

    /// Says hello to a node, lists it back, and waits until it is a neighbour.
    pub fn neighbour(node: &Node, hello: &Hello) -> Self {
        let mut peer = Self::connect(node.port());
        peer.send_hello(hello);
        peer.read_until(&format!("\"{}\":1", hello.forwarder), PATIENCE);
        peer.send_hello(&hello.clone().listing(&node.id, 1.0));
        until(&format!("{} is a neighbour", hello.forwarder), PATIENCE, || {
            let status = node.try_status()?;
            let found = neighbours(&status).contains(&hello.forwarder.as_str());
            found.then_some(()).ok_or_else(|| status["Connections"].to_string())
        });
        peer
    }

    /// Sends bytes as they are. A connection that the node has already closed is no error here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends one frame: the length in little endian, then the message.
    pub fn send_frame(&mut self, message: &[u8]) {
        let length = u16::try_from(message.len()).expect("a frame has at most 65,535 bytes");
        self.send(&[&length.to_le_bytes()[..], message].concat());
    }

    /// Sends a hello.
    pub fn send_hello(&mut self, hello: &Hello) {
        self.send_frame(&hello.message());
    }

    /// Ends our direction.
    pub fn half_close(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// The next message, within `limit`.
    pub fn read_frame(&mut self, limit: Duration) -> io::Result<Vec<u8>> {
        self.0.set_read_timeout(Some(limit))?;
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_le_bytes(length))];
        self.0.read_exact(&mut message)?;
        Ok(message)
    }

    /// Reads messages until one holds `text`.
    pub fn read_until(&mut self, text: &str, limit: Duration) -> Vec<u8> {
        let start = Instant::now();
        loop {
            let left = limit
                .checked_sub(start.elapsed())
                .unwrap_or_default()
                .max(Duration::from_millis(1));
            let message = self
                .read_frame(left)
                .unwrap_or_else(|error| panic!("no message with {text}: {error}"));
            if String::from_utf8_lossy(&message).contains(text) {
                return message;
            }
        }
    }

    /// Panics unless the node closes the connection within `limit`.
    pub fn expect_close(&mut self, limit: Duration) {
        let start = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            let left = limit.checked_sub(start.elapsed()).unwrap_or_default();
            assert!(!left.is_zero(), "the node keeps the connection open for {limit:?}");
            self.0.set_read_timeout(Some(left)).expect("a socket option");
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => panic!("reading from the node: {error}"),
            }
        }
    }
}
