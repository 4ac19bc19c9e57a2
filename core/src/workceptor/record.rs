//! The durable record of a unit.

use alloc::string::String;

/// The record.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Human text (`work.md` §5).
    pub detail: String,
}

/// A change of a record.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Change {}
