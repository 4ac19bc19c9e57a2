//! UDP sockets of links: binding, dialling, and frames out of datagrams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use bytes::BytesMut;
use receptor_core::link::transport::datagram::{self, RECEIVE_ROOM};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error_text::os_text;
use crate::tcp::{addresses, bind_any};

/// Bytes that the kernel may keep of what has arrived, if it lets us: a burst comes faster than a node looks.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Small frames are copied into pieces of memory of this size.
const SLAB: usize = 64 << 10;

/// Binds to `HOST:PORT`; blocks on the name server if the host is a name. Does not block otherwise.
pub fn listen(address: &str) -> Result<UdpSocket, String> {
    bind_any("udp", address, bind)
}

/// A socket that speaks with the first of the host's addresses that has a route; blocks on the name server. Whether anybody
/// is there, nobody can know.
pub fn connect(address: &str) -> Result<(UdpSocket, SocketAddr), String> {
    let mut last = String::new();
    for target in addresses(address).map_err(|text| format!("dial udp: {text}"))? {
        let local: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let connected = bind(local).and_then(|socket| {
            socket.connect(target)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => return Ok((socket, target)),
            Err(error) => last = format!("dial udp {target}: {}", os_text(&error)),
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.cloexec().nonblocking(),
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Only speed is at stake.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Whether a frame fits into a datagram.
pub const fn fits(frame: &[u8]) -> bool {
    datagram::fits(frame)
}

/// Whether a failed send or receive concerns one datagram only, and not the socket.
pub fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    // The latter is what the kernel says when its queue is full.
    matches!(error.kind(), Kind::Interrupted | Kind::WouldBlock | Kind::OutOfMemory)
        || matches!(error.raw_os_error(), Some(code) if code == rustix::io::Errno::MSGSIZE.raw_os_error()
            || code == rustix::io::Errno::NOBUFS.raw_os_error())
}

/// Where datagrams are read to, and frames are made of them.
#[derive(Debug)]
pub struct Receiver {
    room: Vec<u8>,
    slab: BytesMut,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            room: vec![0; RECEIVE_ROOM],
            slab: BytesMut::new(),
        }
    }
}

impl Receiver {
    /// Room for any datagram.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.room
    }

    /// The frame in the first `count` bytes; `None` if there is none.
    pub fn frame(&mut self, count: usize) -> Option<BytesMut> {
        let datagram = &self.room[..count];
        if !datagram::is_frame(datagram) {
            return None;
        }
        if self.slab.capacity() < count {
            self.slab = BytesMut::with_capacity(SLAB.max(count));
        }
        self.slab.extend_from_slice(datagram);
        Some(self.slab.split())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_become_frames() {
        let listener = listen("127.0.0.1:0").unwrap();
        let (socket, remote) = connect(&listener.local_addr().unwrap().to_string()).unwrap();
        assert_eq!(remote, listener.local_addr().unwrap());
        let mut receiver = Receiver::default();
        listener.set_nonblocking(false).unwrap();
        for (datagram, is_frame) in [(&b"one"[..], true), (b"", false), (&[7; 60_000], true), (b"two", true)] {
            socket.send(datagram).unwrap();
            let count = listener.recv(receiver.room()).unwrap();
            assert_eq!(receiver.frame(count), is_frame.then(|| BytesMut::from(datagram)));
        }
        let error = socket.send(&[0; 65_508]).unwrap_err();
        assert!(is_passing(&error), "{error}");
    }

    #[test]
    fn errors_name_the_network() {
        let taken = listen("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert_eq!(
            listen(&address).unwrap_err(),
            format!("listen udp {address}: bind: address already in use")
        );
        assert_eq!(
            connect("x").unwrap_err(),
            "dial udp: address x: missing port in address"
        );
    }
}
