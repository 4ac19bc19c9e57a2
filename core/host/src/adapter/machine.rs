//! The machine in the middle of an adapter.

use bytes::BytesMut;
use receptor_core::deadline::Deadline;
use receptor_core::error::CallerError;
use receptor_core::id::LinkId;
use receptor_core::node::Node;
use receptor_core::node::io::{Input, Output};
use receptor_core::time::Now;

/// What the driver drives: the node, or a stand-in in tests.
pub trait Machine: Send + 'static {
    /// Tells it a fact.
    fn handle(&mut self, now: Now, input: Input) -> Result<(), CallerError>;
    /// What it wants next.
    fn poll_output(&mut self) -> Option<Output>;
    /// When it wants [`Input::Timeout`].
    fn next_deadline(&self) -> Deadline;
    /// Takes frames for a link, about so many bytes.
    fn pull_frames(&mut self, now: Now, link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>);
}

impl Machine for Node {
    fn handle(&mut self, now: Now, input: Input) -> Result<(), CallerError> {
        self.handle(now, input)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }

    fn next_deadline(&self) -> Deadline {
        self.next_deadline()
    }

    fn pull_frames(&mut self, now: Now, link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) {
        self.pull_frames(now, link, max_bytes, into);
    }
}
