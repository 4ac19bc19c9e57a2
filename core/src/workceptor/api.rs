//! What goes into [`Workceptor`](super::Workceptor) and what comes out of it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::id::UnitId;
use super::state::State;
use super::task::UnitTask;
use crate::id::NodeId;

/// One control session. Chosen by whoever owns the sessions; it has at most one request under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientKey(pub u64);

/// One upgraded control session in which another node submits to this one. Chosen by whoever owns the sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionKey(pub u64);

/// One stream to another node's `control` service, by which this node submits. Chosen here, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerKey(pub u64);

/// One task, echoed in its one result. Chosen here, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskKey(pub u64);

/// Where requests come from: decides which of them must be signed (`work.md` §15).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Requester {
    /// It is a Unix socket of this node: nothing has to be signed.
    pub is_local: bool,
    /// The node at the other end, if that is known.
    pub node: Option<NodeId>,
    /// By how many nanoseconds that node's clock is ahead of this one's, if that is known.
    pub clock_ahead: Option<i64>,
}

impl Requester {
    /// A Unix socket of this node.
    pub const LOCAL: Self = Self {
        is_local: true,
        node: None,
        clock_ahead: None,
    };
}

/// A `work` command (`control.md` §6). IDs are as given.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkRequest {
    /// Answered by [`WorkReply::SubmitReady`], then, after the stdin, by `Started`, `Submitted` or `Error`.
    Submit(Box<SubmitRequest>),
    /// Answered by [`WorkReply::List`].
    List {
        /// The only unit wanted, all if `None`.
        unit: Option<String>,
    },
    /// Answered by [`WorkReply::Status`].
    Status {
        /// The unit.
        unit: String,
    },
    /// Answered by [`WorkReply::Cancelled`].
    Cancel {
        /// The unit.
        unit: String,
        /// JWT.
        signature: Option<String>,
    },
    /// Answered by [`WorkReply::Released`].
    Release {
        /// The unit.
        unit: String,
        /// Whether it goes whatever the remote node and the disk say.
        force: bool,
        /// JWT.
        signature: Option<String>,
    },
    /// Answered by [`WorkReply::Adopted`].
    Adopt(Box<AdoptRequest>),
    /// Answered by [`WorkReply::ResultsStart`]; then [`WorkOutput::ResultsData`] and one [`WorkOutput::ResultsEnd`] follow.
    Results {
        /// The unit.
        unit: String,
        /// First byte wanted; a negative one asks for an empty stream.
        start: i64,
        /// JWT.
        signature: Option<String>,
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
    /// The remote unit must have started by then.
    pub ttl: Option<Duration>,
    /// Whether to sign the request to the remote node.
    pub sign_work: bool,
    /// JWT.
    pub signature: Option<String>,
    /// The ID the unit shall have (`differences-1.5.5.md` §5).
    pub work_unit_id: Option<String>,
    /// Parameters of the work type.
    pub params: BTreeMap<String, String>,
}

/// `work adopt`: a unit that another node submitted is followed by this one, too.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AdoptRequest {
    /// The executor.
    pub node: String,
    /// The unit's ID there, as given.
    pub unit: String,
    /// Name of the tls-client for reaching the executor.
    pub tls_client: Option<String>,
    /// Whether to sign requests to the executor.
    pub sign_work: bool,
    /// First byte of output that is wanted here.
    pub start: u64,
    /// JWT.
    pub signature: Option<String>,
}

