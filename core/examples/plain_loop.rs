//! A node in a plain event loop: `mio`, non-blocking TCP, no async. Two of them, a thread each, ping each other.
//!
//! A pass of the loop is what the first page of the crate says: carry out what the node wants, sleep until something
//! happens or the deadline comes, tell the node.

use std::error::Error;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime};
use std::{net, thread};

use bytes::{Buf as _, BytesMut};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use receptor_core::Node;
use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::id::{BackendId, CommandId, LinkId};
use receptor_core::link::framing;
use receptor_core::node::io::{Command, Event, Input, LinkInput, LinkOutput, Output, Reply};
use receptor_core::time::{Instant, Now, Wall};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const LINK: LinkId = LinkId(1);

/// A connection, what came of a frame whose rest is missing, and frames that the socket does not take yet.
struct Link(TcpStream, BytesMut, BytesMut);

impl Link {
    /// Reads and writes until the socket has nothing more, the node has nothing more, or the socket takes no more.
    fn transfer(&mut self, node: &mut Node, now: Now) -> Outcome {
        let Self(socket, read, write) = self;
        let mut buffer = [0; 16 << 10];
        while let Some(count) = unless_blocked(socket.read(&mut buffer))? {
            if count == 0 {
                return Err("end of stream".into());
            }
            read.extend_from_slice(&buffer[..count]);
            while let Some(frame) = framing::next_frame(read) {
                node.handle(now, Input::Link(LINK, LinkInput::Frame(frame)))?;
            }
        }
        let mut frames = Vec::new();
        loop {
            if write.is_empty() {
                node.pull_frames(now, LINK, 64 << 10, &mut frames);
                for frame in frames.drain(..) {
                    write.extend_from_slice(&framing::prefix(frame.len()).ok_or("a frame too long for TCP")?);
                    write.extend_from_slice(&frame);
                }
            }
            match unless_blocked(socket.write(write))? {
                Some(count) if count > 0 => write.advance(count),
                _ => return Ok(()),
            }
        }
    }
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        result => result.map(Some),
    }
}

/// Runs a node on one connection until that ends, and tells how long the other node took to answer a ping.
fn run(name: &str, peer: &str, socket: net::TcpStream, told: &Sender<String>) -> Outcome {
    let start = std::time::Instant::now();
    let now = || Now {
        mono: Instant::ZERO + start.elapsed(),
        wall: Wall::from_nanos(0) + SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
    };
    let mut config = Config::new(name.into());
    config.backends = vec![Backend::new(BackendKind::External)];
    // A real program takes its seed from the operating system.
    let mut node = Node::new(config, [name.len() as u8; 32], now())?;
    socket.set_nonblocking(true)?;
    let mut link = Link(TcpStream::from_std(socket), BytesMut::new(), BytesMut::new());
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut link.0, Token(0), both)?;
    loop {
        while let Some(output) = node.poll_output() {
            match output {
                // Neither listener nor dial nor disk: with backends of kind `Listener` or `Peer` there would be tasks
                // to bind and to connect, answered like this when they are done.
                Output::Task(id, task) => node.handle(now(), Input::Done(id, task.decline()))?,
                Output::Event(Event::Started) => {
                    let (backend, remote) = (BackendId(0), peer.to_owned());
                    node.handle(
                        now(),
                        Input::Link(
                            LINK,
                            LinkInput::Up {
                                backend,
                                remote,
                                certified: None,
                            },
                        ),
                    )?;
                }
                Output::Link(LINK, LinkOutput::Ready) => link.transfer(&mut node, now())?,
                Output::Link(LINK, LinkOutput::Close) => return Err("the node gave the link up".into()),
                Output::Event(Event::RoutesChanged) | Output::Reply(_, Reply::Error(_)) => {
                    let target = peer.to_owned();
                    node.handle(now(), Input::Command(CommandId(0), Command::Ping { target }))?;
                }
                Output::Reply(_, Reply::Pong { from, time }) => {
                    told.send(format!("{name}: {from} answered in {time:?}"))?;
                }
                _ => {}
            }
        }
        poll.poll(&mut events, node.next_deadline().wait(now().mono))?;
        node.handle(now(), Input::Timeout)?;
        link.transfer(&mut node, now())?;
    }
}

fn main() -> Outcome {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let one = net::TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    let (told, pongs) = channel();
    for (name, peer, socket) in [("alpha", "beta", one), ("beta", "alpha", other)] {
        let told = told.clone();
        thread::spawn(move || {
            if let Err(error) = run(name, peer, socket, &told) {
                eprintln!("{name}: {error}");
            }
        });
    }
    for _ in 0..2 {
        println!("{}", pongs.recv_timeout(Duration::from_secs(30))?);
    }
    Ok(())
}
