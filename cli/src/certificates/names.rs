//! The names a request asks for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use receptor_core::tls::{NamesError, node_ids_in};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};

use super::{Names, Result, ToolError};

/// The names in a subjectAltName. Of kinds that are not listed in [`Names`] nothing is told, but they may be there.
pub(super) fn read(value: &[u8]) -> Result<Names> {
    let bad = |what: &str| ToolError::new(format!("the request's {what} cannot be read"));
    let Ok(([], names)) = SubjectAlternativeName::from_der(value) else {
        return Err(bad("subjectAltName"));
    };
    let nodes = node_ids_in(value).map_err(|error| match error {
        NamesError::OtherName => bad("node ID"),
        _ => bad("subjectAltName"),
    })?;
    let mut found = Names::default();
    for node in nodes {
        // Whatever a certificate says must be shown to who signs it.
        found.nodes.push(node.ok_or_else(|| bad("node ID"))?);
    }
    for name in &names.general_names {
        match name {
            GeneralName::DNSName(dns) => found.dns.push((*dns).to_owned()),
            GeneralName::IPAddress(octets) => found.ips.push(address(octets).ok_or_else(|| bad("IP address"))?),
            _ => {}
        }
    }
    Ok(found)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::der::alt_names;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let names = Names {
            dns: vec!["localhost".into()],
            ips: vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            nodes: vec!["foo".into(), "nœud-é".into(), "x".repeat(1000)],
        };
        assert_eq!(read(&alt_names(&names)), Ok(names));
        assert_eq!(read(&alt_names(&Names::default())), Ok(Names::default()));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let der = alt_names(&Names {
            nodes: vec!["foo".into()],
            ..Names::default()
        });
        assert!(read(b"").is_err());
        for end in 1..der.len() {
            assert!(read(&der[..end]).is_err(), "{end}");
        }
        assert!(read(&[&der[..], &[0]].concat()).is_err());
        // An OCTET STRING is no name.
        let mut octets = der.clone();
        octets[der.len() - 5] = 4;
        assert_eq!(
            read(&octets).unwrap_err().to_string(),
            "the request's node ID cannot be read"
        );
        assert!(read(&[0x30, 5, 0x87, 3, 1, 2, 3]).is_err());
    }
}
