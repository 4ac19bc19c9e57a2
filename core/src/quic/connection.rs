//! One connection and its one stream, from the handshake to a late and polite farewell.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};

use bytes::Bytes;
use quinn_proto::{ConnectionHandle, Dir, Event, ReadError, ReadableError, StreamEvent, StreamId, VarInt, WriteError};

use super::clock::Clock;
use super::message::{ConnectionId, FromEndpoint, Path, WINDOW};
use super::text;
use crate::time::{Duration, Instant};

/// Silence during the handshake that ends it (`wire.md` §21.3). quinn has no such setting.
const HANDSHAKE_SILENCE: Duration = Duration::from_secs(15);

/// The whole handshake, life signs or not (`wire.md` §21.3).
const HANDSHAKE_TOTAL: Duration = Duration::from_secs(30);

/// How long an accepted connection may be without its stream (`wire.md` §21.6).
const ACCEPT_WAIT: Duration = Duration::from_secs(60);

/// How long a connection stays when both directions have ended and are acknowledged. A Go application that has not read
/// all by the time of the close loses the rest, and nothing tells when it has (`wire.md` §21.7).
const LINGER: Duration = Duration::from_secs(60);

/// The first byte of every stream (`wire.md` §21.5).
const FIRST_BYTE: u8 = 0;

/// Most bytes in one message to the node.
const CHUNK: usize = 64 << 10;

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Handshaking {
        began: Instant,
        heard: Instant,
    },
    /// Accepted; the stream or its first byte is missing. The node has not heard of it.
    Unannounced {
        since: Instant,
    },
    Open,
    /// Closed by either side. What was received may still be on its way to the node.
    Ended,
}

/// The direction from the node to the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    Open,
    /// FIN is sent.
    Finished,
    /// FIN is acknowledged, or the peer does not want more.
    Done,
}

