//! The daemons that listen to a runner: normally one, none while it restarts.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::lines::{HELLO, HELLO_COPYING, Lines};

/// Most connections; later ones are closed at once.
const LIMIT: usize = 8;

struct Client {
    stream: UnixStream,
    input: Lines,
    /// Not taken by the socket yet. New lines are made only when it is empty, so it stays short.
    output: Vec<u8>,
    told_running: bool,
    told_size: u64,
    gone: bool,
}

/// What there is to tell.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct News {
    pub(super) running: bool,
    pub(super) size: u64,
}

pub(super) struct Clients {
    listener: UnixListener,
    hello: &'static str,
    connected: Vec<Client>,
}

impl Clients {
    pub(super) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            hello: HELLO,
            connected: Vec::new(),
        })
    }

    /// From now on the daemons are told first that bytes of the pipe may be lost with this process.
    pub(super) fn announce_copying(&mut self) {
        self.hello = HELLO_COPYING;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = (self.listener.as_fd(), PollFlags::IN);
        let connected = self.connected.iter().map(|client| {
            let write = if client.output.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            (client.stream.as_fd(), PollFlags::IN | write)
        });
        std::iter::once(listener).chain(connected)
    }

    /// Accepts and reads what is there; says whether somebody wants the unit cancelled.
    pub(super) fn serve(&mut self) -> bool {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connected.len() < LIMIT && stream.set_nonblocking(true).is_ok() {
                let mut client = Client {
                    stream,
                    input: Lines::default(),
                    output: format!("{}\n", self.hello).into(),
                    told_running: false,
                    told_size: 0,
                    gone: false,
                };
                // At once: it says what may be done with the pipe's rest, should this process be killed now.
                client.flush();
                self.connected.push(client);
            }
        }
        let mut cancel = false;
        for client in &mut self.connected {
            cancel |= client.read();
        }
        self.connected.retain(|client| !client.gone);
        cancel
    }

    /// Tells everybody what is new to them, as far as their sockets take it.
    pub(super) fn tell(&mut self, news: News) {
        for client in &mut self.connected {
            client.tell(news);
        }
        self.connected.retain(|client| !client.gone);
    }

    /// Tells everybody the last news and that the unit is finished; waits so long for slow ones.
    pub(super) fn farewell(&mut self, news: News, patience: Duration) {
        // Whoever has connected meanwhile hears it too.
        self.serve();
        let end = Instant::now() + patience;
        for client in &mut self.connected {
            while !client.gone && !client.tell(news) {
                let left = end.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).unwrap_or_default();
                let mut poll = [PollFd::new(&client.stream, PollFlags::OUT)];
                if left.is_zero() || rustix::event::poll(&mut poll, Some(&timeout)).is_err() {
                    break;
                }
            }
            client.output.extend_from_slice(b"finished\n");
            client.flush();
        }
    }
}

impl Client {
    fn read(&mut self) -> bool {
        let mut cancel = false;
        let mut bytes = [0; 256];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.gone = true,
                Ok(read) => {
                    self.input.feed(&bytes[..read], |line| cancel |= line == b"cancel");
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
            return cancel;
        }
    }

    /// Whether all is told and sent.
    fn tell(&mut self, news: News) -> bool {
        loop {
            if !self.flush() {
                return false;
            }
            if news.running && !self.told_running {
                self.told_running = true;
                self.output.extend_from_slice(b"running\n");
            }
            if news.size != self.told_size {
                self.told_size = news.size;
                self.output
                    .extend_from_slice(format!("output {}\n", news.size).as_bytes());
            }
            if self.output.is_empty() {
                return true;
            }
        }
    }

    /// Whether nothing is left to send.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() && !self.gone {
            match self.stream.write(&self.output) {
                Ok(0) => self.gone = true,
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.gone = true,
            }
        }
        !self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead as _;

    #[test]
    fn a_daemon_that_does_not_read_holds_nothing_up_and_hears_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut clients = Clients::new(UnixListener::bind(&path).unwrap()).unwrap();
        let mut daemon = UnixStream::connect(&path).unwrap();
        assert!(!clients.serve());
        for size in 0..100_000 {
            clients.tell(News { running: true, size });
        }
        daemon.write_all(b"hello\ncancel\n").unwrap();
        assert!(clients.serve());
        let reader = std::thread::spawn(move || {
            io::BufReader::new(daemon)
                .lines()
                .map(Result::unwrap)
                .collect::<Vec<_>>()
        });
        let last = News {
            running: true,
            size: 100_000,
        };
        clients.farewell(last, Duration::from_secs(120));
        drop(clients);
        let lines = reader.join().unwrap();
        assert_eq!(lines[..2], ["receptor-runner 1", "running"]);
        assert_eq!(lines[lines.len() - 2..], ["output 100000", "finished"]);
        assert!(lines.len() < 100_000);
    }

    #[test]
    fn daemons_that_go_are_forgotten_and_too_many_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut clients = Clients::new(UnixListener::bind(&path).unwrap()).unwrap();
        let daemons: Vec<_> = (0..LIMIT + 3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients.serve();
        assert_eq!(clients.connected.len(), LIMIT);
        drop(daemons);
        clients.serve();
        assert!(clients.is_empty());
    }
}
