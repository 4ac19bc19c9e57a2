//! A connection between two attached sockets that a case can hold up or cut.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a pump looks whether it is still to pump.
const LOOK: Duration = Duration::from_millis(10);

/// What a bridge has carried, if it is to be kept.
type Seen = Arc<Mutex<Option<Vec<u8>>>>;

/// Carries bytes between two Unix sockets. Dropping it cuts.
#[derive(Debug)]
pub struct Bridge {
    held: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
    seen: Seen,
    pumps: Vec<thread::JoinHandle<()>>,
}

impl Bridge {
    /// A bridge and its two ends.
    pub fn new() -> (Self, UnixStream, UnixStream) {
        let pair = || UnixStream::pair().expect("sockets can be made");
        let ((near, near_end), (far, far_end)) = (pair(), pair());
        let mut bridge = Self {
            held: Arc::default(),
            cut: Arc::default(),
            seen: Arc::default(),
            pumps: Vec::new(),
        };
        let copy = |socket: &UnixStream| socket.try_clone().expect("a socket can be duplicated");
        for (from, to) in [(copy(&near), copy(&far)), (far, near)] {
            let (held, cut, seen) = (
                Arc::clone(&bridge.held),
                Arc::clone(&bridge.cut),
                Arc::clone(&bridge.seen),
            );
            bridge
                .pumps
                .push(thread::spawn(move || pump(&from, &to, &held, &cut, &seen)));
        }
        (bridge, near_end, far_end)
    }

    /// From now on everything that is carried is kept.
    pub fn record(&self) {
        self.seen.lock().expect("nobody died").get_or_insert_default();
    }

    /// What was carried in either direction since [`Bridge::record`], in the order of its pieces.
    pub fn recorded(&self) -> Vec<u8> {
        self.seen.lock().expect("nobody died").clone().unwrap_or_default()
    }

    /// From now on nothing is taken from either side.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// From now on everything is carried again.
    pub fn release(&self) {
        self.held.store(false, Ordering::Relaxed);
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
        for pump in self.pumps.drain(..) {
            let ended = pump.join();
            assert!(thread::panicking() || ended.is_ok(), "a pump died");
        }
    }
}

fn pump(
    mut from: &UnixStream,
    mut to: &UnixStream,
    held: &AtomicBool,
    cut: &AtomicBool,
    seen: &Mutex<Option<Vec<u8>>>,
) {
    for socket in [from, to] {
        let set = socket
            .set_read_timeout(Some(LOOK))
            .and_then(|()| socket.set_write_timeout(Some(LOOK)));
        set.expect("a socket can be set");
    }
    let mut buffer = [0; 16 << 10];
    let mut waiting = 0..0;
    while !cut.load(Ordering::Relaxed) {
        if held.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            continue;
        }
        let moved = if waiting.is_empty() {
            from.read(&mut buffer).map(|count| {
                waiting = 0..count;
                if let Some(seen) = &mut *seen.lock().expect("nobody died") {
                    seen.extend_from_slice(&buffer[..count]);
                }
            })
        } else {
            to.write(&buffer[waiting.clone()]).map(|count| waiting.start += count)
        };
        match moved {
            Ok(()) if waiting.end == 0 => break,
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // The other pump has the same two sockets and ends as well.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
