//! Two nodes joined by an in-memory pipe, with disks that may crash and runners that may survive, under virtual time.

mod crash;
mod disk;
mod finish;
mod local;
mod remote;
mod trouble;
mod world;
