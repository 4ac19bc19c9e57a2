//! A client of the control socket, as plain as can be.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{PATIENCE, until};

/// How long a client waits for any single answer.
const ANSWER_LIMIT: Duration = PATIENCE;
/// How long a unit may take in a test unless the test says otherwise.
pub const UNIT_LIMIT: Duration = PATIENCE;

/// One session of the control service.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
    /// The greeting line.
    pub greeting: String,
}

/// What `work submit` answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// The unit's ID.
    pub unit: String,
    /// `result` of the final answer.
    pub result: String,
}

impl Control {
    /// Connects and reads the greeting.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut session = Self {
            stream: BufReader::new(stream),
            greeting: String::new(),
        };
        session.greeting = session.line()?;
        Ok(session)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Ends our direction.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// Reads one line, without its line feed. The end of the session is an error.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end_matches('\n').len());
        Ok(line)
    }

    /// Reads to the end of the session.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads what is there next, at least one byte; nothing at the end of the session.
    pub fn piece(&mut self) -> io::Result<Vec<u8>> {
        let piece = self.stream.fill_buf()?.to_vec();
        self.stream.consume(piece.len());
        Ok(piece)
    }

    /// One command line out, one line in.
    pub fn command(&mut self, line: &str) -> io::Result<String> {
        self.send(format!("{line}\n").as_bytes())?;
        self.line()
    }

    /// The same, for an answer that must be JSON; the text after `ERROR: ` otherwise.
    pub fn json(&mut self, line: &str) -> Result<Value, String> {
        let answer = self.command(line).map_err(|error| format!("{line}: {error}"))?;
        match answer.strip_prefix("ERROR: ") {
            Some(text) => Err(text.to_owned()),
            None => serde_json::from_str(&answer).map_err(|error| format!("{line}: {error}: {answer}")),
        }
    }

    /// A whole submission, which uses up the session. The text after `ERROR: ` when it is refused.
    pub fn submit(mut self, line: &str, stdin: &[u8]) -> Result<Submitted, String> {
        let text = |error: io::Error| format!("{line}: {error}");
        let created = self.command(line).map_err(text)?;
        if let Some(refusal) = created.strip_prefix("ERROR: ") {
            return Err(refusal.to_owned());
        }
        let unit = created
            .strip_prefix("Work unit created with ID ")
            .and_then(|rest| rest.strip_suffix(". Send stdin data and EOF."))
            .ok_or_else(|| format!("not the expected line: {created}"))?
            .to_owned();
        // A service that fails early may stop reading: its answer says why.
        let sent = self.send(stdin);
        let _ = self.half_close();
        let answer = self.line().map_err(|error| format!("{error}; stdin: {sent:?}"))?;
        if let Some(refusal) = answer.strip_prefix("ERROR: ") {
            return Err(format!("unit {unit}: {refusal}"));
        }
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        assert_eq!(answer["unitid"], unit.as_str(), "{answer}");
        assert_eq!(self.rest().map_err(text)?, b"", "nothing follows the answer");
        Ok(Submitted {
            unit,
            result: answer["result"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The output of a unit from `start` to its end, which uses up the session.
    pub fn results(mut self, unit: &str, start: u64) -> io::Result<Vec<u8>> {
        let header = self.command(&format!("work results {unit} {start}"))?;
        assert_eq!(header, format!("Streaming results for work unit {unit}"));
        self.rest()
    }

    /// Polls a unit until `done` says so.
    pub fn wait_for_unit(&mut self, unit: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
        until(&format!("unit {unit}"), limit, || {
            let status = self.json(&format!("work status {unit}"))?;
            if done(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }
}
