//! One control connection.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::expected::{Expected, Next};
use super::line::LineReader;
use super::parse;
use super::queue::Queue;
use super::reply::{self, Reply};
use super::request::Request;
use super::text::{self, LINE_MAX};
use crate::error::CallerError;
use crate::id::NodeId;

/// Unprocessed input in bytes at which [`Session::wants_input`] says stop. Input is never refused, so what a caller
/// reads at once comes on top.
pub const INPUT_MAX: usize = 256 * 1024;
/// Untransmitted output in bytes at which no further command is begun. One answer may exceed it by any length.
pub const OUTPUT_MAX: usize = 256 * 1024;
/// Bytes that are thrown away after an error that ends the session, so that a client that writes first and reads
/// later sees the error instead of a reset connection.
const DRAIN_MAX: usize = 64 * 1024 * 1024;

/// What kind of connection it is; decides whether signatures are checked (`control.md` §6.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A Unix socket of the control service itself.
    Local,
    /// TCP or the mesh, forwarded connections included.
    Network,
}

/// Input that is not a command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RawInput {
    /// Bytes, never empty.
    Data(Bytes),
    /// The client sends no more. Given once.
    End,
    /// Reading failed, what was sent is cut. Given once, instead of `End`.
    Failed(String),
}

/// What the input means now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Lines,
    /// All input is for [`Session::poll_raw`]; the flag allows raw output too.
    Raw {
        both_ways: bool,
    },
    /// Raw output only. Input is dropped, so that the reader notices a lost client.
    Results,
    /// An error was sent and the session is at its end.
    Draining {
        left: usize,
        to_line_end: bool,
    },
    Over,
}

/// A control connection as a machine.
///
/// Call in any order; after every call in, look at [`poll_request`](Self::poll_request),
/// [`poll_raw`](Self::poll_raw) and [`poll_transmit`](Self::poll_transmit) until they are empty, and read from the client
/// only while [`wants_input`](Self::wants_input). When [`wants_close`](Self::wants_close), close the connection (on the
/// mesh: its sending side). A client that vanished needs no call: drop the session.
#[derive(Debug)]
pub struct Session {
    origin: Origin,
    mode: Mode,
    lines: LineReader,
    input: Queue,
    /// Bytes of input that [`Self::take_credit`] did not report yet.
    uncredited: usize,
    /// Whether the input ended.
    ended: bool,
    /// How it did, until that was handed over as raw input.
    end: Option<Result<(), String>>,
    ready: Option<Request>,
    expected: Option<Expected>,
    output: Queue,
}

impl Session {
    /// A fresh connection; the greeting waits to be transmitted.
    pub fn new(node_id: &NodeId, origin: Origin) -> Self {
        let mut output = Queue::default();
        output.push(format!("{}{node_id}\n", text::GREETING).into());
        Self {
            origin,
            mode: Mode::Lines,
            lines: LineReader::default(),
            input: Queue::default(),
            uncredited: 0,
            end: None,
            ended: false,
            ready: None,
            expected: None,
            output,
        }
    }

    /// As given.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Bytes from the client, in any slicing. Ignored after the end of input.
    pub fn handle_data(&mut self, data: Bytes) {
        if !self.ended {
            self.uncredited += data.len();
            self.input.push(data);
            self.advance();
        }
    }

    /// The client sends no more; it may still read. An unfinished last line is executed.
    pub fn handle_eof(&mut self) {
        self.end_input(Ok(()));
    }

    /// Reading from the client failed. An unfinished last line is not executed; the stdin of a submission has failed.
    pub fn handle_input_error(&mut self, error: String) {
        self.end_input(Err(error));
    }

    fn end_input(&mut self, how: Result<(), String>) {
        if !self.ended {
            self.ended = true;
            self.end = Some(how);
            self.advance();
        }
    }

    /// Whether to read on. `false` while too much waits to be processed, and after the end.
    pub fn wants_input(&self) -> bool {
        let room = self.input.len() < INPUT_MAX;
        !self.ended
            && match self.mode {
                Mode::Lines => room && self.output.len() < OUTPUT_MAX,
                Mode::Raw { .. } => room,
                Mode::Results | Mode::Draining { .. } => true,
                Mode::Over => false,
            }
    }

    /// Bytes of input that were used up since the last call: for callers that count credit instead of asking
    /// [`wants_input`](Self::wants_input). A window of at most [`INPUT_MAX`] keeps within the same limits.
    pub fn take_credit(&mut self) -> usize {
        core::mem::replace(&mut self.uncredited, self.input.len()) - self.input.len()
    }

    /// The next command; there is none until the one before was answered completely.
    pub fn poll_request(&mut self) -> Option<Request> {
        self.ready.take()
    }

