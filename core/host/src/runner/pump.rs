//! From the command's pipe into `stdout`.
//!
//! By `splice`, so that every byte is either in the file or still in the pipe, at whatever moment the runner is killed or
//! the disk is full: what the daemon then finds in the pipe continues the file. Where a file system cannot do that, bytes
//! are copied through the runner's memory, and the daemon is told not to add the rest.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use highway::{HighwayHash as _, HighwayHasher, Key};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use crate::store::start_writeback;

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

/// What one move came to.
enum Moved {
    /// So many bytes.
    Bytes(usize),
    /// Nothing is there now, or nothing more will come.
    Nothing,
}

pub(super) struct Pump {
    /// Does not block. `None` when nothing more is to be read.
    pipe: Option<OwnedFd>,
    left: Left,
    file: File,
    /// Whether bytes go through the buffer on their way to the file.
    copies: bool,
    buffer: Vec<u8>,
    /// Copying only: part of the buffer that is read and not written.
    pending: Range<usize>,
    /// Bytes in the file.
    written: u64,
    /// How many of them the checksum covers.
    hashed: u64,
    hasher: HighwayHasher,
    retry_at: Option<Instant>,
    /// Most bytes that the file may have.
    limit: Option<u64>,
    /// There was more than that.
    exceeds: bool,
}

impl Pump {
    /// Takes the pipe's reading end, which must not block, and an empty file that can be written and read.
    pub(super) fn new(pipe: OwnedFd, file: File, limit: Option<u64>) -> Self {
        Self {
            pipe: Some(pipe),
            left: Left::All,
            copies: !can_splice_to(&file),
            file,
            buffer: vec![0; BUFFER],
            pending: 0..0,
            written: 0,
            hashed: 0,
            hasher: HighwayHasher::new(Key::default()),
            retry_at: None,
            limit,
            exceeds: false,
        }
    }

    /// Whether there was more than the limit; nothing is read any more then.
    pub(super) fn exceeds_limit(&self) -> bool {
        self.exceeds
    }

    /// Whether bytes may be lost with this process, so that what is left in the pipe does not continue the file.
    pub(super) fn copies(&self) -> bool {
        self.copies
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
        self.pipe.is_none() && self.pending.is_empty() && self.hashed == self.written
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
        let result = loop {
            if let Err(error) = self.write_pending().and_then(|()| self.hash()) {
                break Err(error);
            }
            if moved >= TURN {
                break Ok(());
            }
            let is_full = self.limit.is_some_and(|limit| self.written >= limit);
            let result = match self.copies {
                _ if is_full => Ok(self.probe()),
                true => self.read(),
                false => self.splice(),
            };
            match result {
                Ok(Moved::Bytes(count)) => moved += count,
                Ok(Moved::Nothing) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
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

    /// Gives up what is not written, and what was and cannot be read again.
    pub(super) fn abandon(&mut self) {
        self.pipe = None;
        self.pending = 0..0;
        self.retry_at = None;
        if self.hash().is_err() {
            self.written = self.hashed;
        }
    }

    /// From the pipe straight into the file.
    fn splice(&mut self) -> io::Result<Moved> {
        let Some(pipe) = &self.pipe else {
            return Ok(Moved::Nothing);
        };
        let want = self.want();
        let mut offset = self.written;
        let result = if want == 0 {
            Ok(0)
        } else {
            rustix::pipe::splice(pipe, None, &self.file, Some(&mut offset), want, SpliceFlags::NONBLOCK)
        };
        match result {
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.copies = true;
                Ok(Moved::Bytes(0))
            }
            // Room is short, or the disk is ill: the bytes are still in the pipe.
            Err(error) if !matches!(error, Errno::INTR | Errno::AGAIN) => Err(error.into()),
            result => {
                let moved = self.took(result);
                if let Moved::Bytes(count) = moved {
                    self.written += count as u64;
                }
                Ok(moved)
            }
        }
    }

    /// From the pipe into the empty buffer.
    fn read(&mut self) -> io::Result<Moved> {
        let Some(pipe) = &self.pipe else {
            return Ok(Moved::Nothing);
        };
        let want = self.want();
        let result = if want == 0 {
            Ok(0)
        } else {
            rustix::io::read(pipe, &mut self.buffer[..want])
        };
        let moved = self.took(result);
        if let Moved::Bytes(count) = moved {
            self.pending = 0..count;
        }
        Ok(moved)
    }

    /// No more may be written: is there more? What is there nobody gets.
    fn probe(&mut self) -> Moved {
        let Some(pipe) = &self.pipe else { return Moved::Nothing };
        let result = if self.left == Left::Bytes(0) {
            Ok(0)
        } else {
            rustix::io::read(pipe, &mut self.buffer[..1])
        };
        let moved = self.took(result);
        if let Moved::Bytes(1..) = moved {
            self.exceeds = true;
            self.pipe = None;
        }
        moved
    }

    fn want(&self) -> usize {
        let room = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.written));
        let left = match self.left {
            Left::All => u64::MAX,
            Left::Bytes(left) => left,
        };
        usize::try_from(room.min(left)).unwrap_or(usize::MAX).min(BUFFER)
    }

