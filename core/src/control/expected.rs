//! Which reply answers which request, with which bytes, and what the connection becomes by it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::reply::{self, Reloaded, Reply, Submitted, Trace};
use super::request::{Request, WorkRequest};
use super::text;

/// What an outstanding request may be answered with.
#[derive(Debug)]
pub(super) enum Expected {
    Status(Option<Vec<String>>),
    Ping,
    Traceroute,
    Connect,
    Reload,
    Submit,
    SubmitDone,
    List,
    UnitStatus,
    Cancel,
    Release,
    Adopt,
    Results,
    Upgrade,
}

/// What the input and output after an answer are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Line,
    /// Input is stdin, and a second answer is due.
    Stdin,
    /// Nothing: all input belongs to a stdin that is not wanted any more.
    StdinOver,
    RawBothWays,
    RawOutput,
}

impl Expected {
    pub(super) fn by(request: &Request) -> Self {
        match request {
            Request::Status { fields } => Self::Status(fields.clone()),
            Request::Ping { .. } => Self::Ping,
            Request::Traceroute { .. } => Self::Traceroute,
            Request::Connect(_) => Self::Connect,
            Request::Reload => Self::Reload,
            Request::Work(work) => match work {
                WorkRequest::Submit(_) => Self::Submit,
                WorkRequest::List { .. } => Self::List,
                WorkRequest::Status { .. } => Self::UnitStatus,
                WorkRequest::Cancel { .. } => Self::Cancel,
                WorkRequest::Release { .. } => Self::Release,
                WorkRequest::Adopt(_) => Self::Adopt,
                WorkRequest::Results { .. } => Self::Results,
                WorkRequest::Upgrade { .. } => Self::Upgrade,
            },
        }
    }

    /// The answer, or `self` back if the reply does not fit.
    pub(super) fn answer(self, reply: Reply) -> Result<(Bytes, Next), Self> {
        let line = match (self, reply) {
            (Self::SubmitDone, Reply::Error(error)) => return Ok((reply::error(&error), Next::StdinOver)),
            (_, Reply::Error(error)) => reply::error(&error),
            (Self::Status(fields), Reply::Status(view)) => reply::json(&view.members(fields.as_deref())),
            (Self::Ping, Reply::Ping(ping)) => reply::json(&ping),
            (Self::Traceroute, Reply::Traceroute(hops)) => reply::json(&Trace(hops)),
            (Self::Reload, Reply::Reload(result)) => reply::json(&Reloaded(result)),
            (Self::Connect, Reply::Connecting) => {
                return Ok((format!("{}\n", text::CONNECTING).into(), Next::RawBothWays));
            }
            (Self::Submit, Reply::SubmitReady { unit }) => {
                let [before, after] = text::UNIT_CREATED;
                return Ok((format!("{before}{unit}{after}\n").into(), Next::Stdin));
            }
            (Self::SubmitDone, Reply::SubmitDone { unit, started }) => {
                let result = if started {
                    text::JOB_STARTED
                } else {
                    text::JOB_SUBMITTED
                };
                return Ok((reply::json(&Submitted { result, unitid: unit }), Next::StdinOver));
            }
            (Self::List, Reply::UnitList(units)) => reply::json(&units),
            (Self::UnitStatus, Reply::UnitStatus(status)) => reply::json(&*status),
            (Self::Cancel, Reply::Cancelled { unit, pending }) => {
                reply::member(if pending { text::CANCEL_PENDING } else { text::CANCELLED }, &unit)
            }
            (Self::Release, Reply::Released { unit, pending }) => {
                reply::member(if pending { text::RELEASE_PENDING } else { text::RELEASED }, &unit)
            }
            (Self::Adopt, Reply::Adopted { unit, fresh }) => {
                let result = if fresh { text::ADOPTED } else { text::ALREADY_ADOPTED };
                reply::json(&Submitted { result, unitid: unit })
            }
            (Self::Results, Reply::ResultsStart { unit }) => {
                return Ok((format!("{}{unit}\n", text::STREAMING_RESULTS).into(), Next::RawOutput));
            }
            (Self::Upgrade, Reply::Upgraded { version }) => {
                return Ok((format!("{{\"upgraded\":{version}}}\n").into(), Next::RawBothWays));
            }
            (expected, _) => return Err(expected),
        };
        Ok((line, Next::Line))
    }
}
