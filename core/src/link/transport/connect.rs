//! Through an HTTP proxy: `CONNECT` and its answer, before anything else is said (RFC 9110 §9.3.6).

use alloc::vec::Vec;

use bytes::Bytes;
use data_encoding::BASE64;

use super::{TransportError, head_end};
use crate::config::HttpProxy;

/// The request to a proxy, and the wait for its answer.
#[derive(Debug)]
pub(super) struct Connect {
    request: Option<Bytes>,
    head: Vec<u8>,
}

impl Connect {
    /// Asks for `target`, `HOST:PORT`.
    pub(super) fn new(target: &str, proxy: &HttpProxy) -> Self {
        let mut request = alloc::format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = &proxy.credentials {
            request.push_str("Proxy-Authorization: Basic ");
            BASE64.encode_append(credentials.as_bytes(), &mut request);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        Self {
            request: Some(request.into()),
            head: Vec::new(),
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.request.take()
    }

    /// What the proxy says; once it has agreed, the bytes behind its answer.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        let Some(end) = head_end(&mut self.head, bytes)? else {
            return Ok(None);
        };
        let line = self.head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] = line else {
            return Err(TransportError::Proxy("no HTTP answer".into()));
        };
        // Whatever 2xx it is (RFC 9110 §9.3.6).
        let is_granted = matches!(
            status,
            [b'2', b'0'..=b'9', b'0'..=b'9'] | [b'2', b'0'..=b'9', b'0'..=b'9', b' ', ..]
        );
        if !is_granted {
            let status = alloc::string::String::from_utf8_lossy(&status[..status.len().min(100)]).into_owned();
            return Err(TransportError::Proxy(status));
        }
        Ok(Some(self.head.split_off(end)))
    }
}
