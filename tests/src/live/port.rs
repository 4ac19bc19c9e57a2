//! Ports for listeners.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// A TCP port of 127.0.0.1 that was free just now and is given out once per process.
///
/// Taken at random below the range from which the kernel takes the local ports of outgoing connections: those would
/// otherwise occupy the port of a killed daemon before its restart, or dial themselves.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for attempt in 0..10_000_u32 {
        let chance = RandomState::new().hash_one(attempt);
        let port = 12_000 + u16::try_from(chance % 20_000).expect("below 20,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && GIVEN.lock().expect("no holder panics").insert(port)
        {
            return port;
        }
    }
    panic!("no free port between 12000 and 32000");
}
