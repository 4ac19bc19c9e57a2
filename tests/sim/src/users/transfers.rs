//! Streams that carry known bytes: a request with its length in front, and an answer.

use receptor_core::id::PipeId;
use receptor_core::node::io::Command;

use super::{Asked, SERVICE, User, Users, name, pattern};
use crate::invariants::Violation;
use crate::world::{NodeIndex, World};

/// Number, bytes there, bytes back, bytes per second read.
const HEADER: usize = 32;

/// One transfer, as its dialler knows it.
#[derive(Debug)]
pub(super) struct Transfer {
    to: NodeIndex,
    back: u64,
    pipe: PipeId,
    /// It must be whole.
    must: bool,
    received: u64,
    /// How it ended.
    ended: Option<String>,
}

impl Transfer {
    pub(super) fn end(&mut self, how: &str) {
        self.ended.get_or_insert_with(|| how.to_owned());
    }

    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none()
    }
}

/// The far end of a transfer.
#[derive(Debug, Default)]
pub(super) struct Server {
    header: Vec<u8>,
    received: u64,
    has_answered: bool,
}

impl Server {
    fn number(&self, at: usize) -> u64 {
        let bytes = self
            .header
            .get(at * 8..at * 8 + 8)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }
}

/// What is sent there, and what comes back.
fn request(number: u64, from: u64, len: usize) -> Vec<u8> {
    pattern(2 * number, from as usize, len)
}
fn answer(number: u64, from: u64, len: usize) -> Vec<u8> {
    pattern(2 * number + 1, from as usize, len)
}

impl Users {
    /// Dials and sends; `reads` is what each end takes per second, 0 for everything.
    pub fn transfer(
        &mut self,
        world: &mut World,
        node: NodeIndex,
        to: NodeIndex,
        (there, back): (u64, u64),
        reads: u64,
        must: bool,
    ) {
        if !super::is_free(world, node) {
            return;
        }
        let number = self.transfers.len();
        let pipe = world.new_pipe(node);
        self.pipes.insert((node, pipe), User::Dialler(number));
        self.transfers.push(Transfer {
            to,
            back,
            pipe,
            must,
            received: 0,
            ended: None,
        });
        self.counts.transfers[0] += 1;
        let dial = Command::Dial {
            pipe,
            node: name(to),
            service: SERVICE.into(),
            tls: None,
        };
        if reads > 0 {
            world.read_slowly(node, pipe, reads);
        }
        self.ask(world, node, dial, Asked::Dial(number));
        let mut data = Vec::with_capacity(HEADER + there as usize);
        for part in [number as u64, there, back, reads] {
            data.extend_from_slice(&part.to_le_bytes());
        }
        data.extend(request(number as u64, 0, there as usize));
        if world.host(node).pipe(pipe).is_some() {
            world.write(node, pipe, &data);
            world.finish(node, pipe);
        }
    }

    pub(super) fn not_dialled(
        &mut self,
        world: &mut World,
        node: NodeIndex,
        transfer: usize,
        error: &str,
    ) -> Result<(), Violation> {
        let Transfer { pipe, to, must, .. } = self.transfers[transfer];
        self.transfers[transfer].end(error);
        self.pipes.remove(&(node, pipe));
        world.forget(node, pipe);
        if must {
            return Violation::of("fresh_service", format!("dial from n{node} to n{to}: {error}"));
        }
        Ok(())
    }

    /// The dialler has received something. Whether it stays.
    pub(super) fn on_answer(
        &mut self,
        world: &mut World,
        (node, pipe): (NodeIndex, PipeId),
        number: usize,
    ) -> Result<bool, Violation> {
        let got = world.take_received(node, pipe);
        let transfer = &mut self.transfers[number];
        let expected = answer(number as u64, transfer.received, got.len());
        transfer.received += got.len() as u64;
        if got != expected || transfer.received > transfer.back {
            let text = format!("transfer {number} from n{node} received other bytes than were sent");
            return Violation::of("bytes", text);
        }
        let (eof, closed) = world.host(node).pipe(pipe).map_or((false, true), |p| (p.eof, p.closed));
        if eof && transfer.is_open() {
            if transfer.received < transfer.back {
                let text = format!("transfer {number} from n{node} ended early, as if it were whole: {transfer:?}");
                return Violation::of("bytes", text);
            }
            transfer.end("whole");
            self.counts.transfers[1] += 1;
        }
        if closed {
            transfer.end("broken");
            world.forget(node, pipe);
            if transfer.must && transfer.ended.as_deref() != Some("whole") {
                return Violation::of("fresh_service", format!("transfer {number} broke: {transfer:?}"));
            }
        }
        Ok(!closed)
    }

    /// The far end has received something.
    pub(super) fn on_request(
        &mut self,
        world: &mut World,
        (node, pipe): (NodeIndex, PipeId),
        mut server: Server,
    ) -> Result<Option<Server>, Violation> {
        let mut got = world.take_received(node, pipe);
        if server.header.len() < HEADER {
            let rest = got.split_off((HEADER - server.header.len()).min(got.len()));
            server.header.extend(got);
            got = rest;
            if server.header.len() == HEADER && server.number(3) > 0 && world.host(node).pipe(pipe).is_some() {
                world.read_slowly(node, pipe, server.number(3));
            }
        }
        let (number, there, back) = (server.number(0), server.number(1), server.number(2));
        let expected = request(number, server.received, got.len());
        server.received += got.len() as u64;
        if got != expected || server.received > there {
            let text = format!("transfer {number} to n{node} delivered other bytes than were sent");
            return Violation::of("bytes", text);
        }
        let (eof, closed) = world.host(node).pipe(pipe).map_or((false, true), |p| (p.eof, p.closed));
        if eof && (server.received < there || server.header.len() < HEADER) {
            let text = format!(
                "transfer {number} to n{node} ended after {} of {there} bytes, as if it were whole",
                server.received
            );
            return Violation::of("bytes", text);
        }
        if closed {
            world.forget(node, pipe);
            return Ok(None);
        }
        if eof && !std::mem::replace(&mut server.has_answered, true) {
            world.write(node, pipe, &answer(number, 0, back as usize));
            world.finish(node, pipe);
        }
        Ok(Some(server))
    }
}
