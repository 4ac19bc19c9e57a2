//! Units of work: lifecycle, durable records, local runners, remote units.
//!
//! ```text
//! new(&Config, Rng) · handle_scan(now, Vec<StoredUnit>)
//! handle_request(now, ClientKey, WorkRequest) · stdin(now, ClientKey, Bytes) · stdin_end(now, ClientKey)
//! client_gone(now, ClientKey) · results_drained(now, ClientKey, usize)
//! handle_done(now, TaskKey, UnitTaskResult) · handle_runner(now, &UnitId, RunnerEvent)
//! peer_opened(now, PeerKey) · peer_data(now, PeerKey, Bytes) · peer_drained(now, PeerKey, usize)
//! peer_closed(now, PeerKey, &str) · route_changed(now, &str)
//! session_opened(now, SessionKey, Option<&NodeId>) · session_data(now, SessionKey, Bytes)
//! session_drained(now, SessionKey, usize) · session_closed(now, SessionKey)
//! poll_output() -> Option<WorkOutput> · next_deadline() -> Deadline · handle_timeout(now)
//! advertised_types() -> impl Iterator<Item = &str>
//! ```

pub mod api;
pub mod change;
pub mod extra;
pub mod id;
pub mod process;
pub mod record;
pub mod split;
pub mod state;
pub mod task;

pub use api::{
    ClientKey, PeerKey, SessionKey, Severity, SubmitRequest, TaskKey, UnitView, WorkOutput, WorkReply, WorkRequest,
};
pub use extra::{CommandExtra, Extra, RemoteExtra};
pub use id::UnitId;
pub use process::{ExitStatus, ProcessIdentity};
pub use record::{Change, ChangeKind, Record, Refused};
pub use split::{SplitError, split_words};
pub use state::State;
pub use task::{RunnerEvent, StoredUnit, UnitError, UnitTask, UnitTaskResult};
pub mod stub;
pub use stub::Workceptor;
