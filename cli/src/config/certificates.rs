//! From an item to a certificate tool (`config.md` §6.12).

use std::net::IpAddr;

use jiff::Timestamp;

use super::error::ConfigError;
use super::item::Item;
use crate::certificates::{Init, MakeRequest, Names, RequestKey, SignRequest, Tool, Validity};

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// The tool of a `cert-…` item; `None` if it is another one.
///
/// # Errors
/// Parameters that contradict each other or are malformed.
pub(super) fn tool(item: &Item) -> Result<Option<Tool>> {
    let text = |param| item.text(param).to_owned();
    Ok(Some(match item.name() {
        "cert-init" => Tool::Init(Init {
            common_name: text("commonname"),
            bits: item.int("bits"),
            validity: validity(item)?,
            out_cert: text("outcert"),
            out_key: text("outkey"),
        }),
        "cert-makereq" => Tool::MakeRequest(MakeRequest {
            common_name: text("commonname"),
            key: request_key(item)?,
            names: names(item)?,
            out_request: text("outreq"),
        }),
        "cert-signreq" => Tool::SignRequest(SignRequest {
            request: text("req"),
            ca_cert: text("cacert"),
            ca_key: text("cakey"),
            validity: validity(item)?,
            out_cert: text("outcert"),
            is_verified: item.bool("verify"),
        }),
        _ => return Ok(None),
    }))
}

fn request_key(item: &Item) -> Result<RequestKey> {
    let (existing, new, bits) = (item.text("inkey"), item.text("outkey"), item.int("bits"));
    match (existing.is_empty(), new.is_empty()) {
        (true, true) => Err(ConfigError::new("must provide either InKey or OutKey")),
        (false, false) => Err(ConfigError::new("cannot use both InKey and OutKey")),
        (false, true) if bits != 0 => Err(ConfigError::new(
            "cannot specify key bits when reading an already-existing key",
        )),
        (false, true) => Ok(RequestKey::Existing(existing.into())),
        (true, false) if bits == 0 => Err(ConfigError::new("must specify key bits when creating a new key")),
        (true, false) => Ok(RequestKey::New {
            bits,
            out_key: new.into(),
        }),
    }
}

fn names(item: &Item) -> Result<Names> {
    let texts = |param| item.texts(param).unwrap_or_default();
    let ip = |text: &String| {
        text.parse::<IpAddr>()
            .map_err(|_| ConfigError::new(format!("invalid IP address: {text}")))
    };
    let names = Names {
        dns: texts("dnsname").to_vec(),
        ips: texts("ipaddress").iter().map(ip).collect::<Result<_>>()?,
        nodes: texts("nodeid").to_vec(),
    };
    if names.dns.iter().chain(&names.nodes).any(String::is_empty) {
        return Err(ConfigError::new("a DNS name or node ID is empty"));
    }
    Ok(names)
}

fn validity(item: &Item) -> Result<Validity> {
    let time = |param| {
        let text = item.text(param);
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = |_| {
            ConfigError::new(format!(
                "{param} {text:?} is not a time as 2026-01-31T00:00:00Z (RFC 3339)"
            ))
        };
        text.parse::<Timestamp>().map(Some).map_err(wrong)
    };
    Ok(Validity {
        not_before: time("notbefore")?,
        not_after: time("notafter")?,
    })
}
