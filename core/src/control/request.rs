//! What a client may ask for.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// One command of a client. Node names are as given: `localhost` is not replaced (`control.md` §5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Answered by [`Reply::Status`](super::Reply::Status).
    Status {
        /// The members to answer, all if `None`. The session applies it; here it may save gathering the others.
        fields: Option<Vec<String>>,
    },
    /// Answered by [`Reply::Ping`](super::Reply::Ping).
    Ping {
        /// Node to ping.
        target: String,
    },
    /// Answered by [`Reply::Traceroute`](super::Reply::Traceroute).
    Traceroute {
        /// Node to trace.
        target: String,
    },
    /// Answered by [`Reply::Connecting`](super::Reply::Connecting), which begins a bridged connection.
    Connect(ConnectRequest),
    /// Answered by [`Reply::Reload`](super::Reply::Reload).
    Reload,
    /// A subcommand of `work`.
    Work(WorkRequest),
}

/// `connect` (`control.md` §5.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest {
    /// Node to dial.
    pub node: String,
    /// Service to dial there; not checked.
    pub service: String,
    /// Name of a tls-client; `None` for the mesh's anonymous TLS.
    pub tls: Option<String>,
}

/// A subcommand of `work` (`control.md` §6). Unit IDs are as given: not checked. Empty signatures are `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkRequest {
    /// Answered by [`Reply::SubmitReady`](super::Reply::SubmitReady), and again when the stdin was taken and the unit started.
    Submit(Box<SubmitRequest>),
    /// Answered by [`Reply::UnitList`](super::Reply::UnitList).
    List {
        /// The only unit wanted, all if `None`.
        unit: Option<String>,
    },
    /// Answered by [`Reply::UnitStatus`](super::Reply::UnitStatus).
    Status {
        /// The unit.
        unit: String,
    },
    /// Answered by [`Reply::Cancelled`](super::Reply::Cancelled).
    Cancel {
        /// The unit.
        unit: String,
        /// JWT.
        signature: Option<String>,
    },
    /// Answered by [`Reply::Released`](super::Reply::Released).
    Release {
        /// The unit.
        unit: String,
        /// Whether the command was `force-release`.
        force: bool,
        /// JWT.
        signature: Option<String>,
    },
    /// Answered by [`Reply::Adopted`](super::Reply::Adopted).
    Adopt(Box<AdoptRequest>),
    /// Answered by [`Reply::ResultsStart`](super::Reply::ResultsStart), which begins the raw output.
    Results {
        /// The unit.
        unit: String,
        /// Offset of the first byte wanted; a negative one asks for an empty stream.
        start: i64,
        /// JWT.
        signature: Option<String>,
    },
    /// Answered by [`Reply::Upgraded`](super::Reply::Upgraded), which begins the work session protocol.
    Upgrade {
        /// The version wanted.
        version: u64,
        /// What the clock of whoever asks shows, in milliseconds since the Unix epoch.
        time: Option<u64>,
    },
}

/// `work submit` (`control.md` §6.1). Empty texts of optional members are `None`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SubmitRequest {
    /// Target node.
    pub node: String,
    /// Work type as registered there.
    pub work_type: String,
    /// Name of the tls-client for reaching it.
    pub tls_client: Option<String>,
    /// Go duration, not parsed: a bad one is an error of its own time (see [`duration`](super::duration)).
    pub ttl: Option<String>,
    /// Whether to sign the request to the remote node.
    pub sign_work: bool,
    /// JWT.
    pub signature: Option<String>,
    /// The ID the unit shall have (`differences-1.5.5.md` §5), not checked.
    pub work_unit_id: Option<String>,
    /// Parameters of the work type.
    pub params: BTreeMap<String, String>,
}

/// `work adopt`. Empty texts of optional members are `None`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AdoptRequest {
    /// The node that runs the unit.
    pub node: String,
    /// The unit's ID there, not checked.
    pub unit: String,
    /// Name of the tls-client for reaching it.
    pub tls_client: Option<String>,
    /// Whether to sign requests to it.
    pub sign_work: bool,
    /// Offset of the first byte of output wanted.
    pub start: u64,
    /// JWT.
    pub signature: Option<String>,
}
