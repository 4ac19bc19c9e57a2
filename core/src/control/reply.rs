//! What a client is answered, and its bytes (`control.md` §2.3, §5, §6).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::text;
use super::view::{StatusView, UnitStatus};
use crate::duration::go_duration;

/// The answer to a [`Request`](super::Request). Unit IDs in replies are written as given.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// An error line; fits every request. Line breaks become blanks, so that it stays one line.
    Error(String),
    /// To `status`.
    Status(Box<StatusView>),
    /// To `ping`.
    Ping(PingReply),
    /// To `traceroute`: the hops from 0 on, the own node being the first.
    Traceroute(Vec<Hop>),
    /// To `reload`.
    Reload(Result<(), ReloadError>),
    /// To `connect`: the stream is open, raw bytes follow both ways.
    Connecting,
    /// First answer to `work submit`: the unit exists, all further input is its stdin.
    SubmitReady {
        /// Its ID.
        unit: String,
    },
    /// Second answer to `work submit`.
    SubmitDone {
        /// The unit's ID.
        unit: String,
        /// Whether it started; if not it is retried in the background.
        started: bool,
    },
    /// To `work list`.
    UnitList(BTreeMap<String, UnitStatus>),
    /// To `work status`.
    UnitStatus(Box<UnitStatus>),
    /// To `work cancel`.
    Cancelled {
        /// The unit's ID.
        unit: String,
        /// Whether it is still to be done, because the remote node cannot be reached.
        pending: bool,
    },
    /// To `work release` and `work force-release`.
    Released {
        /// The unit's ID.
        unit: String,
        /// Whether it is still to be done, because the remote node cannot be reached.
        pending: bool,
    },
    /// To `work adopt`.
    Adopted {
        /// The unit's ID here.
        unit: String,
        /// Whether it was not followed here before.
        fresh: bool,
    },
    /// To `work results`: the header line; raw output follows.
    ResultsStart {
        /// The unit's ID.
        unit: String,
    },
    /// To `work upgrade`: granted, the work session protocol follows both ways.
    Upgraded {
        /// The version spoken from now on.
        version: u64,
    },
}

/// The outcome of a ping (`control.md` §5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PingReply {
    /// An answer came.
    Success {
        /// From this node.
        from: String,
        /// After this time.
        nanos: i64,
    },
    /// `timeout`, `no route to node`, …
    Failure(String),
}

/// One step of a traceroute (`control.md` §5.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Who answered; empty after a timeout.
    pub from: String,
    /// After this time.
    pub nanos: i64,
    /// Why the trace ended here, if it failed.
    pub error: Option<String>,
}

/// A failed reload (`control.md` §5.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReloadError {
    /// What went wrong.
    pub text: String,
    /// Its class.
    pub code: ReloadCode,
}

/// Classes of failed reloads: clients turn them into exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReloadCode {
    /// An item that cannot be reloaded was added, changed or removed.
    NotReloadable = 3,
    /// Anything else.
    Failed = 4,
}

/// An error line.
pub(super) fn error(error: &str) -> Bytes {
    // Text from peers and from user input may hold line breaks; a client reads one line per command.
    let error = error.trim_end_matches(['\r', '\n']);
    let one_line: String = error
        .chars()
        .map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c })
        .collect();
    format!("{}{one_line}\n", text::ERROR).into()
}

/// A result line.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    match serde_json::to_vec(value) {
        Ok(mut line) => {
            line.push(b'\n');
            line.into()
        }
        Err(e) => error(&e.to_string()),
    }
}

/// A result with one member.
pub(super) fn member(name: &str, value: &str) -> Bytes {
    json(&BTreeMap::from([(name, value)]))
}

impl Serialize for PingReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Success { from, nanos } => {
                map.serialize_entry("Success", &true)?;
                map.serialize_entry("From", from)?;
                map.serialize_entry("Time", nanos)?;
                map.serialize_entry("TimeStr", &go_duration(*nanos))?;
            }
            Self::Failure(text) => {
                map.serialize_entry("Success", &false)?;
                map.serialize_entry("Error", text)?;
            }
        }
        map.end()
    }
}

impl Serialize for Hop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("From", &self.from)?;
        map.serialize_entry("Time", &self.nanos)?;
        map.serialize_entry("TimeStr", &go_duration(self.nanos))?;
        if let Some(text) = &self.error {
            map.serialize_entry("Error", text)?;
        }
        map.end()
    }
}

/// The answer to `traceroute`: an object with the members `"0"`, `"1"`, …
pub(super) struct Trace(pub(super) Vec<Hop>);

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().enumerate().map(|(i, hop)| (i.to_string(), hop)))
    }
}

/// The answer to `reload`.
pub(super) struct Reloaded(pub(super) Result<(), ReloadError>);

impl Serialize for Reloaded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("Success", &self.0.is_ok())?;
        if let Err(e) = &self.0 {
            map.serialize_entry("Error", &format!("{}{}{}", e.text, text::ERROR_CODE, e.code as u8))?;
        }
        map.end()
    }
}

/// The last answer to `work submit`, and that to `work adopt`.
#[derive(Serialize)]
pub(super) struct Submitted {
    pub(super) result: &'static str,
    pub(super) unitid: String,
}
