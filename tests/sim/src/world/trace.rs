//! What happened in a world, for comparing two runs.

use std::fmt::{Arguments, Write as _};
use std::io::Write as _;

use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::id::LinkId;
use receptor_core::time::Instant;

use super::observed::Seen;

/// A digest of everything that happened, and the last lines of it; all of them in a file, if one is given.
pub struct Trace {
    hasher: HighwayHasher,
    /// Lines noted so far.
    pub lines: u64,
    /// Frames delivered so far.
    pub frames: u64,
    last: std::collections::VecDeque<String>,
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: HighwayHasher::new(Key([0; 4])),
            lines: 0,
            frames: 0,
            last: Default::default(),
            file: None,
        }
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trace({} lines, {:016x})", self.lines, self.digest())
    }
}

impl Trace {
    const KEPT: usize = 200;

    /// From now on every line is written there, too.
    pub fn write_to(&mut self, file: std::fs::File) {
        self.file = Some(std::io::BufWriter::new(file));
    }

    pub(super) fn note(&mut self, at: Instant, node: usize, what: &str, size: usize) {
        self.line(at, node, format_args!("{what} {size}"));
    }

    pub(super) fn frame(&mut self, at: Instant, node: usize, link: LinkId, frame: Seen) {
        self.frames += 1;
        let hops = frame.header.map_or(-1, |header| i32::from(header.hops));
        let (len, digest) = (frame.len, frame.digest);
        self.line(at, node, format_args!("frame {} {len} {hops} {digest:016x}", link.0));
    }

    /// One line: when, whose, what.
    pub(super) fn line(&mut self, at: Instant, node: usize, what: Arguments<'_>) {
        let mut line = if self.last.len() == Self::KEPT {
            self.last.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        line.clear();
        let _ = writeln!(line, "{at:?} {node} {what}");
        self.hasher.append(line.as_bytes());
        self.lines += 1;
        if let Some(file) = &mut self.file {
            file.write_all(line.as_bytes())
                .expect("the trace's file can be written");
        }
        self.last.push_back(line);
    }

    /// Equal for equal runs.
    pub fn digest(&self) -> u64 {
        self.hasher.clone().finalize64()
    }

    /// The last lines, for a failure's report.
    pub fn tail(&self) -> String {
        self.last.iter().map(String::as_str).collect()
    }
}
