//! The conformance suite of the runtime adapters.
//!
//! A case is written once, against the blocking interface of [`adapter`], and runs on every adapter: `tests/conformance_*`
//! makes one `#[test]` of each pair by [`conformance!`](crate::conformance). A case has a near and a far adapter, so
//! that the same cases also bind two different adapters to each other.
//!
//! Cases wait for conditions with a limit, never for time. When a case is over, nothing of it may be left on the runtime:
//! [`run`] looks.

pub mod adapter;
mod bridge;
pub mod cases;
mod list;
pub mod on_smol;
pub mod on_tokio;
mod setup;
mod table;

pub use crate::live::PATIENCE;
pub use bridge::Bridge;
pub use setup::{Bench, Setup, chain, until_reachable, until_unreachable};
pub use table::{Column, Table};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use self::adapter::Adapter;
use crate::live::{unit_runner, until};

/// Runs a case and puts its outcome into the table.
pub fn run(
    table: &Table,
    column: &'static str,
    name: &'static str,
    adapters: (Arc<dyn Adapter>, Arc<dyn Adapter>),
    case: fn(&Bench),
) {
    // Built by the first case that runs, and not on its time.
    unit_runner();
    let begun = Instant::now();
    let bench = Bench::new(adapters.0, adapters.1);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        case(&bench);
        until("nothing is left on the runtimes", PATIENCE, || {
            bench.is_idle().then_some(()).ok_or_else(|| "a task".to_owned())
        });
    }));
    table.record(column, name, outcome.is_ok(), begun.elapsed());
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}
