//! TCP sockets of links: addresses as text, options, and the error texts of classic nodes.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::error_text::os_text;

/// Connections that may wait to be accepted: many neighbours start at once.
const BACKLOG: i32 = 1024;

/// Bytes the kernel may hold unsent. More would hide our queues, where priorities are: these are 13 ms at 20 Mbit/s. On
/// loopback four times as much made no difference to the CPU time per byte.
const NOT_SENT_LOW_WATER: u32 = 32 << 10;

/// Silence before the kernel asks whether the peer's machine is there. Links have their own, faster keepalive; this one is
/// for connections that never got so far.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Splits `HOST:PORT`; an IPv6 host is in brackets. The host may be empty, which means all addresses.
///
/// # Errors
/// The classic text, e.g. `address A: missing port in address`.
pub fn split_host_port(address: &str) -> Result<(&str, u16), String> {
    let failed = |why: &str| format!("address {address}: {why}");
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| failed("missing port in address"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| {
            failed(if address.ends_with(']') {
                "missing port in address"
            } else {
                "missing ']' in address"
            })
        })?,
        None if host.contains(':') => return Err(failed("too many colons in address")),
        None => host,
    };
    let port = port.parse().map_err(|_| failed("invalid port"))?;
    Ok((host, port))
}

/// Resolves `HOST:PORT` for dialling; blocks on the name server. Never empty.
pub fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    addresses(address).map_err(|text| format!("dial tcp: {text}"))
}

pub(crate) fn addresses(address: &str) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split_host_port(address)?;
    let host = if host.is_empty() { "localhost" } else { host };
    let found: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("lookup {host}: {}", os_text(&error)))?
        .collect();
    if found.is_empty() {
        Err(format!("lookup {host}: no such host"))
    } else {
        Ok(found)
    }
}

/// Binds a listener to `HOST:PORT`; blocks on the name server if the host is a name.
pub fn listen(address: &str) -> Result<TcpListener, String> {
    bind_any("tcp", address, bind)
}

/// Binds to the first of the addresses that works.
pub(crate) fn bind_any<S>(
    network: &str,
    address: &str,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<S, String> {
    let failed = |text: String| format!("listen {network} {address}: {text}");
    let (host, port) = split_host_port(address).map_err(|text| format!("listen {network}: {text}"))?;
    let candidates = if host.is_empty() {
        // The IPv6 wildcard takes IPv4 too; without IPv6 in the kernel there is the other one.
        vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ]
    } else {
        addresses(address).map_err(|text| format!("listen {network}: {text}"))?
    };
    let mut last = String::new();
    for candidate in candidates {
        match bind(candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(failed(format!("bind: {}", os_text(&error))));
            }
            Err(error) => last = format!("bind: {}", os_text(&error)),
        }
    }
    Err(failed(last))
}

/// How long one of `left` addresses that are tried in turn may take, if there is so much time for all of them.
pub fn share(time: Duration, left: usize) -> Duration {
    time / u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    // A restarted daemon must not wait for its old connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets the options of a link's connection, dialled or accepted.
pub fn set_link_options<S: AsFd>(socket: &S) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
}

/// A port of 127.0.0.1 for a listener of a demo or a test: free just now, and given out once per process.
///
/// It is below the range from which the kernel takes the local ports of outgoing connections: those would otherwise occupy
/// the port of a killed daemon before its restart, or dial themselves.
pub fn free_loopback_port() -> io::Result<u16> {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    // By chance, so that processes beside this one begin elsewhere.
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let place = START.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed).into()) % u64::from(COUNT);
        let port = FIRST + place as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_free_port_is_given_once_and_can_be_bound() {
        let ports: Vec<_> = (0..50).map(|_| free_loopback_port().unwrap()).collect();
        let listeners: Vec<_> = ports
            .iter()
            .map(|port| listen(&format!("127.0.0.1:{port}")).unwrap())
            .collect();
        assert_eq!(listeners.len(), 50);
    }

    #[test]
    fn addresses_are_split_as_go_does() {
        assert_eq!(split_host_port("a.b:7"), Ok(("a.b", 7)));
        assert_eq!(split_host_port(":7"), Ok(("", 7)));
        assert_eq!(split_host_port("[::1]:7"), Ok(("::1", 7)));
        for (bad, text) in [
            ("a.b", "address a.b: missing port in address"),
            ("[::1]", "address [::1]: missing port in address"),
            ("::1", "address ::1: too many colons in address"),
            ("::1:7", "address ::1:7: too many colons in address"),
            ("[::1:7", "address [::1:7: missing ']' in address"),
            ("a:x", "address a:x: invalid port"),
            ("a:70000", "address a:70000: invalid port"),
        ] {
            assert_eq!(split_host_port(bad).unwrap_err(), text);
        }
    }

    #[test]
    fn a_port_in_use_is_said_in_the_classic_words() {
        let first = listen("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap().to_string();
        assert_eq!(
            listen(&address).unwrap_err(),
            format!("listen tcp {address}: bind: address already in use")
        );
        assert_eq!(
            listen("x").unwrap_err(),
            "listen tcp: address x: missing port in address"
        );
        assert!(
            listen("192.0.2.1:0")
                .unwrap_err()
                .ends_with("bind: cannot assign requested address")
        );
        listen(":0").unwrap();
        assert_eq!(resolve("127.0.0.1:5").unwrap(), [SocketAddr::from(([127, 0, 0, 1], 5))]);
    }

    #[test]
    fn options_of_a_link_are_set() {
        let listener = listen("localhost:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_link_options(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().unwrap(), NOT_SENT_LOW_WATER);
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
