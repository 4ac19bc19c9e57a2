//! Services between local sockets and the mesh, in real daemons: `tcp-server`, `tcp-client`, `unix-socket-server`,
//! `unix-socket-client` (`services.md`).

mod bytes;
mod load;
mod setup;
mod trouble;
