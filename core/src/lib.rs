//! The sans-IO core of a Receptor node: every decision a node makes, and no IO at all.
//!
//! A node connects to others and forms a mesh with them. Over the mesh, programs send datagrams, open streams and run
//! units of work. [`Node`] is all of that as one value without sockets, clock, threads or `async`: **you** own the event
//! loop, tell the node what happens, and do what it asks. (For tokio and smol that loop exists: `receptor-tokio`,
//! `receptor-smol`.)
//!
//! # The loop
//!
//! 1. Read the clocks once: [`Now`](time::Now) is a monotonic [`Instant`](time::Instant) since any origin you like, and
//!    the wall clock. The first never goes back.
//! 2. Tell the node what happened, one [`Input`](node::io::Input) at a time: [`Node::handle`].
//! 3. Carry out each [`Output`](node::io::Output) until [`Node::poll_output`] says `None`.
//! 4. Write to the sockets that can take something, with frames from [`Node::pull_frames`].
//! 5. Sleep until something happens or [`Node::next_deadline`] has come; then tell the node `Input::Timeout`. A timeout that
//!    comes early, late or twice does no harm. [`Deadline::Now`](deadline::Deadline::Now) means that step 3 was forgotten.
//!
//! # What you do for the node
//!
//! * **Tasks.** [`Output::Task`](node::io::Output::Task) asks for a deed: listen, dial, store a number, start a process. Each is
//!   answered **exactly once**, sooner or later, with [`Input::Done`](node::io::Input::Done); the node waits for it. What you
//!   do not want to do, [`decline`](node::io::Task::decline). A node asks first for its stored epoch and its units of
//!   work, then for its listeners; with all of them answered it says [`Event::Started`](node::io::Event::Started), and takes links.
//! * **Links.** A link is a connection to one other node. Name it with a [`LinkId`](id::LinkId) never used before, and say
//!   [`Up`](node::io::LinkInput::Up) (accepted, or brought by you to a backend of kind
//!   [`External`](config::BackendKind::External)) or answer a dial with [`Dialed`](node::io::TaskResult::Dialed). From then
//!   on it carries *frames* in both directions, whole and in order; on a byte stream, [`link::framing`] finds their borders.
//!   When the connection is gone, whoever ended it, say [`Down`](node::io::LinkInput::Down) once.
//! * **Frames out are pulled.** [`Ready`](node::io::LinkOutput::Ready) says that frames wait. Take only what the socket can
//!   take, again whenever it can take more, until a pull gives nothing; then wait for the next `Ready`. So a slow
//!   neighbour's frames wait inside the node, which drops the right ones, not in a buffer of yours.
//! * **Pipes and credit.** A stream over the mesh ends in a pipe: bytes for you are
//!   [`PipeOutput::Data`](node::io::PipeOutput::Data), yours are [`PipeInput::Data`](node::io::PipeInput::Data). Either direction
//!   begins with [`PIPE_WINDOW`](node::io::PIPE_WINDOW) bytes of credit. You get more with
//!   [`Credit`](node::io::PipeOutput::Credit) and give more with [`Drained`](node::io::PipeInput::Drained), when your reader
//!   took bytes: say it, or the stream stands still. Say [`Closed`](node::io::PipeInput::Closed) once at the end.
//! * **Encryption.** Streams are encrypted from end to end, but not by the node: that takes time. A stream's pipe begins with
//!   [`PipeOutput::Begin`](node::io::PipeOutput::Begin), which says that its bytes are TLS records; you make and read them, with
//!   `stream::Secure` (feature `tls`), and say [`Secured`](node::io::PipeInput::Secured) after the handshake. For bytes that the
//!   node itself reads, [`Output::Secure`](node::io::Output::Secure) asks you to tie two pipes so.
//! * **QUIC, if you want classic nodes' streams.** Set [`Config::quic`](config::Config::quic), run a `quic::Endpoint` (feature
//!   `quic`) beside the node, in another thread or task, and carry [`Output::Quic`](node::io::Output::Quic) to it and what it
//!   says back as [`Input::Quic`](node::io::Input::Quic), through a [`quic::Queue`] each. Its contract is like the node's:
//!   `handle`, `poll_output`, `next_deadline`, `handle_timeout`.
//! * **Commands.** [`Input::Command`](node::io::Input::Command) asks something of the node (ping, dial, listen, send); each gets
//!   one [`Output::Reply`](node::io::Output::Reply) under the same ID.
//!
//! An `Err` from `handle` means a mistake of *your* program, such as bytes without credit. What peers do is never an error:
//! the node closes the link and logs why. Enums of the contract will grow: have a `_` arm for outputs, and answer unknown
//! tasks with `decline`.
//!
//! # Two nodes in one program
//!
//! ```
//! use receptor_core::Node;
//! use receptor_core::config::{Backend, BackendKind, Config};
//! use receptor_core::deadline::Deadline;
//! use receptor_core::id::{BackendId, CommandId, LinkId};
//! use receptor_core::node::io::{Command, Event, Input, LinkInput, LinkOutput, Output, Reply};
//! use receptor_core::time::{Instant, Now, Wall};
//!
//! const LINK: LinkId = LinkId(1);
//! const PING: CommandId = CommandId(1);
//!
//! fn clocks(mono: Instant) -> Now {
//!     Now { mono, wall: Wall::from_nanos(1_700_000_000_000_000_000 + mono.as_nanos()) }
//! }
//!
//! fn node(name: &str, seed: u8) -> Node {
//!     let mut config = Config::new(name.into());
//!     config.backends = vec![Backend::new(BackendKind::External)]; // number 0
//!     Node::new(config, [seed; 32], clocks(Instant::ZERO)).expect("a valid configuration")
//! }
//!
//! // Two nodes, and time that passes when we say so.
//! let mut nodes = [node("alpha", 1), node("beta", 2)];
//! let mut time = Instant::ZERO;
//! let mut frames = Vec::new();
//!
//! let pong = 'pong: loop {
//!     let now = clocks(time);
//!     for this in [0, 1, 0] {
//!         while let Some(output) = nodes[this].poll_output() {
//!             match output {
//!                 // We have no disk and no sockets.
//!                 Output::Task(id, task) => nodes[this].handle(now, Input::Done(id, task.decline()))?,
//!                 // Here "the connection" exists as soon as the second node is ready.
//!                 Output::Event(Event::Started) if this == 1 => {
//!                     for node in &mut nodes {
//!                         let up = LinkInput::Up { backend: BackendId(0), remote: "memory".into(), certified: None };
//!                         node.handle(now, Input::Link(LINK, up))?;
//!                     }
//!                 }
//!                 // And can always take everything.
//!                 Output::Link(LINK, LinkOutput::Ready) => {
//!                     nodes[this].pull_frames(now, LINK, usize::MAX, &mut frames);
//!                     for frame in frames.drain(..) {
//!                         nodes[1 - this].handle(now, Input::Link(LINK, LinkInput::Frame(frame)))?;
//!                     }
//!                 }
//!                 Output::Event(Event::RoutesChanged) if this == 0 => {
//!                     nodes[0].handle(now, Input::Command(PING, Command::Ping { target: "beta".into() }))?;
//!                 }
//!                 Output::Reply(PING, Reply::Pong { from, .. }) => break 'pong from,
//!                 _ => {}
//!             }
//!         }
//!     }
//!     // Everything is quiet: on to whatever comes next.
//!     time = match nodes[0].next_deadline().min(nodes[1].next_deadline()) {
//!         Deadline::At(at, _) => at.max(time),
//!         Deadline::Now => time,
//!         Deadline::Idle => unreachable!("two linked nodes always have something to do"),
//!     };
//!     for node in &mut nodes {
//!         node.handle(clocks(time), Input::Timeout)?;
//!     }
//! };
//! assert_eq!(pong.as_str(), "beta");
//! # Ok::<(), receptor_core::error::CallerError>(())
//! ```
//!
//! # The parts
//!
//! [`node::io`] is the contract, [`config`] what a node is told at its start. [`Netceptor`] is the network part alone, for
//! programs that want datagrams and routing only; [`Workceptor`] the units of work. Below them are the machines they are
//! composed of: [`wire`], [`link`], [`netceptor`], [`stream`], [`quic`], [`control`], [`service`], [`workceptor`]. Programs seldom need
//! those.
//!
//! # Features
//!
//! The crate is `no_std` and needs `alloc`. `std` (on by default) only switches on faster code in dependencies. `quic` adds
//! the machine that speaks with classic nodes' streams, `tls` the TLS configs of streams, links and local sockets, `websocket`
//! links of that kind; all three need std.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(any(feature = "quic", feature = "websocket"))]
extern crate std;

pub mod complaints;
pub mod config;
pub mod control;
pub mod deadline;
pub mod duration;
pub mod error;
pub mod firewall;
pub mod id;
pub mod link;
pub mod netceptor;
pub mod node;
pub mod quic;
pub mod rng;
#[cfg(feature = "sabotage")]
pub mod sabotage;
#[cfg(not(feature = "sabotage"))]
mod sabotage;
pub mod service;
pub mod stream;
#[cfg(test)]
mod table_text;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod wire;
pub mod workceptor;

pub use node::{Netceptor, Node};
pub use workceptor::Workceptor;
