//! The simulator's stand-in for TLS, under the same contract: nothing is said before the node has begun the pipe, the
//! handshake costs a round trip, and only then bytes pass. They pass as they are, so that a run can be repeated.

use receptor_core::id::PipeId;
use receptor_core::node::io::{Input, Layer, PipeInput, Role};

use super::{NodeIndex, World};

/// What one end knows of its handshake: each side greets with one byte, the client first.
#[derive(Debug)]
pub(super) struct Handshake {
    role: Role,
    is_greeting_due: bool,
    /// The other end has greeted.
    pub(super) is_done: bool,
}

impl Handshake {
    /// `None` if the bytes are nobody's business.
    pub(super) fn new(layer: &Layer) -> Option<Self> {
        match layer {
            Layer::Secure(security) => Some(Self {
                role: security.role,
                is_greeting_due: security.role == Role::Client,
                is_done: false,
            }),
            _ => None,
        }
    }

    /// The byte to be sent, once.
    pub(super) fn greeting(&mut self) -> Option<u8> {
        std::mem::take(&mut self.is_greeting_due).then(|| greeting_of(self.role))
    }

    /// The first byte that came.
    pub(super) fn on_greeting(&mut self, byte: u8) {
        let other = match self.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        assert_eq!(byte, greeting_of(other), "the greeting of the other end");
        self.is_done = true;
        self.is_greeting_due = self.role == Role::Server;
    }
}

fn greeting_of(role: Role) -> u8 {
    match role {
        Role::Client => b'C',
        Role::Server => b'S',
    }
}

/// Two pipes of a node with nothing but the handshake between them. What comes on one is written to the other, and drained
/// when it is.
#[derive(Debug)]
pub(super) struct NullTie {
    pub(super) cipher: PipeId,
    pub(super) plain: PipeId,
}

impl World {
    /// Carries the ends of tied pipes over. Returns whether there was anything.
    pub(super) fn settle_ties(&mut self, index: NodeIndex) -> bool {
        let mut told = Vec::new();
        let host = &mut self.hosts[index];
        let pipes = &mut host.pipes;
        host.ties.retain(|tie| {
            // Taken out, so that both can be looked at.
            let (Some(mut cipher), Some(plain)) = (pipes.remove(&tie.cipher), pipes.get_mut(&tie.plain)) else {
                return false;
            };
            plain.finish |= cipher.eof;
            cipher.finish |= plain.eof;
            let is_secured = cipher.handshake.as_ref().is_none_or(|h| h.is_done);
            let is_through = plain.finish_sent && (cipher.finish_sent || plain.eof && !is_secured);
            if cipher.closed {
                if cipher.eof && !plain.finish_sent && !plain.closed {
                    // What came before is still to be delivered.
                    pipes.insert(tie.cipher, cipher);
                    return true;
                }
                if !plain.closed {
                    let end = if cipher.eof && plain.finish_sent {
                        PipeInput::Closed
                    } else {
                        PipeInput::Failed("connection closed".into())
                    };
                    told.push((tie.plain, end));
                }
            } else if plain.closed {
                if plain.eof && is_secured && !cipher.finish_sent {
                    pipes.insert(tie.cipher, cipher);
                    return true;
                }
                told.push((tie.cipher, PipeInput::Closed));
            } else if is_through {
                told.push((tie.plain, PipeInput::Closed));
                told.push((tie.cipher, PipeInput::Closed));
            } else {
                pipes.insert(tie.cipher, cipher);
                return true;
            }
            pipes.remove(&tie.plain);
            false
        });
        let progress = !told.is_empty();
        for (id, input) in told {
            self.tell_node(index, Input::Pipe(id, input));
        }
        progress
    }
}
