//! Which executor, and how it is reached.

use alloc::string::String;
use core::fmt;

use super::extra::RemoteExtra;

/// A node and the TLS config it is dialled with: units that want another have sessions of their own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Target {
    pub(super) node: String,
    /// `None` is the anonymous mode.
    pub(super) tls_client: Option<String>,
}

impl Target {
    pub(super) fn of(extra: &RemoteExtra) -> Self {
        Self {
            node: extra.remote_node.clone(),
            tls_client: Some(extra.tls_client.clone()).filter(|name| !name.is_empty()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)
    }
}
