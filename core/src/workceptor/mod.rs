//! Units of work: lifecycle, durable records, local runners, remote units.

pub mod id;
pub mod process;
pub mod record;
pub mod task;

pub use id::UnitId;
pub use process::{ExitStatus, ProcessIdentity};
pub use record::{Change, Record};
pub use task::{RunnerEvent, StoredUnit, UnitError, UnitTask, UnitTaskResult};
