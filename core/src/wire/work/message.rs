//! The messages of a work session and how they are written.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BODY_VERSION, DATA_HEAD_LEN, HEADER_LEN, MAX_BODY, MAX_DATA};
use crate::wire::WireError;

/// Longest unit ID, in bytes; also a limit of file systems.
const MAX_UNIT: usize = 255;
/// Longest name of a work type, in bytes.
const MAX_WORK_TYPE: usize = 1024;
/// Most work parameters of one unit.
const MAX_PARAMS: usize = 1024;

/// First byte of each message. Submitter to executor below 0x20, executor to submitter below 0x40, both ways above.
pub(super) mod kind {
    pub(crate) const SUBMIT: u8 = 0x01;
    pub(crate) const STDIN: u8 = 0x02;
    pub(crate) const STDIN_END: u8 = 0x03;
    pub(crate) const ATTACH: u8 = 0x04;
    pub(crate) const CANCEL: u8 = 0x05;
    pub(crate) const RELEASE: u8 = 0x06;
    pub(crate) const DETACH: u8 = 0x07;
    pub(crate) const ACCEPTED: u8 = 0x20;
    pub(crate) const REFUSED: u8 = 0x21;
    pub(crate) const STARTED: u8 = 0x22;
    pub(crate) const STATUS: u8 = 0x23;
    pub(crate) const OUTPUT: u8 = 0x24;
    pub(crate) const END: u8 = 0x25;
    pub(crate) const DONE: u8 = 0x26;
    pub(crate) const FAILED: u8 = 0x27;
    pub(crate) const ABOUT: u8 = 0x28;
    pub(crate) const CREDIT: u8 = 0x40;
    pub(crate) const PING: u8 = 0x41;
    pub(crate) const PONG: u8 = 0x42;
}

/// One message of a work session. A `signature` is the JWT of the classic command with the same name, or empty.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message {
    /// Submitter: create this unit, or find it if it exists.
    Submit(Submit),
    /// Submitter: a piece of the unit's stdin.
    Stdin {
        /// Where in stdin the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
    /// Submitter: stdin is complete.
    StdinEnd {
        /// Its length in bytes.
        total: u64,
    },
    /// Submitter: send me status and output of this unit.
    Attach {
        /// The unit.
        unit: String,
        /// Output before this offset is not wanted.
        offset: u64,
        /// See [`Message`].
        signature: String,
    },
    /// Submitter: cancel the unit.
    Cancel {
        /// The unit.
        unit: String,
        /// See [`Message`].
        signature: String,
    },
    /// Submitter: delete the unit.
    Release {
        /// The unit.
        unit: String,
        /// Whether it goes even if it cannot be cancelled.
        force: bool,
        /// See [`Message`].
        signature: String,
    },
    /// Submitter: send no more on this channel.
    Detach,
    /// Executor: the unit of a `Submit` or `Attach` is known and recorded durably.
    Accepted {
        /// The unit.
        unit: String,
        /// Stdin is wanted from this offset on.
        stdin_offset: u64,
        /// Whether the unit was created just now.
        fresh: bool,
    },
    /// Executor: no to a `Submit` or `Attach`.
    Refused {
        /// Why, as a classic node would say it.
        text: String,
    },
    /// Executor: stdin is complete and durable and the unit is started.
    Started,
    /// Executor: the unit's state has changed, or its output has grown.
    Status(Status),
    /// Executor: a piece of the unit's output.
    Output {
        /// Where in the output the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
    },
    /// Executor: the unit has ended and all of its output has been sent.
    End(End),
    /// Executor: a `Cancel` or `Release` has been carried out.
    Done,
    /// Executor: a `Cancel` or `Release` has not been carried out.
    Failed {
        /// Why, as a classic node would say it.
        text: String,
    },
    /// Executor, before the `Accepted` of an `Attach`: what the unit is.
    About {
        /// Work type as registered there, at most 1,024 bytes.
        work_type: String,
        /// The submitter's parameters of the command.
        params: String,
    },
    /// Both: data of this channel may be sent up to this offset.
    Credit {
        /// The offset: stdin from the executor, output from the submitter.
        bytes: u64,
    },
    /// Both: are you there?
    Ping {
        /// Comes back in the answer.
        token: u64,
    },
    /// Both: I am.
    Pong {
        /// The token of the question.
        token: u64,
    },
    /// A kind or version that this code does not know; skip it.
    Unknown {
        /// First byte of the message.
        kind: u8,
        /// Second byte of the message.
        version: u8,
    },
}

