//! Tests of whole nodes.
//!
//! [`world`] is the third adapter of the core: N nodes on virtual time over a simulated network and simulated disks,
//! everything decided by one seed. [`pair`] is its smallest case, [`relay`] a single node among neighbours played by hand,
//! [`mod@line`] three nodes with nothing of its own between them.
//! [`mixed`] is a mesh of the network parts of our nodes and of models of the classic node.
//! [`certificates`] is an authority for them. [`suite`] binds the runtime adapters to each other. [`live`] runs real daemons.
//! The suites are in `tests/`.

pub mod certificates;
pub mod counting;
pub mod line;
pub mod live;
pub mod mixed;
pub mod pair;
pub mod relay;
pub mod street;
pub mod suite;
pub mod world;
