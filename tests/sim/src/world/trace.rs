//! What happened in a world, for comparing two runs.

use highway::{HighwayHash, HighwayHasher, Key};
use receptor_core::time::Instant;

/// A digest of everything that happened, and the last lines of it.
#[derive(Debug)]
pub struct Trace {
    hasher: HighwayHasher,
    /// Lines noted so far.
    pub lines: u64,
    /// Frames delivered so far.
    pub frames: u64,
    last: std::collections::VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            hasher: HighwayHasher::new(Key([0; 4])),
            lines: 0,
            frames: 0,
            last: Default::default(),
        }
    }
}

impl Trace {
    const KEPT: usize = 200;

    pub(super) fn note(&mut self, at: Instant, node: usize, what: &str, size: usize) {
        let line = format!("{at:?} {node} {what} {size}\n");
        self.hasher.append(line.as_bytes());
        self.lines += 1;
        self.frames += u64::from(what == "frame");
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
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