/// What became of a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Goes,
    /// To be forgotten without another word to the peer.
    Dropped,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) quic: quinn_proto::Connection,
    pub(super) handle: ConnectionHandle,
    pub(super) path: Path,
    id: ConnectionId,
    is_dialled: bool,
    stage: Stage,
    stream: Option<StreamId>,
    /// From the node, not yet taken by quinn; at most [`WINDOW`] bytes.
    outgoing: VecDeque<Bytes>,
    /// The node will send no more.
    eof: bool,
    sending: Sending,
    /// Given to the node and not drained; at most [`WINDOW`] bytes.
    undrained: usize,
    /// The peer's direction was read to its end.
    received_all: bool,
    /// Read when the connection was lost, and for the node when it drains; at most the receive window.
    tail: VecDeque<Bytes>,
    /// The peer's direction ends behind the tail.
    tail_has_eof: bool,
    /// What to tell the node last.
    end: Option<Option<String>>,
    /// The node has let go, or was told of the end: it is told nothing more.
    is_released: bool,
    /// Since when nothing is left but to wait for the peer's application.
    lingers_since: Option<Instant>,
    /// Waits in the endpoint's queue of senders.
    pub(super) is_ready: bool,
    /// Its entry in the endpoint's timers.
    pub(super) armed: Option<Instant>,
    /// Counted among the handshakes of peers.
    pub(super) is_half_open: bool,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        id: ConnectionId,
        path: Path,
        handle: ConnectionHandle,
        quic: quinn_proto::Connection,
        is_dialled: bool,
    ) -> Self {
        Self {
            quic,
            handle,
            path,
            id,
            is_dialled,
            stage: Stage::Handshaking { began: now, heard: now },
            stream: None,
            outgoing: VecDeque::new(),
            eof: false,
            sending: Sending::Open,
            undrained: 0,
            received_all: false,
            tail: VecDeque::new(),
            tail_has_eof: false,
            end: None,
            is_released: false,
            lingers_since: None,
            is_ready: false,
            armed: None,
            is_half_open: !is_dialled,
        }
    }

    /// Whether the node has not heard of it and may never do.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.stage, Stage::Handshaking { .. } | Stage::Unannounced { .. })
    }

    /// Whether nothing of it is needed any more.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Ended && self.is_released && self.quic.is_drained()
    }

    /// Since when it only waits for the peer's application.
    pub(super) fn lingers_since(&self) -> Option<Instant> {
        self.lingers_since.filter(|_| self.stage != Stage::Ended)
    }

    /// A datagram for it came.
    pub(super) fn on_heard(&mut self, now: Instant) {
        if let Stage::Handshaking { heard, .. } = &mut self.stage {
            *heard = now;
        }
    }

    // The node's side.

    pub(super) fn on_data(&mut self, data: Bytes) {
        if self.sending == Sending::Open && !self.eof && !data.is_empty() {
            self.outgoing.push_back(data);
        }
    }

    pub(super) fn on_eof(&mut self) {
        self.eof = true;
    }

    pub(super) fn on_drained(&mut self, bytes: usize) {
        self.undrained = self.undrained.saturating_sub(bytes);
    }

    pub(super) fn on_release(&mut self, now: std::time::Instant) {
        self.is_released = true;
        self.eof = true;
        self.tail.clear();
        if self.is_early() {
            self.close(now, text::NORMAL, "");
        }
    }

    pub(super) fn on_abort(&mut self, now: std::time::Instant, reason: &str) {
        self.is_released = true;
        self.tail.clear();
        if self.is_early() {
            self.close(now, text::NORMAL, "");
        } else {
            self.close(now, text::ERROR, reason);
        }
    }

    /// Datagrams to the peer come back: a dial, or a handshake the peer has given up, ends here and says nothing more,
    /// since that would only come back, too (`differences-1.5.5.md` §1).
    pub(super) fn on_unreachable(&mut self, problem: &str, outputs: &mut VecDeque<FromEndpoint>) -> Verdict {
        if matches!(self.stage, Stage::Handshaking { .. }) {
            self.fail(problem.into(), outputs);
            Verdict::Dropped
        } else {
            Verdict::Goes
        }
    }

    /// The listener is gone.
    pub(super) fn on_unlisten(&mut self, now: std::time::Instant) {
        if self.is_early() && !self.is_dialled {
            self.close(now, text::ERROR, "Listener Closed");
        }
    }

    // Time.

    pub(super) fn deadline(&mut self, clock: Clock) -> Option<Instant> {
        let own = match self.stage {
            Stage::Handshaking { began, heard } => Some((heard + HANDSHAKE_SILENCE).min(began + HANDSHAKE_TOTAL)),
            Stage::Unannounced { since } => Some(since + ACCEPT_WAIT),
            Stage::Open => self.lingers_since.map(|since| since + LINGER),
            Stage::Ended => None,
        };
        let quic = self.quic.poll_timeout().map(|at| clock.to_core(at));
        own.into_iter().chain(quic).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        clock: Clock,
        outputs: &mut VecDeque<FromEndpoint>,
    ) -> Verdict {
        let std_now = clock.to_std(now);
        self.quic.handle_timeout(std_now);
        match self.stage {
            Stage::Handshaking { began, heard } => {
                let text = if now >= began + HANDSHAKE_TOTAL {
                    text::HANDSHAKE
                } else if now >= heard + HANDSHAKE_SILENCE {
                    text::SILENT
                } else {
                    return Verdict::Goes;
                };
                self.fail(text.into(), outputs);
                return Verdict::Dropped;
            }
            Stage::Unannounced { since } if now >= since + ACCEPT_WAIT => {
                self.close(std_now, text::ERROR, text::ACCEPT_TIMEOUT);
            }
            Stage::Open if self.lingers_since.is_some_and(|since| now >= since + LINGER) => {
                self.say_farewell(std_now, outputs);
            }
            _ => {}
        }
        Verdict::Goes
    }

    /// Closes in peace.
    pub(super) fn say_farewell(&mut self, now: std::time::Instant, outputs: &mut VecDeque<FromEndpoint>) {
        self.close(now, text::NORMAL, text::NORMAL_CLOSE);
        self.tell(outputs, |id| FromEndpoint::Closed(id, None));
        self.is_released = true;
    }

    // The peer's side.

    /// Works on what quinn and the node have brought.
    pub(super) fn progress(&mut self, now: Instant, clock: Clock, outputs: &mut VecDeque<FromEndpoint>) {
        while let Some(event) = self.quic.poll() {
            self.on_event(now, clock, event, outputs);
        }
        match self.stage {
            Stage::Handshaking { .. } => {}
            Stage::Unannounced { .. } => {
                self.announce(clock.to_std(now), outputs);
                if self.stage == Stage::Open {
                    self.exchange(now, clock, outputs);
                }
            }
            Stage::Open => self.exchange(now, clock, outputs),
            Stage::Ended => self.deliver_tail(outputs),
        }
    }

    fn exchange(&mut self, now: Instant, clock: Clock, outputs: &mut VecDeque<FromEndpoint>) {
        self.write(outputs);
        self.read(clock.to_std(now), outputs);
        let is_done = self.sending == Sending::Done && (self.received_all || self.is_released);
        if is_done && self.lingers_since.is_none() {
            self.lingers_since = Some(now);
        }
    }

    fn on_event(&mut self, now: Instant, clock: Clock, event: Event, outputs: &mut VecDeque<FromEndpoint>) {
        match event {
            Event::Connected if self.is_dialled => self.open(clock.to_std(now), outputs),
            Event::Connected => self.stage = Stage::Unannounced { since: now },
            Event::ConnectionLost { reason } => self.on_lost(&reason, outputs),
            Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) if self.stream.is_none() => {
                self.stream = self.quic.streams().accept(Dir::Bi);
            }
            Event::Stream(StreamEvent::Finished { .. }) => self.sending = Sending::Done,
            Event::Stream(StreamEvent::Stopped { error_code, .. }) => self.on_stopped(error_code, outputs),
            Event::Stream(_) | Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
        }
    }

    /// The dialler makes itself known to the listener's application by one byte that is not part of the data.
    fn open(&mut self, now: std::time::Instant, outputs: &mut VecDeque<FromEndpoint>) {
        let stream = self.quic.streams().open(Dir::Bi);
        let is_open = stream.is_some_and(|id| self.quic.send_stream(id).write(&[FIRST_BYTE]) == Ok(1));
        if !is_open {
            let text = "the listener takes no stream";
            self.close(now, text::ERROR, text);
            return self.fail(text.into(), outputs);
        }
        self.stream = stream;
        self.stage = Stage::Open;
        self.tell(outputs, FromEndpoint::Opened);
    }

    /// Reads the first byte of an accepted stream.
    fn announce(&mut self, now: std::time::Instant, outputs: &mut VecDeque<FromEndpoint>) {
        let Some(stream) = self.stream else { return };
        match read_stream(&mut self.quic, stream, 1) {
            Chunk::Data(data) if data[..] == [FIRST_BYTE] => {
                self.stage = Stage::Open;
                self.tell(outputs, |id| FromEndpoint::Accepted(id, self.path));
            }
            Chunk::Data(_) => self.close(now, text::ERROR, text::FIRST_BYTE),
            Chunk::Blocked => {}
            Chunk::End => self.close(now, text::ERROR, "Read Error: EOF"),
            Chunk::Reset(_) => self.close(now, text::ERROR, "Read Error: stream reset"),
        }
        if self.stage == (Stage::Ended) {
            self.is_released = true;
        }
    }

    fn write(&mut self, outputs: &mut VecDeque<FromEndpoint>) {
        let Some(stream) = self.stream.filter(|_| self.sending == Sending::Open) else {
            return;
        };
        let mut taken = 0;
        while !self.outgoing.is_empty() {
            match self
                .quic
                .send_stream(stream)
                .write_chunks(self.outgoing.make_contiguous())
            {
                Ok(written) => {
                    taken += written.bytes;
                    self.outgoing.drain(..written.chunks);
                }
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(code)) => {
                    self.on_stopped(code, outputs);
                    break;
                }
                Err(WriteError::ClosedStream) => {
                    self.sending = Sending::Done;
                    taken += self.forget_outgoing();
                }
            }
        }
        if taken > 0 {
            self.tell(outputs, |id| FromEndpoint::Credit(id, taken));
        }
        if self.eof && self.outgoing.is_empty() && self.sending == Sending::Open {
            self.sending = match self.quic.send_stream(stream).finish() {
                Ok(()) => Sending::Finished,
                Err(_) => Sending::Done,
            };
        }
    }

    /// The peer does not read any more. Its own direction may go on, so what the node still sends is dropped in silence.
    fn on_stopped(&mut self, code: VarInt, outputs: &mut VecDeque<FromEndpoint>) {
        if let Some(stream) = self.stream {
            // An error means that the stream is gone already.
            let _ = self.quic.send_stream(stream).reset(code);
        }
        self.sending = Sending::Done;
        let dropped = self.forget_outgoing();
        if dropped > 0 {
            self.tell(outputs, |id| FromEndpoint::Credit(id, dropped));
        }
    }

    fn forget_outgoing(&mut self) -> usize {
        self.outgoing.drain(..).map(|data| data.len()).sum()
    }

    fn read(&mut self, now: std::time::Instant, outputs: &mut VecDeque<FromEndpoint>) {
        let Some(stream) = self.stream else { return };
        while !self.received_all {
            // When nobody reads any more, the peer may still finish what it has to say.
            let room = if self.is_released {
                CHUNK
            } else {
                WINDOW.saturating_sub(self.undrained).min(CHUNK)
            };
            if room == 0 {
                return;
            }
            match read_stream(&mut self.quic, stream, room) {
                Chunk::Data(data) => self.give(data, outputs),
                Chunk::Blocked => return,
                Chunk::End => {
                    self.received_all = true;
                    self.tell(outputs, FromEndpoint::Eof);
                }
                Chunk::Reset(code) => {
                    self.received_all = true;
                    self.close(now, text::ERROR, "stream reset");
                    let text = alloc::format!("stream canceled by remote with error code {code}");
                    self.tell(outputs, |id| FromEndpoint::Closed(id, Some(text)));
                    self.is_released = true;
                }
            }
        }
    }

    fn give(&mut self, data: Bytes, outputs: &mut VecDeque<FromEndpoint>) {
        if !self.is_released {
            self.undrained += data.len();
            outputs.push_back(FromEndpoint::Data(self.id, data));
        }
    }

    /// The peer has closed, or is gone. What has arrived is still for the node.
    fn on_lost(&mut self, reason: &quinn_proto::ConnectionError, outputs: &mut VecDeque<FromEndpoint>) {
        match self.stage {
            Stage::Handshaking { .. } | Stage::Unannounced { .. } => {
                let text = text::of(reason).unwrap_or_else(|| reason.to_string());
                self.fail(text, outputs);
            }
            Stage::Open => {
                self.stage = Stage::Ended;
                if self.is_released {
                    return;
                }
                self.end = Some(text::of(reason));
                while let Some(stream) = self.stream.filter(|_| !self.received_all) {
                    match read_stream(&mut self.quic, stream, CHUNK) {
                        Chunk::Data(data) => self.tail.push_back(data),
                        Chunk::End => {
                            self.tail_has_eof = true;
                            self.received_all = true;
                        }
                        Chunk::Blocked | Chunk::Reset(_) => self.received_all = true,
                    }
                }
            }
            Stage::Ended => {}
        }
    }

    fn deliver_tail(&mut self, outputs: &mut VecDeque<FromEndpoint>) {
        while let Some(mut data) = self.tail.pop_front() {
            let room = WINDOW.saturating_sub(self.undrained);
            if data.len() > room {
                self.tail.push_front(data.split_off(room));
            }
            if data.is_empty() {
                return;
            }
            self.give(data, outputs);
        }
        if core::mem::take(&mut self.tail_has_eof) {
            self.tell(outputs, FromEndpoint::Eof);
        }
        if let Some(reason) = self.end.take() {
            self.tell(outputs, |id| FromEndpoint::Closed(id, reason));
            self.is_released = true;
        }
    }

    /// It never came to a connection.
    fn fail(&mut self, text: String, outputs: &mut VecDeque<FromEndpoint>) {
        self.stage = Stage::Ended;
        if self.is_dialled {
            self.tell(outputs, |id| FromEndpoint::Closed(id, Some(text)));
        }
        self.is_released = true;
    }

    fn close(&mut self, now: std::time::Instant, code: VarInt, reason: &str) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            self.quic.close(now, code, Bytes::copy_from_slice(reason.as_bytes()));
        }
        if self.is_half_open {
            self.is_released = true;
        }
    }

    fn tell(&self, outputs: &mut VecDeque<FromEndpoint>, message: impl FnOnce(ConnectionId) -> FromEndpoint) {
        if !self.is_released {
            outputs.push_back(message(self.id));
        }
    }
}

/// What there was to read.
enum Chunk {
    Data(Bytes),
    Blocked,
    End,
    Reset(VarInt),
}

fn read_stream(quic: &mut quinn_proto::Connection, stream: StreamId, most: usize) -> Chunk {
    let mut stream = quic.recv_stream(stream);
    let mut chunks = match stream.read(true) {
        Ok(chunks) => chunks,
        Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return Chunk::End,
    };
    let chunk = match chunks.next(most) {
        Ok(Some(chunk)) => Chunk::Data(chunk.bytes),
        Ok(None) => Chunk::End,
        Err(ReadError::Blocked) => Chunk::Blocked,
        Err(ReadError::Reset(code)) => Chunk::Reset(code),
    };
    // Whether that leaves something to send is found out by asking for it.
    let _ = chunks.finalize();
    chunk
}
