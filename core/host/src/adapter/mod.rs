//! What every adapter needs beside its runtime, and what is no decision about the protocol: bookkeeping between the task
//! that owns the node and everybody else. It waits by [`Waker`](std::task::Waker) only, so any runtime will do.

mod api;
mod batch;
mod clock;
mod frame_pipe;
mod frames;
mod handshakes;
mod layered;
mod layers;
mod local_tls;
mod machine;
mod pipe;
mod proxy;
mod quic;
mod ready;
mod reload;
mod secure;
mod signing;
mod tie;
mod tls;
mod unit_jobs;
mod unit_worker;

pub use api::{Datagram, End, MeshError, MeshEvent, Options, Pong, ReceiveError, StartError, Unreachable};
pub use batch::Batch;
pub use clock::{Clock, wall_clock};
pub use frame_pipe::{FrameDriver, FrameTask, LinkMaker, Outgoing};
pub use frames::{FrameReader, ReadBuffer};
pub use handshakes::{Handshake, Handshakes, SharedComplaints};
pub use layered::{Layered, Over, Stream};
pub use layers::{Accepting, Dialing, PeerAt};
pub use local_tls::{LOCAL_HANDSHAKE_LIMIT, LOCAL_HANDSHAKES, LocalConnection};
pub use machine::Machine;
pub use pipe::{DriverEnd, Incoming, LocalEnd, LocalNews, pipe};
pub use proxy::{LocalSocket, Progress, Proxy, TICK};
pub use quic::{Quic, QuicTask, quic};
pub use ready::{DropFlag, Flag, ReadySet, Source};
pub use reload::{ConfigSource, FreshConfig, Reloading, read_config};
pub use secure::SecureEnd;
pub use signing::{check_private_key, check_public_key, sign_token, verify_token};
pub use tie::tie;
pub use tls::Tls;
pub use unit_jobs::{Job, UnitJobs};
pub use unit_worker::UnitWorker;
