//! What can be seen of a world from outside, for those who watch it.

use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::id::{LinkId, PipeId};
use receptor_core::node::io::{Event, Reply};
use receptor_core::wire::data::{HEADER_LEN, Header};
use receptor_core::workceptor::{Record, UnitId};

use super::{NodeIndex, World};

/// A frame, as far as watchers need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Bytes.
    pub len: usize,
    /// Of a data frame.
    pub header: Option<Header>,
    /// Of what follows the header, or of the whole control message.
    pub digest: u64,
}

impl Seen {
    pub(super) fn new(frame: &[u8]) -> Self {
        let header = Header::parse(frame).ok();
        let body = if header.is_some() { &frame[HEADER_LEN..] } else { frame };
        Self {
            len: frame.len(),
            header,
            digest: digest(body),
        }
    }
}

/// Of contents, in traces and for watchers.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    HighwayHasher::new(Key([0; 4])).hash64(bytes)
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A node began to run, for the first time or again.
    Started(NodeIndex),
    /// A node was killed, or its machine lost power.
    Stopped {
        /// Which.
        node: NodeIndex,
        /// The machine went down too.
        by_power_cut: bool,
    },
    /// A node put a frame on a link.
    Sent {
        /// The node.
        node: NodeIndex,
        /// Its link.
        link: LinkId,
        /// The frame.
        frame: Seen,
    },
    /// A frame is handed to a node.
    Arrived {
        /// The node.
        node: NodeIndex,
        /// Its link.
        link: LinkId,
        /// The frame, as it comes.
        frame: Seen,
    },
    /// A command was answered.
    Replied {
        /// The node.
        node: NodeIndex,
        /// The command.
        command: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something came on a local pipe, or its end.
    Pipe {
        /// The node.
        node: NodeIndex,
        /// The pipe.
        pipe: PipeId,
    },
    /// The node said something.
    Said {
        /// The node.
        node: NodeIndex,
        /// What.
        event: Event,
    },
    /// The record of a unit was written.
    Recorded {
        /// The node.
        node: NodeIndex,
        /// The unit.
        unit: UnitId,
        /// The record.
        record: Record,
    },
    /// A unit's directory is gone.
    Removed {
        /// The node.
        node: NodeIndex,
        /// The unit.
        unit: UnitId,
    },
    /// The process of a unit was started.
    Spawned {
        /// The node.
        node: NodeIndex,
        /// The unit.
        unit: UnitId,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl World {
    /// From now on what happens is kept for [`World::take_observed`].
    pub fn watch(&mut self) {
        self.observed = Some(Vec::new());
    }

    pub(super) fn observe(&mut self, what: impl FnOnce() -> Observed) {
        if let Some(observed) = &mut self.observed {
            observed.push(what());
        }
    }

    /// What happened since the last call.
    pub fn take_observed(&mut self) -> Vec<Observed> {
        self.observed.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
