//! Channels between tasks, as the adapter wants them: bounded, and empty once their receiver is gone.

pub(crate) mod broadcast;
pub(crate) mod mpsc;
pub(crate) mod oneshot;
pub(crate) mod watch;

/// The other side is gone.
#[derive(Debug)]
pub(crate) struct Closed;