    /// Answers the request that was polled last.
    ///
    /// # Errors
    /// No request is outstanding, or the reply is of a kind that does not fit it; the request then remains outstanding.
    pub fn reply(&mut self, reply: Reply) -> Result<(), CallerError> {
        let expected = if self.ready.is_some() {
            None
        } else {
            self.expected.take()
        };
        let Some(expected) = expected else {
            return Err(CallerError::Misuse("no control request waits for a reply".into()));
        };
        let (line, next) = expected.answer(reply).map_err(|expected| {
            let misuse = format!("this reply does not answer a control request of kind {expected:?}");
            self.expected = Some(expected);
            CallerError::Misuse(misuse)
        })?;
        self.mode = match next {
            Next::Line => Mode::Lines,
            Next::Stdin => {
                self.expected = Some(Expected::SubmitDone);
                Mode::Raw { both_ways: false }
            }
            Next::StdinOver => Mode::Draining {
                left: DRAIN_MAX,
                to_line_end: false,
            },
            Next::RawBothWays => Mode::Raw { both_ways: true },
            Next::RawOutput => Mode::Results,
        };
        self.output.push(line);
        self.advance();
        Ok(())
    }

    /// Input of a submission, a bridged or an upgraded connection.
    pub fn poll_raw(&mut self) -> Option<RawInput> {
        if !matches!(self.mode, Mode::Raw { .. }) {
            return None;
        }
        if let Some(data) = self.input.pop() {
            return Some(RawInput::Data(data));
        }
        Some(match self.end.take()? {
            Ok(()) => RawInput::End,
            Err(error) => RawInput::Failed(error),
        })
    }

    /// Bytes for the client of a bridged or upgraded connection, or of results. Look at
    /// [`pending_output`](Self::pending_output) before: nothing is refused for its length.
    ///
    /// # Errors
    /// The session is not, or no more, in one of those modes.
    pub fn send_raw(&mut self, data: Bytes) -> Result<(), CallerError> {
        self.check_raw_output()?;
        self.output.push(data);
        Ok(())
    }

    /// No more raw bytes for the client: the session is over when all is transmitted, whatever the client still sends.
    ///
    /// # Errors
    /// As [`send_raw`](Self::send_raw).
    pub fn finish_raw(&mut self) -> Result<(), CallerError> {
        self.check_raw_output()?;
        self.mode = Mode::Over;
        self.advance();
        Ok(())
    }

    fn check_raw_output(&self) -> Result<(), CallerError> {
        match self.mode {
            Mode::Raw { both_ways: true } | Mode::Results => Ok(()),
            _ => Err(CallerError::Misuse(
                "the control session does not take raw output now".into(),
            )),
        }
    }

    /// The next bytes for the client, never empty and at most `max`. They are the caller's: polled bytes count as
    /// transmitted.
    pub fn poll_transmit(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 {
            return None;
        }
        let mut chunk = self.output.pop()?;
        if chunk.len() > max {
            self.output.unpop(chunk.split_off(max));
        }
        self.advance();
        Some(chunk)
    }

    /// Bytes that wait for [`poll_transmit`](Self::poll_transmit).
    pub fn pending_output(&self) -> usize {
        self.output.len()
    }

    /// Whether the session has ended and everything was polled for transmission.
    pub fn wants_close(&self) -> bool {
        self.mode == Mode::Over && self.output.is_empty()
    }

    /// Does with the input what needs no caller.
    fn advance(&mut self) {
        loop {
            match self.mode {
                Mode::Lines if self.expected.is_some() || self.output.len() >= OUTPUT_MAX => return,
                Mode::Lines => match self.lines.next(&mut self.input) {
                    Some(Ok(line)) => self.execute(&line),
                    Some(Err(_)) => {
                        self.output
                            .push(reply::error(&format!("command line exceeds {LINE_MAX} bytes")));
                        self.mode = Mode::Draining {
                            left: DRAIN_MAX,
                            to_line_end: true,
                        };
                    }
                    None => match &self.end {
                        None => return,
                        Some(Ok(())) if self.lines.has_partial() => {
                            let line = self.lines.take_partial();
                            self.execute(&line);
                        }
                        Some(_) => self.mode = Mode::Over,
                    },
                },
                Mode::Draining { left, to_line_end } => match self.input.pop() {
                    Some(chunk) if (to_line_end && chunk.contains(&b'\n')) || chunk.len() > left => {
                        self.mode = Mode::Over;
                    }
                    Some(chunk) => {
                        self.mode = Mode::Draining {
                            left: left - chunk.len(),
                            to_line_end,
                        }
                    }
                    None if self.ended => self.mode = Mode::Over,
                    None => return,
                },
                Mode::Results | Mode::Over => {
                    self.input.clear();
                    return;
                }
                Mode::Raw { .. } => return,
            }
        }
    }

    fn execute(&mut self, line: &[u8]) {
        match parse::request(line) {
            Ok(request) => {
                self.expected = Some(Expected::by(&request));
                self.ready = Some(request);
            }
            Err(error) => self.output.push(reply::error(&error)),
        }
    }
}