/// The answer to a [`WorkRequest`].
#[derive(Clone, PartialEq, Debug)]
pub enum WorkReply {
    /// The unit exists durably; all further input of the client is its stdin, as far as [`WorkOutput::StdinCredit`] goes.
    SubmitReady {
        /// Its ID.
        unit: UnitId,
    },
    /// The unit has been started.
    Started {
        /// Its ID.
        unit: UnitId,
    },
    /// The unit and its stdin are kept here until the remote node can be reached.
    Submitted {
        /// Its ID.
        unit: UnitId,
    },
    /// One unit.
    Status(Box<UnitView>),
    /// Units by ID.
    List(BTreeMap<String, UnitView>),
    /// The unit is over.
    Cancelled {
        /// The ID as given.
        unit: String,
        /// The remote node could not be asked yet.
        pending: bool,
    },
    /// The unit is gone.
    Released {
        /// The ID as given.
        unit: String,
        /// The remote node could not be asked yet.
        pending: bool,
    },
    /// The unit is followed here.
    Adopted {
        /// Its ID here.
        unit: UnitId,
        /// Whether it was not before.
        fresh: bool,
    },
    /// Raw output follows.
    ResultsStart {
        /// The ID as given.
        unit: String,
    },
    /// Refused or failed, in the classic words.
    Error(String),
}

/// What status answers show of a unit; secrets are not in it.
#[derive(Clone, PartialEq, Debug)]
pub struct UnitView {
    /// State.
    pub state: State,
    /// Human text.
    pub detail: String,
    /// Bytes of output that can be read here.
    pub stdout_size: u64,
    /// Work type, `remote` for the local half of a remote unit.
    pub work_type: String,
    /// What the work type adds.
    pub extra: Value,
}

/// What the machine wants.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkOutput {
    /// Do this and answer with `handle_done`, exactly once.
    Task(TaskKey, UnitId, UnitTask),
    /// Make a token and answer with [`handle_signed`](super::Workceptor::handle_signed), exactly once.
    Sign {
        /// Echoed in the answer.
        key: TaskKey,
        /// File with the RSA private key.
        key_file: String,
        /// What the token says: JSON, to be signed byte for byte as it is.
        claims: String,
    },
    /// Look at the signature of a token and answer with [`handle_verified`](super::Workceptor::handle_verified), exactly
    /// once. What the token says is not looked at.
    Verify {
        /// Echoed in the answer.
        key: TaskKey,
        /// File with the RSA public key.
        key_file: String,
        /// The token as it came, at most [`MAX_TOKEN`](super::signing::MAX_TOKEN) bytes.
        token: String,
    },
    /// To a client.
    Reply(ClientKey, WorkReply),
    /// The client may send this many more bytes of stdin.
    StdinCredit(ClientKey, usize),
    /// Raw output for a client; answer with `results_drained` as it takes them.
    ResultsData(ClientKey, Bytes),
    /// There is no more output for the client; its session ends.
    ResultsEnd(ClientKey),
    /// Open a stream to the `control` service of a node; answer with `peer_opened` or `peer_closed`.
    OpenPeer {
        /// Its fresh name.
        key: PeerKey,
        /// The node.
        node: String,
        /// The TLS client config that it is dialled with; `None` is the anonymous mode.
        tls_client: Option<String>,
    },
    /// Bytes for a peer's stream; answer with `peer_drained` as it takes them.
    PeerSend(PeerKey, Bytes),
    /// No more bytes for a peer's stream, after those before; the other direction goes on.
    FinishPeer(PeerKey),
    /// A peer's bytes are wanted again, see [`Workceptor::peer_takes`](super::Workceptor::peer_takes).
    PeerResume(PeerKey),
    /// Close a peer's stream; nothing more is expected of it.
    ClosePeer(PeerKey),
    /// Break a peer's stream off, so that the other side cannot take what it has for all there is; nothing more is
    /// expected of it.
    AbortPeer(PeerKey),
    /// Bytes for a submitter's session; answer with `session_drained` as it takes them.
    SessionSend(SessionKey, Bytes),
    /// Close a submitter's session, which broke the protocol; nothing more is expected of it.
    CloseSession(SessionKey),
    /// A line for the log.
    Log(Severity, String),
}

/// How loud a line is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The node lost something or cannot do what it was told.
    Error,
    /// Somebody should look.
    Warning,
    /// Changes an operator follows.
    Info,
    /// Everything else.
    Debug,
}
