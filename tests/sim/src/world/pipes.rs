//! Local pipes of a simulated machine, and what their users do with them.

use std::collections::VecDeque;

use bytes::Bytes;
use receptor_core::id::PipeId;
use receptor_core::node::io::{Input, Layer, PIPE_WINDOW, PipeInput, PipeOutput, Security};
use receptor_core::time::{Duration, Instant};

use super::host::Host;
use super::observed::{Observed, digest};
use super::secure::{Handshake, NullTie};
use super::{Happening, NodeIndex, World};

/// A local pipe, as its user sees it.
#[derive(Debug)]
pub struct PipeEnd {
    pub(super) outbox: VecDeque<u8>,
    pub(super) finish: bool,
    pub(super) finish_sent: bool,
    credit: usize,
    /// Of a stream that is secured, or whose layer is not known yet.
    pub(super) handshake: Option<Handshake>,
    /// The node has said what the bytes are.
    is_begun: bool,
    /// Tied: what is received goes into the outbox of that one.
    partner: Option<PipeId>,
    /// Bytes per second that its user takes; `None` is at once.
    reads: Option<u64>,
    /// When its user has taken what came so far.
    read_until: Instant,
    /// Bytes that the user has not taken.
    undrained: usize,
    /// Everything received, but for what [`World::take_received`] took.
    pub inbox: Vec<u8>,
    /// The node ended its direction.
    pub eof: bool,
    /// The node closed the pipe.
    pub closed: bool,
}

impl PipeEnd {
    fn new() -> Self {
        Self {
            outbox: VecDeque::new(),
            finish: false,
            finish_sent: false,
            credit: PIPE_WINDOW,
            handshake: None,
            is_begun: false,
            partner: None,
            reads: None,
            read_until: Instant::ZERO,
            undrained: 0,
            inbox: Vec::new(),
            eof: false,
            closed: false,
        }
    }

    /// Whether nothing more will be received.
    pub fn ended(&self) -> bool {
        self.eof || self.closed
    }
}

impl Host {
    pub(super) fn open_pipe(&mut self) -> PipeId {
        let id = PipeId(self.next_pipe);
        self.next_pipe += 1;
        self.add_pipe(id);
        id
    }

    pub(super) fn add_pipe(&mut self, id: PipeId) {
        self.pipes.insert(id, PipeEnd::new());
    }

    /// A pipe of a local connection: nothing has to be said about it.
    pub(super) fn begin_plain(&mut self, id: PipeId) {
        self.pipe_mut(id).is_begun = true;
    }

    pub(super) fn add_tie(&mut self, cipher: PipeId, plain: PipeId, security: Security) {
        for (id, partner) in [(cipher, plain), (plain, cipher)] {
            self.add_pipe(id);
            let pipe = self.pipe_mut(id);
            pipe.is_begun = true;
            pipe.partner = Some(partner);
        }
        self.pipe_mut(cipher).handshake = Handshake::new(&Layer::Secure(security));
        self.ties.push(NullTie { cipher, plain });
    }
}

impl World {
    /// The user of a pipe takes no more than this many bytes per second from now on.
    pub fn read_slowly(&mut self, index: NodeIndex, pipe: PipeId, rate: u64) {
        self.hosts[index].pipe_mut(pipe).reads = Some(rate.max(1));
    }

    /// Takes what was received on a pipe.
    pub fn take_received(&mut self, index: NodeIndex, pipe: PipeId) -> Vec<u8> {
        let pipe = self.hosts[index].pipes.get_mut(&pipe);
        pipe.map_or(Vec::new(), |pipe| std::mem::take(&mut pipe.inbox))
    }

    pub(super) fn pump_pipes(&mut self, index: NodeIndex) -> bool {
        let mut inputs = Vec::new();
        let is_stalled = self.hosts[index].stalls_handshakes;
        for (&id, pipe) in &mut self.hosts[index].pipes {
            if pipe.closed || !pipe.is_begun {
                continue;
            }
            if let Some(handshake) = &mut pipe.handshake {
                if is_stalled {
                    continue;
                }
                if let Some(greeting) = handshake.greeting() {
                    pipe.credit -= 1;
                    inputs.push((id, PipeInput::Data(Bytes::copy_from_slice(&[greeting]))));
                }
                if !handshake.is_done {
                    continue;
                }
            }
            let size = pipe.credit.min(pipe.outbox.len()).min(64 << 10);
            if size > 0 {
                pipe.credit -= size;
                inputs.push((id, PipeInput::Data(Bytes::from_iter(pipe.outbox.drain(..size)))));
                if let Some(partner) = pipe.partner {
                    inputs.push((partner, PipeInput::Drained(size)));
                }
            }
            if pipe.finish && !pipe.finish_sent && pipe.outbox.is_empty() {
                pipe.finish_sent = true;
                inputs.push((id, PipeInput::Eof));
            }
        }
        let progress = !inputs.is_empty();
        for (id, input) in inputs {
            match input {
                PipeInput::Drained(bytes) => self.drained(index, id, bytes),
                input => self.tell_node(index, Input::Pipe(id, input)),
            }
        }
        progress
    }

