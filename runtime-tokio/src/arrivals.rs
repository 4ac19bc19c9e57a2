//! What tasks beside the driver bring to it.

use std::fmt;

use receptor_core::id::{BackendId, LinkId, PipeId, ServiceIndex, TaskId};
use receptor_core::node::io::{ReloadError, TaskResult};
use receptor_core::workceptor::{RunnerEvent, UnitId};
use receptor_host::adapter::FreshConfig;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::links::Linked;
use crate::services;

/// Arrivals that may wait for the driver; who brings more waits.
pub(crate) const ARRIVALS: usize = 256;

/// The driver's door for its own tasks.
pub(crate) type Arrivals = mpsc::Sender<Arrival>;

/// One thing brought.
pub(crate) enum Arrival {
    /// A listener of this backend accepted a connection.
    Accepted(BackendId, Linked),
    /// A dial has ended.
    Dialed(TaskId, Result<Linked, String>),
    /// A closed link is flushed.
    LinkClosed(LinkId, &'static str),
    /// A connection on a control service's Unix socket.
    Control(UnixStream),
    /// A connection on a control service's TCP socket.
    ControlTcp(services::Connection),
    /// A listener of a service accepted a connection.
    Service {
        /// The listener's service.
        service: ServiceIndex,
        socket: services::Connection,
        remote: String,
    },
    /// A connect for a service has ended; with the pipe it is to be.
    Connected(TaskId, PipeId, Result<services::Connection, String>),
    /// The configuration was read again.
    ConfigRead(TaskId, Result<FreshConfig, ReloadError>),
    /// Any other task has ended.
    Done(TaskId, TaskResult),
    /// A job about a unit has ended.
    UnitDone(crate::units::Finished),
    /// A runner spoke.
    Runner(UnitId, RunnerEvent),
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted(..) => "Accepted",
            Self::Dialed(..) => "Dialed",
            Self::LinkClosed(..) => "LinkClosed",
            Self::Control(_) => "Control",
            Self::ControlTcp(_) => "ControlTcp",
            Self::Service { .. } => "Service",
            Self::Connected(..) => "Connected",
            Self::ConfigRead(..) => "ConfigRead",
            Self::Done(..) => "Done",
            Self::UnitDone(_) => "UnitDone",
            Self::Runner(..) => "Runner",
        })
    }
}
