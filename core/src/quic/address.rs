//! Socket addresses for `quinn-proto`, which knows no others: eight bytes of node-name hash and eight of service name
//! fill an IPv6 address exactly.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::id::{NameHash, ServiceName};

/// Any port but 0, which is refused.
const PORT: u16 = 1;

/// The address that stands for a service of a node.
pub(super) fn address(node: NameHash, service: ServiceName) -> SocketAddr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&node.0.to_be_bytes());
    octets[8..].copy_from_slice(&service.to_wire());
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), PORT)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn different_services_and_nodes_have_different_addresses() {
        let text = |node: &str, service| address(NameHash::of(node), service).to_string();
        assert_eq!(
            text("foo", ServiceName::CONTROL),
            "[ef7a:78b6:7f92:bdf7:636f:6e74:726f:6c00]:1"
        );
        assert_ne!(text("foo", ServiceName::CONTROL), text("foo", ServiceName::PING));
        assert_ne!(text("foo", ServiceName::CONTROL), text("bar", ServiceName::CONTROL));
    }
}
