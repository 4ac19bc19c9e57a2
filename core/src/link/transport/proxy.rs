//! Which HTTP proxy a WebSocket peer is dialled through: what Go's standard library makes of the environment.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Url;
use crate::config::{HttpProxy, ProxySettings};

/// The proxy on the way to `url`, if there is one.
///
/// # Errors
/// The proxy's own address is wrong, or of a kind that is not supported.
pub fn proxy_for(settings: &ProxySettings, url: &Url) -> Result<Option<HttpProxy>, String> {
    let (variable, proxy) = if url.is_secure() {
        ("HTTPS_PROXY", &settings.https)
    } else {
        ("HTTP_PROXY", &settings.http)
    };
    let proxy = proxy.trim();
    if proxy.is_empty() || is_exempt(&settings.exceptions, url.host(), url.port()) {
        return Ok(None);
    }
    // Not the text itself, which may hold a password.
    parse(proxy)
        .map(Some)
        .map_err(|why| alloc::format!("proxy of {variable}: {why}"))
}

fn parse(text: &str) -> Result<HttpProxy, &'static str> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only http:// is supported"),
        None => text,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, address) = match authority.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, authority),
    };
    // As in the URL of a peer, whose default port is the same.
    let url = Url::parse(&alloc::format!("ws://{address}")).map_err(|_| "invalid address")?;
    Ok(HttpProxy {
        address: url.address(),
        credentials: user.map(unescaped).transpose()?,
    })
}

/// Resolves `%xx`.
fn unescaped(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "invalid escape in user name or password";
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
        out.push(value.and_then(|value| u8::try_from(value).ok()).ok_or(WRONG)?);
    }
    String::from_utf8(out).map_err(|_| WRONG)
}

/// Whether a host is dialled directly: this machine always, others if a list of `NO_PROXY` names them.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback()) {
        return true;
    }
    let port = port.to_string();
    list.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        matches(&entry, &host, address, &port)
    })
}

fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse(), bits.parse())
    {
        return address.is_some_and(|address| is_in(address, network, bits));
    }
    let (name, wanted) = split_port(entry);
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(wanted) = name.parse::<IpAddr>() {
        return address.is_some_and(|address| address.to_canonical() == wanted.to_canonical());
    }
    let name = name
        .strip_prefix('*')
        .filter(|rest| rest.starts_with('.'))
        .unwrap_or(name);
    match name.strip_prefix('.') {
        _ if name.is_empty() => false,
        // Only what is below it.
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// Takes a port off, and the brackets of an IPv6 address.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    let bare = |name: &'_ str| -> (usize, usize) {
        if name.starts_with('[') && name.ends_with(']') {
            (1, name.len() - 1)
        } else {
            (0, name.len())
        }
    };
    let (name, port) = match entry.rsplit_once(':') {
        // An IPv6 address without brackets has no port.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (entry, None),
    };
    let (from, to) = bare(name);
    (&name[from..to], port)
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shift = |all: u32| all.checked_sub(bits).map(|shift| shift.min(127));
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => shift(32).is_some_and(|shift| {
            let differing = u64::from(address.to_bits() ^ network.to_bits());
            differing >> shift == 0
        }),
        (IpAddr::V6(address), IpAddr::V6(network)) => match shift(128) {
            Some(_) if bits == 0 => true,
            Some(shift) => (address.to_bits() ^ network.to_bits()) >> shift == 0,
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(http: &str, exceptions: &str) -> ProxySettings {
        ProxySettings {
            http: http.into(),
            https: "secure-proxy:3129".into(),
            exceptions: exceptions.into(),
        }
    }

    fn found(http: &str, exceptions: &str, url: &str) -> Result<Option<HttpProxy>, String> {
        proxy_for(&settings(http, exceptions), &Url::parse(url).unwrap())
    }

    fn address(http: &str, exceptions: &str, url: &str) -> Option<String> {
        found(http, exceptions, url).unwrap().map(|proxy| proxy.address)
    }

    #[test]
    fn the_scheme_decides_which_proxy() {
        assert_eq!(address("proxy:3128", "", "ws://hub").unwrap(), "proxy:3128");
        assert_eq!(address("proxy:3128", "", "wss://hub").unwrap(), "secure-proxy:3129");
        assert_eq!(address("", "", "ws://hub"), None);
    }

    #[test]
    fn forms_of_a_proxy() {
        for (text, is) in [
            ("http://proxy", "proxy:80"),
            ("HTTP://proxy:1/", "proxy:1"),
            ("[::1]:3", "[::1]:3"),
        ] {
            assert_eq!(address(text, "", "ws://hub").unwrap(), is);
        }
        let proxy = found("http://me%40home:a%3ab@proxy:1", "", "ws://hub")
            .unwrap()
            .unwrap();
        assert_eq!(proxy.credentials.as_deref(), Some("me@home:a:b"));
        for wrong in [
            "https://proxy",
            "socks5://proxy",
            "http://",
            "a b",
            "secret%4@proxy",
            "secret%zz@proxy",
        ] {
            let error = found(wrong, "", "ws://hub").unwrap_err();
            assert!(
                error.starts_with("proxy of HTTP_PROXY: ") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn this_machine_is_dialled_directly() {
        for url in [
            "ws://localhost:1",
            "ws://LOCALHOST",
            "ws://127.3.2.1",
            "ws://[::1]:9",
            "ws://[::ffff:127.0.0.1]",
        ] {
            assert_eq!(address("proxy", "", url), None, "{url}");
        }
    }

    #[test]
    fn exceptions_as_go_has_them() {
        for (list, url, is_direct) in [
            ("*", "ws://hub", true),
            ("hub", "ws://hub", true),
            ("HUB", "ws://Hub", true),
            ("hub", "ws://a.hub", true),
            ("hub", "ws://ahub", false),
            (".hub", "ws://hub", false),
            (".hub", "ws://a.hub", true),
            ("*.hub", "ws://a.hub", true),
            ("*.hub", "ws://hub", false),
            ("a, hub ,b", "ws://hub", true),
            ("hub:80", "ws://hub", true),
            ("hub:80", "ws://hub:81", false),
            ("10.0.0.0/8", "ws://10.1.2.3", true),
            ("10.0.0.0/8", "ws://11.1.2.3", false),
            ("10.0.0.0/8", "ws://ten", false),
            ("0.0.0.0/0", "ws://11.1.2.3", true),
            ("10.0.0.0/33", "ws://10.0.0.0", false),
            ("10.0.0.1", "ws://10.0.0.1:5", true),
            ("10.0.0.1:5", "ws://10.0.0.1:5", true),
            ("10.0.0.1:6", "ws://10.0.0.1:5", false),
            ("fe80::/10", "ws://[fe80::7]", true),
            ("fe80::/10", "ws://[fec0::7]", false),
            ("::/0", "ws://[fec0::7]", true),
            ("fe80::7", "ws://[fe80::7]", true),
            ("[fe80::7]:1", "ws://[fe80::7]:1", true),
            ("[fe80::7]:1", "ws://[fe80::7]:2", false),
            (",:80,", "ws://hub", false),
            ("", "ws://hub", false),
        ] {
            assert_eq!(address("proxy", list, url).is_none(), is_direct, "{list} {url}");
        }
    }
}