    /// Concludes from what came out of the pipe, or did not.
    fn took(&mut self, result: rustix::io::Result<usize>) -> Moved {
        match result {
            Ok(count @ 1..) => {
                if let Left::Bytes(left) = &mut self.left {
                    *left -= count as u64;
                }
                Moved::Bytes(count)
            }
            Err(Errno::INTR) => Moved::Bytes(0),
            // Nothing there now; if all that was left was promised, somebody else has taken it.
            Err(Errno::AGAIN) if self.left == Left::All => Moved::Nothing,
            // The end. A pipe knows no other failure.
            Ok(0) | Err(_) => {
                self.pipe = None;
                Moved::Nothing
            }
        }
    }

    /// Writes what was copied into the buffer.
    fn write_pending(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.file.write_at(&self.buffer[self.pending.clone()], self.written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count as u64;
                    self.pending.start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the file's new part back, so that the checksum is of what is in the file. It comes from the page cache.
    fn hash(&mut self) -> io::Result<()> {
        while self.hashed < self.written {
            let want = usize::try_from(self.written - self.hashed)
                .unwrap_or(usize::MAX)
                .min(BUFFER);
            match self.file.read_at(&mut self.buffer[..want], self.hashed) {
                // Somebody has cut the file: it is damaged, and a checksum that does not fit says so.
                Ok(0) => self.hashed = self.written,
                Ok(count) => {
                    self.hasher.append(&self.buffer[..count]);
                    start_writeback(&self.file, self.hashed, count as u64);
                    self.hashed += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether this file's system takes bytes from a pipe. Tried with a pipe that is at its end, so nothing is written.
fn can_splice_to(file: &File) -> bool {
    let ended = rustix::pipe::pipe().map(|(read, _)| read);
    ended
        .and_then(|pipe| rustix::pipe::splice(pipe, None, file, Some(&mut 0), 1, SpliceFlags::NONBLOCK))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn pump(path: &std::path::Path) -> (Pump, File) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        let file = File::create_new(path).unwrap();
        drop(file);
        let file = File::options().read(true).write(true).open(path).unwrap();
        (Pump::new(read, file, None), write.into())
    }

    #[test]
    fn everything_is_written_and_hashed_spliced_or_copied() {
        for copies in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("stdout");
            let (mut pump, mut write) = pump(&path);
            assert!(!pump.copies(), "temporary directories can be spliced to");
            pump.copies = copies;
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
    }

    #[test]
    fn where_a_file_cannot_be_spliced_to_bytes_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        // The kernel refuses these as it does files of a system that cannot.
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let mut pump = Pump::new(read, file, None);
        assert!(pump.copies());
        File::from(write).write_all(b"text").unwrap();
        pump.turn(Instant::now());
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn no_more_is_written_than_the_limit_and_what_is_more_is_noticed() {
        for (copies, content, exceeds) in [
            (false, &b"1234"[..], false),
            (true, b"1234", false),
            (false, b"12345", true),
            (true, b"12345", true),
            (false, b"123", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("stdout");
            let (mut pump, mut write) = pump(&path);
            (pump.copies, pump.limit) = (copies, Some(4));
            write.write_all(&content[..2]).unwrap();
            pump.turn(Instant::now());
            write.write_all(&content[2..]).unwrap();
            pump.turn(Instant::now());
            assert_eq!(pump.exceeds_limit(), exceeds);
            drop(write);
            pump.turn(Instant::now());
            assert!(pump.is_done());
            assert_eq!(pump.exceeds_limit(), exceeds);
            assert_eq!(std::fs::read(&path).unwrap(), content[..content.len().min(4)]);
        }
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
        for copies in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut pump, mut write) = pump(&dir.path().join("stdout"));
            pump.copies = copies;
            // `/dev/full` takes what is spliced.
            let unwritable = File::open(dir.path().join("stdout")).unwrap();
            let file = std::mem::replace(&mut pump.file, unwritable);
            write.write_all(b"text").unwrap();
            drop(write);
            let now = Instant::now();
            pump.turn(now);
            assert!(pump.is_held_up() && pump.wants().is_none() && !pump.is_done());
            pump.file = file;
            pump.turn(now);
            assert_eq!(pump.written(), 0, "not before the second is over");
            pump.turn(now + RETRY);
            assert!(pump.is_done());
            assert_eq!(pump.written(), 4);
        }
    }
}