    pub(super) fn carry_out_pipe(&mut self, index: NodeIndex, id: PipeId, output: PipeOutput) {
        let now = self.now;
        let Some(pipe) = self.hosts[index].pipes.get_mut(&id) else {
            return;
        };
        match output {
            PipeOutput::Begin(layer) => {
                assert!(!std::mem::replace(&mut pipe.is_begun, true), "pipe {id:?} begins twice");
                pipe.handshake = Handshake::new(&layer);
            }
            PipeOutput::Data(mut data) => {
                assert!(!pipe.eof && !pipe.closed, "data after the end of pipe {id:?}");
                assert!(pipe.is_begun, "data before the beginning of pipe {id:?}");
                let (partner, mut drained) = (pipe.partner, data.len());
                pipe.undrained += drained;
                assert!(
                    pipe.undrained <= PIPE_WINDOW,
                    "more undrained than the window of pipe {id:?}"
                );
                let handshake = pipe.handshake.as_mut().filter(|handshake| !handshake.is_done);
                let is_secured_now = handshake.is_some();
                if let Some(handshake) = handshake {
                    handshake.on_greeting(data.split_to(1)[0]);
                }
                let mut paced = None;
                match partner {
                    None => {
                        pipe.inbox.extend_from_slice(&data);
                        if let Some(rate) = pipe.reads {
                            let time = Duration::from_nanos(drained as u64 * 1_000_000_000 / rate);
                            pipe.read_until = pipe.read_until.max(now) + time;
                            paced = Some(pipe.read_until);
                        }
                    }
                    Some(partner) => {
                        drained -= data.len();
                        if let Some(partner) = self.hosts[index].pipes.get_mut(&partner) {
                            partner.outbox.extend(&data);
                        }
                    }
                }
                if partner.is_none() {
                    let (len, digest) = (data.len(), digest(&data));
                    self.trace
                        .line(now, index, format_args!("pipe {} {len} {digest:016x}", id.0));
                    self.observe(|| Observed::Pipe { node: index, pipe: id });
                }
                if is_secured_now {
                    self.tell_node(index, Input::Pipe(partner.unwrap_or(id), PipeInput::Secured));
                }
                match paced {
                    Some(at) => {
                        let drained = Happening::Drained {
                            node: index,
                            pipe: id,
                            bytes: drained,
                        };
                        self.schedule(at, index, drained);
                    }
                    None if drained > 0 => self.drained(index, id, drained),
                    None => {}
                }
            }
            PipeOutput::Eof => {
                let is_whole =
                    pipe.partner.is_some() || pipe.handshake.as_ref().is_none_or(|handshake| handshake.is_done);
                if !is_whole {
                    // As TLS would say it; the user of the pipe never had a stream.
                    pipe.closed = true;
                    self.trace.note(now, index, "pipe failed", id.0 as usize);
                    self.observe(|| Observed::Pipe { node: index, pipe: id });
                    let failed = PipeInput::Failed("handshake: unexpected end".into());
                    return self.tell_node(index, Input::Pipe(id, failed));
                }
                pipe.eof = true;
                self.trace.note(now, index, "pipe ends", id.0 as usize);
                self.observe(|| Observed::Pipe { node: index, pipe: id });
            }
            PipeOutput::Credit(bytes) => {
                pipe.credit += bytes;
                assert!(pipe.credit <= PIPE_WINDOW, "credit beyond the window");
            }
            PipeOutput::Close => {
                pipe.closed = true;
                self.trace.note(now, index, "pipe closed", id.0 as usize);
                self.observe(|| Observed::Pipe { node: index, pipe: id });
                self.tell_node(index, Input::Pipe(id, PipeInput::Closed));
            }
        }
    }

    pub(super) fn drained(&mut self, index: NodeIndex, id: PipeId, bytes: usize) {
        let Some(pipe) = self.hosts[index].pipes.get_mut(&id) else {
            return;
        };
        pipe.undrained -= bytes;
        if !pipe.closed {
            self.tell_node(index, Input::Pipe(id, PipeInput::Drained(bytes)));
        }
    }
}
