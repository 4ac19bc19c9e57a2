//! The `receptor` program: configuration, logging and the way into the node.

pub mod bell;
pub mod certificates;
pub mod check;
pub mod config;
pub mod demo;
pub mod expiry;
pub mod help;
pub mod logging;
#[cfg(any(feature = "tokio", feature = "smol"))]
pub mod node;
pub mod reload;
pub mod run;
pub mod tls_watch;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
