//! Blocking host pieces shared by the runtime adapters: unit store, unit runner, process identity, socket files.
//!
//! Nothing here decides anything about the protocol: that is the core's. Functions block; an adapter calls them from its
//! blocking pool. Errors are texts ready for the core's answers: lower case, with the path.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(
    clippy::result_large_err,
    reason = "`UnitError` carries the record as it is; that is the core's contract"
)]

pub mod adapter;
mod atomic;
pub mod epoch;
pub mod error_text;
pub mod file_watch;
pub mod identity;
pub mod local_socket;
pub mod machine;
pub mod open_files;
pub mod process_table;
pub mod reap;
pub mod remains;
pub mod runner;
pub mod socket_file;
pub mod store;
pub mod tcp;
pub mod tls_files;
pub mod udp;
mod unix_path;

pub use store::{Scan, UnitDir, UnitStore};
