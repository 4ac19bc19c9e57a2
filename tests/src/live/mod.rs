//! Live tests: real `receptor` processes on loopback, driven through their sockets and by their real peers and clients.
//!
//! A [`Scratch`] is one test's directory, and the owner of every process started below it. A [`Node`] is one daemon, built
//! from configuration entities, that can be killed and started again. [`Control`] is a plain client of the control socket,
//! [`RawPeer`] a neighbour that says whatever a test wants. Nothing waits blindly: [`until`] polls with a limit.
//!
//! | variable | effect |
//! |---|---|
//! | `RECEPTOR_TEST_BINARY` | the daemon to test, instead of the one that cargo builds here |
//! | `RECEPTOR_REQUIRE_PEERS` | `1`: a real peer or client that cannot be had fails the test instead of skipping it |

mod authority;
mod binary;
mod control;
mod http_proxy;
mod node;
mod noise;
mod peers;
mod port;
mod raw_peer;
mod receptorctl;
mod scratch;
mod socket;
mod tls_client;
mod usage;
mod wait;

pub use authority::{Authority, Identity};
pub use binary::{receptor, unit_runner};
pub use control::{Control, Submitted, UNIT_LIMIT};
pub use http_proxy::http_proxy;
pub use node::{Builder, Exited, Node, WORK_TYPES, chain, neighbours, routes, wait_for_routes};
pub use noise::{assert_same, noise};
pub use peers::{aioquic, ansible_runner, go_node, python_client, script};
pub use port::free_port;
pub use raw_peer::{Hello, RawPeer};
pub use receptorctl::{Ended, Receptorctl};
pub use scratch::{Process, Scratch};
pub use socket::{Listener, Place, Socket};
pub use tls_client::{tls_accept, tls_client};
pub use usage::{Usage, raise_file_limit};
pub use wait::{PATIENCE, holds_for, until};

use std::io::Write as _;

/// Says on the terminal, past the capture of the test harness, that a test could not be run here.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
