//! Which daemon is tested.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `receptor` binary: `RECEPTOR_TEST_BINARY`, or the one of this workspace in the profile of this test, built first.
pub fn receptor() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || build("receptor-cli", "receptor");
    BINARY.get_or_init(|| env::var_os("RECEPTOR_TEST_BINARY").map_or_else(build, PathBuf::from))
}

/// The runner of units as a program of its own, built first.
pub fn unit_runner() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("receptor-host", "receptor-unit-runner"))
}

fn build(package: &str, binary: &str) -> PathBuf {
    let profile_dir = profile_dir();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            package,
            "--bin",
            binary,
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target_dir())
        .current_dir(workspace())
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "building {binary}: {status}");
    profile_dir.join(binary)
}

/// The root of the workspace.
pub(super) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in it")
        .to_owned()
}

/// `target`, wherever cargo put it.
pub(super) fn target_dir() -> PathBuf {
    profile_dir().parent().expect("a profile is in it").to_owned()
}

/// `target/debug` for a test in `target/debug/deps`.
fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let dir = test.ancestors().nth(2).expect("two levels below");
    dir.to_owned()
}
