//! The lines that runner and daemon exchange.

/// Longest line in bytes, both ways.
const LONGEST: usize = 64;

/// First line of a runner.
pub(super) const HELLO: &str = "receptor-runner 1";

/// First line of a runner that holds bytes which are neither in the pipe nor in the file.
pub(super) const HELLO_COPYING: &str = "receptor-runner 1 copy";

/// What a runner says, without the record that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// What is left in the pipe does not continue `stdout` if the runner is killed.
    Copying,
    /// The command runs.
    Running,
    /// `stdout` has this many bytes.
    Output(u64),
    /// The terminal record is durable.
    Finished,
}

impl Notice {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        match line {
            _ if line == HELLO_COPYING.as_bytes() => Some(Self::Copying),
            b"running" => Some(Self::Running),
            b"finished" => Some(Self::Finished),
            _ => str::from_utf8(line.strip_prefix(b"output ")?)
                .ok()?
                .parse()
                .ok()
                .map(Self::Output),
        }
    }
}

/// Cuts lines out of bytes in any slicing. A line that is too long is skipped.
#[derive(Default, Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    skipping: bool,
}

impl Lines {
    pub(super) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for &byte in bytes {
            if byte == b'\n' {
                if !self.skipping {
                    line(&self.partial);
                }
                self.partial.clear();
                self.skipping = false;
            } else if self.partial.len() < LONGEST {
                self.partial.push(byte);
            } else {
                self.skipping = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let long = "x".repeat(LONGEST + 1);
        let text =
            format!("receptor-runner 1\nrunning\n{long}\noutput 18446744073709551615\noutput -1\n\nfinished\nrun");
        for size in [1, 2, 7, text.len()] {
            let mut lines = Lines::default();
            let mut notices = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.feed(piece, |line| notices.extend(Notice::parse(line)));
            }
            assert_eq!(notices, [Notice::Running, Notice::Output(u64::MAX), Notice::Finished]);
        }
    }
}