/// Body of [`Message::Submit`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Submit {
    /// ID for the unit, at most 255 bytes. Sending the same twice creates one unit.
    pub unit: String,
    /// Work type as registered on the executor, at most 1,024 bytes.
    pub work_type: String,
    /// Work parameters, at most 1,024.
    pub params: Vec<(String, String)>,
    /// See [`Message`].
    pub signature: String,
}

/// Body of [`Message::Status`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Number of the state, as in the classic record (`work.md` §4).
    pub state: u8,
    /// Text of the classic record.
    pub detail: String,
    /// Bytes of output so far.
    pub stdout_size: u64,
    /// Exit code of the child, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that killed the child, if one did.
    pub signal: Option<i32>,
}

/// Body of [`Message::End`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// Number of the final state, as in the classic record.
    pub state: u8,
    /// Text of the classic record.
    pub detail: String,
    /// Bytes of output in all.
    pub total: u64,
    /// HighwayHash-64 with the zero key over all of the output.
    pub checksum: u64,
    /// Exit code of the child, if it exited.
    pub exit_code: Option<i32>,
    /// Signal that killed the child, if one did.
    pub signal: Option<i32>,
}

impl Message {
    /// Appends the message to `out`.
    ///
    /// # Errors
    /// A limit of the message is exceeded; nothing is appended then.
    pub fn encode(&self, channel: u32, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.check()?;
        match self {
            Self::Submit(body) => write(out, kind::SUBMIT, channel, body),
            Self::Stdin { offset, data } => write_data(out, stdin_head(channel, *offset, data.len()), data),
            Self::StdinEnd { total } => write(out, kind::STDIN_END, channel, total),
            Self::Attach {
                unit,
                offset,
                signature,
            } => write(out, kind::ATTACH, channel, &(unit, offset, signature)),
            Self::Cancel { unit, signature } => write(out, kind::CANCEL, channel, &(unit, signature)),
            Self::Release { unit, force, signature } => write(out, kind::RELEASE, channel, &(unit, force, signature)),
            Self::Detach => write(out, kind::DETACH, channel, &()),
            Self::Accepted {
                unit,
                stdin_offset,
                fresh,
            } => write(out, kind::ACCEPTED, channel, &(unit, stdin_offset, fresh)),
            Self::Refused { text } => write(out, kind::REFUSED, channel, text),
            Self::Started => write(out, kind::STARTED, channel, &()),
            Self::Status(body) => write(out, kind::STATUS, channel, body),
            Self::Output { offset, data } => write_data(out, output_head(channel, *offset, data.len()), data),
            Self::End(body) => write(out, kind::END, channel, body),
            Self::Done => write(out, kind::DONE, channel, &()),
            Self::Failed { text } => write(out, kind::FAILED, channel, text),
            Self::About { work_type, params } => write(out, kind::ABOUT, channel, &(work_type, params)),
            Self::Credit { bytes } => write(out, kind::CREDIT, channel, bytes),
            Self::Ping { token } => write(out, kind::PING, channel, token),
            Self::Pong { token } => write(out, kind::PONG, channel, token),
            Self::Unknown { .. } => Err(WireError::Malformed("work message of unknown kind cannot be written")),
        }
    }

    /// Reads a body that is not raw data; what follows the fields known here was appended by a newer node.
    pub(super) fn decode(kind: u8, version: u8, body: &[u8]) -> Result<Self, WireError> {
        if version != BODY_VERSION {
            return Ok(Self::Unknown { kind, version });
        }
        let message = match kind {
            kind::SUBMIT => Self::Submit(read(body)?),
            kind::STDIN_END => Self::StdinEnd { total: read(body)? },
            kind::ATTACH => {
                let (unit, offset, signature) = read(body)?;
                Self::Attach {
                    unit,
                    offset,
                    signature,
                }
            }
            kind::CANCEL => {
                let (unit, signature) = read(body)?;
                Self::Cancel { unit, signature }
            }
            kind::RELEASE => {
                let (unit, force, signature) = read(body)?;
                Self::Release { unit, force, signature }
            }
            kind::DETACH => Self::Detach,
            kind::ACCEPTED => {
                let (unit, stdin_offset, fresh) = read(body)?;
                Self::Accepted {
                    unit,
                    stdin_offset,
                    fresh,
                }
            }
            kind::REFUSED => Self::Refused { text: read(body)? },
            kind::STARTED => Self::Started,
            kind::STATUS => Self::Status(read(body)?),
            kind::END => Self::End(read(body)?),
            kind::DONE => Self::Done,
            kind::FAILED => Self::Failed { text: read(body)? },
            kind::ABOUT => {
                let (work_type, params) = read(body)?;
                Self::About { work_type, params }
            }
            kind::CREDIT => Self::Credit { bytes: read(body)? },
            kind::PING => Self::Ping { token: read(body)? },
            kind::PONG => Self::Pong { token: read(body)? },
            _ => Self::Unknown { kind, version },
        };
        message.check()?;
        Ok(message)
    }

