//! The sans-IO core of a Receptor node.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod config;
pub mod control;
pub mod deadline;
pub mod error;
pub mod id;
pub mod link;
pub mod netceptor;
pub mod node;
pub mod rng;
pub mod stream;
pub mod time;
pub mod wire;
pub mod workceptor;

pub use node::{Netceptor, Node};
pub use workceptor::Workceptor;
