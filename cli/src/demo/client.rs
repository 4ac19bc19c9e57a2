//! A small client of the control service, enough for the demo.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One control connection.
pub(super) struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// No answer of the demo's mesh takes longer, not even on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Connects and reads the greeting.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Self::PATIENCE))?;
        let mut client = Self {
            reader: BufReader::new(stream),
        };
        let greeting = client.line()?;
        if !greeting.starts_with("Receptor Control, node ") {
            bail!("unexpected greeting {greeting:?}");
        }
        Ok(client)
    }

    /// One command and its answer.
    pub(super) fn command(socket: &Path, command: &str) -> Result<Value> {
        let mut client = Self::connect(socket)?;
        client.send(command.as_bytes())?;
        client.send(b"\n")?;
        let answer = client.line()?;
        serde_json::from_str(&answer).with_context(|| format!("{command}: {}", answer.trim_end()))
    }

    /// Submits a unit with its payload; returns its ID.
    pub(super) fn submit(socket: &Path, node: &str, work_type: &str, payload: &[u8]) -> Result<String> {
        let mut client = Self::connect(socket)?;
        client.send(format!("work submit {node} {work_type}\n").as_bytes())?;
        let ready = client.line()?;
        if !ready.starts_with("Work unit created with ID ") {
            bail!("{}", ready.trim_end());
        }
        client.send(payload)?;
        client.reader.get_ref().shutdown(Shutdown::Write)?;
        let answer = client.line()?;
        let value: Value = serde_json::from_str(&answer).with_context(|| answer.trim_end().to_owned())?;
        Ok(value["unitid"]
            .as_str()
            .context("an answer without a unit ID")?
            .to_owned())
    }

    /// The results of a unit, as they come; gives the reader behind the header line.
    pub(super) fn results(socket: &Path, unit: &str) -> Result<impl Read + use<>> {
        let mut client = Self::connect(socket)?;
        client.send(format!("work results {unit}\n").as_bytes())?;
        let header = client.line()?;
        if !header.starts_with("Streaming results for work unit ") {
            bail!("{}", header.trim_end());
        }
        Ok(client.reader)
    }

    fn send(&mut self, data: &[u8]) -> Result<()> {
        self.reader
            .get_mut()
            .write_all(data)
            .context("write to the control socket")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.reader
            .read_line(&mut line)
            .context("read from the control socket")?;
        if line.is_empty() {
            bail!("the node closed the control connection");
        }
        Ok(line)
    }
}