    /// Tests the limits that the size of a message does not set already.
    fn check(&self) -> Result<(), WireError> {
        let limited = |what, text: &str, limit| {
            if text.len() > limit {
                Err(WireError::TooLong {
                    what,
                    limit,
                    got: text.len(),
                })
            } else {
                Ok(())
            }
        };
        match self {
            Self::Submit(Submit {
                unit,
                work_type,
                params,
                ..
            }) => {
                limited("unit ID", unit, MAX_UNIT)?;
                limited("work type", work_type, MAX_WORK_TYPE)?;
                if params.len() > MAX_PARAMS {
                    return Err(WireError::TooMany {
                        what: "work parameters",
                        limit: MAX_PARAMS,
                    });
                }
                Ok(())
            }
            Self::Attach { unit, .. }
            | Self::Cancel { unit, .. }
            | Self::Release { unit, .. }
            | Self::Accepted { unit, .. } => limited("unit ID", unit, MAX_UNIT),
            Self::About { work_type, .. } => limited("work type", work_type, MAX_WORK_TYPE),
            Self::Stdin { data, .. } | Self::Output { data, .. } if data.len() > MAX_DATA => Err(WireError::TooLong {
                what: "data of a work message",
                limit: MAX_DATA,
                got: data.len(),
            }),
            _ => Ok(()),
        }
    }
}

/// What goes before `len` bytes of stdin, at most [`MAX_DATA`], that are sent without being copied.
pub fn stdin_head(channel: u32, offset: u64, len: usize) -> [u8; DATA_HEAD_LEN] {
    data_head(kind::STDIN, channel, offset, len)
}

/// What goes before `len` bytes of output, at most [`MAX_DATA`], that are sent without being copied.
pub fn output_head(channel: u32, offset: u64, len: usize) -> [u8; DATA_HEAD_LEN] {
    data_head(kind::OUTPUT, channel, offset, len)
}

fn data_head(kind: u8, channel: u32, offset: u64, len: usize) -> [u8; DATA_HEAD_LEN] {
    debug_assert!(len <= MAX_DATA, "data of a work message too long");
    let mut head = [0; DATA_HEAD_LEN];
    head[..HEADER_LEN].copy_from_slice(&header(kind, channel, len + 8));
    head[HEADER_LEN..].copy_from_slice(&offset.to_le_bytes());
    head
}

fn header(kind: u8, channel: u32, len: usize) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = kind;
    header[1] = BODY_VERSION;
    header[2..6].copy_from_slice(&channel.to_le_bytes());
    header[6..].copy_from_slice(&(len as u32).to_le_bytes());
    header
}

fn write_data(out: &mut Vec<u8>, head: [u8; DATA_HEAD_LEN], data: &[u8]) -> Result<(), WireError> {
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
    Ok(())
}

fn write<B: Serialize>(out: &mut Vec<u8>, kind: u8, channel: u32, body: &B) -> Result<(), WireError> {
    let body = postcard::to_allocvec(body).map_err(|_| WireError::Malformed("work message cannot be written"))?;
    if body.len() > MAX_BODY {
        return Err(WireError::TooLong {
            what: "work message",
            limit: MAX_BODY,
            got: body.len(),
        });
    }
    out.extend_from_slice(&header(kind, channel, body.len()));
    out.extend_from_slice(&body);
    Ok(())
}

fn read<B: DeserializeOwned>(body: &[u8]) -> Result<B, WireError> {
    match postcard::take_from_bytes(body) {
        Ok((value, _appended)) => Ok(value),
        Err(_) => Err(WireError::Malformed("work message does not decode")),
    }
}
