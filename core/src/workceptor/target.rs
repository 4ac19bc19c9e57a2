//! Which executor, and how it is reached.

use alloc::string::String;
use core::fmt;

use super::extra::RemoteExtra;
use super::tombstone::Owed;

/// A node and the TLS config it is dialled with: units that want another have sessions of their own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Target {
    pub(super) node: String,
    /// `None` is the anonymous mode.
    pub(super) tls_client: Option<String>,
}

impl Target {
    pub(super) fn of(extra: &RemoteExtra) -> Self {
        Self::new(&extra.remote_node, &extra.tls_client)
    }

    pub(super) fn of_owed(owed: &Owed) -> Self {
        Self::new(&owed.node, &owed.tls_client)
    }

    fn new(node: &str, tls_client: &str) -> Self {
        Self {
            node: node.into(),
            tls_client: Some(tls_client.into()).filter(|name: &String| !name.is_empty()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.node)
    }
}
