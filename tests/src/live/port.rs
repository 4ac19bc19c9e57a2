//! Ports for listeners.

/// A TCP port of 127.0.0.1 that was free just now and is given out once per process.
pub fn free_port() -> u16 {
    receptor_host::tcp::free_loopback_port().expect("there are free ports")
}
