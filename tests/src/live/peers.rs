//! The real peers and clients, fetched once into the target directory.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::binary::{target_dir, workspace};
use super::skipped;

/// The Go node, or `None` with a line on the terminal when it cannot be had here.
pub fn go_node() -> Option<&'static Path> {
    static NODE: OnceLock<Option<PathBuf>> = OnceLock::new();
    NODE.get_or_init(|| fetch("fetch-go-node", "go-node", "usr/bin/receptor"))
        .as_deref()
}

/// The `bin` directory with the real Python client, or `None` with a line on the terminal when it cannot be had here.
pub fn python_client() -> Option<&'static Path> {
    static CLIENT: OnceLock<Option<PathBuf>> = OnceLock::new();
    CLIENT
        .get_or_init(|| fetch("fetch-python-client", "python-client", "bin"))
        .as_deref()
}

/// A Python interpreter that has aioquic, or `None` with a line on the terminal when it cannot be had here.
pub fn aioquic() -> Option<PathBuf> {
    fetch("fetch-aioquic", "aioquic", "bin/python")
}

/// The `bin` directory with ansible-runner and ansible, or `None` with a line on the terminal when they cannot be had here.
pub fn ansible_runner() -> Option<PathBuf> {
    fetch("fetch-ansible-runner", "ansible-runner", "bin")
}

/// A script of `tests/peers`.
pub fn script(name: &str) -> PathBuf {
    workspace().join("tests/peers").join(name)
}

fn fetch(name: &str, into: &str, result: &str) -> Option<PathBuf> {
    let peers = target_dir().join("peers");
    fs::create_dir_all(&peers).expect("the target directory can be written");
    let dir = peers.join(into);
    // Test binaries may run at the same time.
    let lock = File::create(peers.join(format!("{into}.lock"))).expect("the target directory can be written");
    lock.lock().expect("files there can be locked");
    let output = Command::new(script(name)).arg(&dir).output();
    let output = output.expect("the scripts can be started");
    if output.status.success() {
        return Some(dir.join(result));
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let why = format!(
        "{name}: {}: {}",
        output.status,
        complaint.lines().last().unwrap_or_default()
    );
    assert!(
        env::var_os("RECEPTOR_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "RECEPTOR_REQUIRE_PEERS=1: {why}"
    );
    skipped(&why);
    None
}
