//! The network part of a node alone, as a chat over UDP: datagrams and routing, no streams, no units of work, no async.
//!
//! Without arguments two parties in one process say hello to each other. Between two terminals:
//!
//! ```text
//! chat ann 127.0.0.1:4001 bob 127.0.0.1:4002
//! chat bob 127.0.0.1:4002 ann 127.0.0.1:4001
//! ```

use std::error::Error;
use std::net::UdpSocket;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};
use std::{env, io, iter, thread};

use receptor_core::Netceptor;
use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::id::{BackendId, LinkId, PortId};
use receptor_core::node::NetOutput;
use receptor_core::node::io::{Event, LinkOutput};
use receptor_core::time::{Instant, Now, Wall};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The service that both parties listen on; at most 8 characters.
const SERVICE: &str = "chat";

/// What wakes the loop up.
enum News {
    Frame(Vec<u8>),
    Line(String),
}

/// Says `lines` to `peer` and prints what comes, until "bye" was heard.
fn chat(name: &str, peer: &str, socket: UdpSocket, lines: impl Iterator<Item = String> + Send + 'static) -> Outcome {
    // Two threads that wait, and tell the loop.
    let (of_lines, news) = channel();
    let (of_socket, incoming) = (of_lines.clone(), socket.try_clone()?);
    thread::spawn(move || lines.map(News::Line).try_for_each(|line| of_lines.send(line)));
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        // An error of the socket is word of an earlier packet that found nobody.
        let mut frames = iter::from_fn(|| Some(incoming.recv(&mut buffer).map(|length| buffer[..length].to_vec())));
        frames.try_for_each(|frame| frame.map_or(Ok(()), |frame| of_socket.send(News::Frame(frame))))
    });

    let start = std::time::Instant::now();
    let now = || Now {
        mono: Instant::ZERO + start.elapsed(),
        wall: Wall::from_nanos(0) + SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
    };
    let mut config = Config::new(name.into());
    config.backends = vec![Backend::new(BackendKind::External)];
    // A real program takes its seed from the operating system.
    let mut net = Netceptor::new(&config, [name.len() as u8; 32], now())?;
    // The epoch tells runs of a node apart and has to grow from run to run: seconds, in the upper 40 bits, do.
    net.begin(now(), now().wall.as_secs() << 24);
    net.open(now());
    let service = net.open_port(SERVICE, PortId(1))?;
    let mut link = LinkId(1);
    net.link_up(now(), link, BackendId(0), peer.to_owned(), None)?;

    let (mut unsent, mut bye) = (Vec::new(), false);
    loop {
        // What cannot be sent because there is no way to the peer yet is sent later.
        unsent.retain(|line: &String| net.send(now(), service, peer, SERVICE, line.as_bytes(), 30).is_err());
        while let Some(output) = net.poll_output() {
            match output {
                // One frame is one packet; one that is lost was sent in vain.
                NetOutput::Link(id, LinkOutput::Ready) => {
                    let mut frames = Vec::new();
                    net.pull_frames(now(), id, usize::MAX, &mut frames);
                    frames.iter().for_each(|frame| drop(socket.send(frame)));
                }
                // The peer was silent for too long. Begin anew, under a new ID.
                NetOutput::Link(id, LinkOutput::Close) => {
                    net.link_down(now(), id, "closed")?;
                    link = LinkId(id.0 + 1);
                    net.link_up(now(), link, BackendId(0), peer.to_owned(), None)?;
                }
                NetOutput::StoreEpoch(epoch) => net.begin(now(), epoch),
                NetOutput::Event(Event::Datagram { from, data, .. }) => {
                    println!("{from}: {}", String::from_utf8_lossy(&data));
                    bye |= data.ends_with(b"bye");
                }
                _ => {}
            }
        }
        if bye && unsent.is_empty() {
            return Ok(());
        }
        let pause = net.next_deadline().wait(now().mono).unwrap_or(Duration::MAX);
        match news.recv_timeout(pause) {
            Ok(News::Frame(frame)) => net.link_frame(now(), link, frame[..].into())?,
            Ok(News::Line(line)) => unsent.push(line),
            Err(RecvTimeoutError::Timeout) => net.handle_timeout(now()),
            Err(RecvTimeoutError::Disconnected) => return Err("nothing can arrive any more".into()),
        }
    }
}

fn main() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [name, own, peer, address] = &args[..] {
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        let lines = iter::from_fn(|| io::stdin().lines().next()?.ok());
        return chat(name, peer, socket, lines);
    }
    let (ann, bob) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ann.connect(bob.local_addr()?)?;
    bob.connect(ann.local_addr()?)?;
    let say = |text: &str| [text.to_owned()].into_iter();
    let words = say("hello ann, and bye");
    let other = thread::spawn(move || chat("bob", "ann", bob, words));
    chat("ann", "bob", ann, say("hello bob, and bye"))?;
    other.join().expect("bob does not panic")
}
