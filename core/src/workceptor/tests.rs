//! Two nodes joined by an in-memory pipe, with disks that may crash and runners that may survive, under virtual time.

mod adopt;
mod classic;
mod crash;
mod disk;
mod finish;
mod go;
mod limits;
mod local;
mod released;
mod remote;
mod signing;
mod tls;
mod trouble;
mod upgrade;
mod world;
