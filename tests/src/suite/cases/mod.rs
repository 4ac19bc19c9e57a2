//! The cases, by area.

pub mod control;
pub mod datagrams;
pub mod disk;
pub mod layers;
pub mod links;
pub mod proxies;
pub mod services;
pub mod shutdown;
pub mod start;
pub mod streams;
pub mod tls;
pub mod work;

use super::adapter::{Listener, Stream};

/// Bytes that tell their place.
fn pattern(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ (at >> 13) as u8 ^ seed).collect()
}

/// Everything a stream gives, turned round and sent back. Returns when the other end has closed, too.
fn echo(mut stream: Stream) {
    let mut all = stream.reader.read_to_end().expect("the question comes");
    all.reverse();
    stream.writer.write_all(&all).expect("the answer goes");
    stream.writer.shutdown().expect("the answer ends");
}

/// Accepts one stream in a thread of its own and serves it.
fn serve_one(mut listener: Box<dyn Listener>, serve: fn(Stream)) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || serve(listener.accept().expect("a stream comes")))
}
