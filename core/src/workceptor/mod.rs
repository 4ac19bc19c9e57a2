//! Units of work: lifecycle, durable records, local runners, remote units.

pub mod change;
pub mod extra;
pub mod id;
pub mod process;
pub mod record;
pub mod split;
pub mod state;
pub mod task;

pub use extra::{CommandExtra, Extra, RemoteExtra};
pub use id::UnitId;
pub use process::{ExitStatus, ProcessIdentity};
pub use record::{Change, ChangeKind, Record, Refused};
pub use split::{SplitError, split_words};
pub use state::State;
pub use task::{RunnerEvent, StoredUnit, UnitError, UnitTask, UnitTaskResult};
