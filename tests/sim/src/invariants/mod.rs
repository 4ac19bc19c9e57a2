//! What must hold in every world at every time, one file each.
//!
//! An invariant looks at what happened and at the node it happened to, so that its cost does not grow with the world. What
//! users must see is checked where they are modelled, in [`users`](crate::users): `answered_once`, `bytes` and `unit_state` there
//! have no file here.

mod hops;
mod loops;
mod no_error_logs;
mod processes;
mod queues;
mod quiet_converges;
mod unit_records;

use crate::users::Users;
use crate::world::{Observed, World};

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// As an error.
    ///
    /// # Errors
    /// Always.
    pub fn of<T>(invariant: &'static str, text: String) -> Result<T, Self> {
        Err(Self { invariant, text })
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

/// Something that must hold.
pub trait Invariant: std::fmt::Debug {
    /// Its name, which is that of its file.
    fn name(&self) -> &'static str;

    /// After everything that happens.
    ///
    /// # Errors
    /// What was seen, if it does not hold.
    fn on(&mut self, _world: &World, _what: &Observed) -> Result<(), String> {
        Ok(())
    }

    /// When all faults are over and there was time to recover. May ask the nodes.
    ///
    /// # Errors
    /// As [`Invariant::on`].
    fn at_rest(&mut self, _world: &mut World, _users: &Users) -> Result<(), String> {
        Ok(())
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<hops::Hops>::default(),
        Box::<queues::Queues>::default(),
        Box::<processes::Processes>::default(),
        Box::<unit_records::UnitRecords>::default(),
        Box::<no_error_logs::NoErrorLogs>::default(),
        Box::<loops::Loops>::default(),
        Box::<quiet_converges::QuietConverges>::default(),
    ]
}
