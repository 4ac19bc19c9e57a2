//! The simulator: the third adapter of the core, without IO.
//!
//! [`world`] is N whole nodes on virtual time over a simulated network and simulated disks, everything decided by one seed.
//! [`pair`] is its smallest case, [`relay`] a single node among neighbours played by hand, [`street`] two tables of streams and
//! the road between them, [`mixed`] a mesh of the network parts of our nodes and of models of the classic node.

pub mod chance;
pub mod invariants;
pub mod mixed;
pub mod pair;
pub mod plan;
pub mod relay;
pub mod run;
pub mod shrink;
pub mod street;
pub mod swarm;
pub mod users;
pub mod world;
