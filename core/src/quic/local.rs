//! One service of this node as QUIC sees it: a `quinn-proto` endpoint has no notion of local addresses, so each service
//! has its own.

use alloc::collections::BTreeMap;
use alloc::string::String;

use quinn_proto::ConnectionHandle;

use super::message::ConnectionId;
use super::settings::Settings;

#[derive(Debug)]
pub(super) struct Local {
    pub(super) quic: quinn_proto::Endpoint,
    pub(super) is_listening: bool,
    /// The TLS server config of what is accepted; `None` is the anonymous mode.
    pub(super) tls: Option<String>,
    handles: BTreeMap<usize, ConnectionId>,
}

impl Local {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            quic: quinn_proto::Endpoint::new(Settings::endpoint(seed), None, true, None),
            is_listening: false,
            tls: None,
            handles: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, handle: ConnectionHandle, id: ConnectionId) {
        self.handles.insert(handle.0, id);
    }

    pub(super) fn remove(&mut self, handle: ConnectionHandle) {
        self.handles.remove(&handle.0);
    }

    pub(super) fn find(&self, handle: ConnectionHandle) -> Option<ConnectionId> {
        self.handles.get(&handle.0).copied()
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.handles.values().copied()
    }

    /// Whether nothing here needs the service any more.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_listening && self.handles.is_empty()
    }
}
