//! From the command's pipe into `stdout`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use highway::{HighwayHash as _, HighwayHasher, Key};

/// Size of the buffer; the pipe itself is given the same.
pub(super) const BUFFER: usize = 256 << 10;

/// Most bytes moved in one turn, so that cancels are not kept waiting.
const TURN: usize = 4 * BUFFER;

/// Between two attempts to write to a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// How much more is taken out of the pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// Until its end.
    All,
    /// This many bytes: what was in it when its end was given up.
    Bytes(u64),
}

pub(super) struct Pump {
    /// Does not block. `None` when nothing more is to be read.
    pipe: Option<OwnedFd>,
    left: Left,
    file: File,
    buffer: Vec<u8>,
    /// Part of the buffer that is read and not written.
    pending: Range<usize>,
    written: u64,
    hasher: HighwayHasher,
    retry_at: Option<Instant>,
}

impl Pump {
    /// Takes the pipe's reading end, which must not block, and an empty file.
    pub(super) fn new(pipe: OwnedFd, file: File) -> Self {
        Self {
            pipe: Some(pipe),
            left: Left::All,
            file,
            buffer: vec![0; BUFFER],
            pending: 0..0,
            written: 0,
            hasher: HighwayHasher::new(Key::default()),
            retry_at: None,
        }
    }

    /// The pipe, if bytes are wanted from it now.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        if self.retry_at.is_some() {
            None
        } else {
            self.pipe.as_ref().map(OwnedFd::as_fd)
        }
    }

    /// When to try again to write.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether writing has failed and not yet succeeded again.
    pub(super) fn is_held_up(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether everything is read and written.
    pub(super) fn is_done(&self) -> bool {
        self.pipe.is_none() && self.pending.is_empty()
    }

    /// Bytes in `stdout`.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Checksum of what is written.
    pub(super) fn checksum(&self) -> u64 {
        self.hasher.clone().finalize64()
    }

    /// Moves what can be moved, within limits.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let mut moved = 0;
        while moved < TURN {
            if self.write().is_err() {
                self.retry_at = Some(now + RETRY);
                return;
            }
            match self.read() {
                Some(read) => moved += read,
                None => return,
            }
        }
        if self.write().is_err() {
            self.retry_at = Some(now + RETRY);
        }
    }

    /// Gives up waiting for the pipe's end: what is in it now is the last.
    pub(super) fn take_rest(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        if self.left == Left::All {
            self.left = Left::Bytes(rustix::io::ioctl_fionread(pipe).unwrap_or(0));
        }
    }

    /// Gives up what is not written.
    pub(super) fn abandon(&mut self) {
        self.pipe = None;
        self.pending = 0..0;
        self.retry_at = None;
    }

    /// The file is written first and hashed then, so the checksum is of what is on disk.
    fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let piece = &self.buffer[self.pending.clone()];
            match self.file.write_at(piece, self.written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.hasher.append(&piece[..count]);
                    self.written += count as u64;
                    self.pending.start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills the empty buffer; `None` if there is nothing to read now.
    fn read(&mut self) -> Option<usize> {
        let pipe = self.pipe.as_ref()?;
        let want = match self.left {
            Left::All => BUFFER,
            Left::Bytes(left) => usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER),
        };
        let result = if want == 0 {
            Ok(0)
        } else {
            rustix::io::read(pipe, &mut self.buffer[..want])
        };
        match result {
            Ok(0) => {
                self.pipe = None;
                None
            }
            Ok(read) => {
                self.pending = 0..read;
                if let Left::Bytes(left) = &mut self.left {
                    *left -= read as u64;
                }
                Some(read)
            }
            Err(rustix::io::Errno::INTR) => Some(0),
            // Nothing there now; if all that was left was promised, somebody else has taken it.
            Err(rustix::io::Errno::AGAIN) if self.left == Left::All => None,
            // A pipe knows no other failure.
            Err(_) => {
                self.pipe = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn pump(path: &std::path::Path) -> (Pump, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let file = File::create(path).unwrap();
        (Pump::new(read, file), write.into())
    }

    #[test]
    fn everything_is_written_and_hashed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let (mut pump, mut write) = pump(&path);
        let content: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
        write.write_all(&content).unwrap();
        pump.turn(Instant::now());
        assert!(!pump.is_done());
        assert_eq!(pump.written(), 60_000);
        drop(write);
        pump.turn(Instant::now());
        assert!(pump.is_done());
        assert_eq!(std::fs::read(&path).unwrap(), content);
        let mut hasher = HighwayHasher::new(Key::default());
        hasher.append(&content);
        assert_eq!(pump.checksum(), hasher.finalize64());
    }

    #[test]
    fn a_pipe_that_stays_open_is_emptied_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut pump, mut write) = pump(&dir.path().join("stdout"));
        write.write_all(b"now").unwrap();
        pump.take_rest();
        write.write_all(b"later").unwrap();
        pump.turn(Instant::now());
        assert!(pump.is_done());
        assert_eq!(pump.written(), 3);
    }

    #[test]
    fn a_full_disk_holds_the_pipe_up_and_loses_nothing() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut pump = Pump::new(read, full);
        File::from(write).write_all(b"text").unwrap();
        let now = Instant::now();
        pump.turn(now);
        assert!(pump.is_held_up() && pump.wants().is_none() && !pump.is_done());
        let dir = tempfile::tempdir().unwrap();
        pump.file = File::create(dir.path().join("stdout")).unwrap();
        pump.turn(now);
        assert_eq!(pump.written(), 0, "not before the second is over");
        pump.turn(now + RETRY);
        assert!(pump.is_done());
        assert_eq!(pump.written(), 4);
    }
}
