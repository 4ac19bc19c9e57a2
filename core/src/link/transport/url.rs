//! The URL of a WebSocket peer (`wire.md` §3.4).

use alloc::string::String;
use core::fmt;

/// A URL of scheme `ws` or `wss`, in its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    is_secure: bool,
    authority: String,
    /// Length of the host in `authority`.
    host: usize,
    port: u16,
    path: String,
}

/// Why a text is not the URL of a WebSocket peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UrlError {
    /// The scheme is neither `ws` nor `wss`.
    Scheme,
    /// There is a user name, which the classic node does not take either.
    User,
    /// The host is missing or has characters that no host has.
    Host,
    /// The port is no number from 1 to 65,535.
    Port,
    /// A character that must be escaped in a URL.
    Character,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme must be ws or wss",
            Self::User => "user info is not allowed",
            Self::Host => "invalid host",
            Self::Port => "invalid port",
            Self::Character => "invalid character",
        })
    }
}

impl core::error::Error for UrlError {}

impl Url {
    /// Takes a URL apart. A fragment is dropped.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is_secure = match scheme {
            _ if scheme.eq_ignore_ascii_case("ws") => false,
            _ if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let host = match authority.find(']') {
            Some(bracket) if authority.starts_with('[') => bracket + 1,
            Some(_) => return Err(UrlError::Host),
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (name, port) = authority.split_at(host);
        let is_literal = name.starts_with('[');
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte) || (is_literal && byte == b':');
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() || !bare.bytes().all(legal) {
            return Err(UrlError::Host);
        }
        let port = match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(UrlError::Host),
            None | Some("") => default_port(is_secure),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number: u16 = digits.parse().map_err(|_| UrlError::Port)?;
                if number == 0 {
                    return Err(UrlError::Port);
                }
                number
            }
            Some(_) => return Err(UrlError::Port),
        };
        let path = if path.starts_with('/') {
            path.into()
        } else {
            alloc::format!("/{path}")
        };
        Ok(Self {
            is_secure,
            authority: authority.into(),
            host,
            port,
            path,
        })
    }

    /// Whether the scheme is `wss`.
    pub const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host and port as they stand in the URL: what the `Host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.authority[..self.host]
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// The port, that of the scheme if the URL has none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, to connect to.
    pub fn address(&self) -> String {
        alloc::format!("{}:{}", &self.authority[..self.host], self.port)
    }

    /// Path and query, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

const fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, secure, host, address, path) in [
            ("ws://hub", false, "hub", "hub:80", "/"),
            (
                "WSS://hub.example:8443/a/b?c=d#e",
                true,
                "hub.example",
                "hub.example:8443",
                "/a/b?c=d",
            ),
            ("wss://[fe80::1]:7?x", true, "fe80::1", "[fe80::1]:7", "/?x"),
            ("ws://[::1]", false, "::1", "[::1]:80", "/"),
            ("ws://a:/", false, "a", "a:80", "/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.is_secure(), url.host(), url.address().as_str(), url.path()),
                (secure, host, address, path),
                "{text}"
            );
        }
        assert_eq!(Url::parse("ws://hub:81/").unwrap().authority(), "hub:81");
    }

    #[test]
    fn what_is_no_url_of_a_peer_is_named() {
        for (text, error) in [
            ("hub:80", UrlError::Scheme),
            ("http://hub", UrlError::Scheme),
            ("ws://me@hub", UrlError::User),
            ("ws://", UrlError::Host),
            ("ws://:80", UrlError::Host),
            ("ws://::1", UrlError::Host),
            ("ws://[::1", UrlError::Host),
            ("ws://[::1]x:1", UrlError::Host),
            ("ws://a]:1", UrlError::Host),
            ("ws://a\\b", UrlError::Host),
            ("ws://a:b", UrlError::Port),
            ("ws://a:0", UrlError::Port),
            ("ws://a:65536", UrlError::Port),
            ("ws://a:+1", UrlError::Port),
            ("ws://a/b c", UrlError::Character),
            ("ws://a/\r\nX: y", UrlError::Character),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }
}
