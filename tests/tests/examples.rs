//! Every example of the libraries is a program that ends in time and says what it should.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// None of them takes a second on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(120);

/// Builds one example, in the profile and target directory of this test.
fn build(package: &str, example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile_dir = test.ancestors().nth(2).expect("two levels below");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", package, "--example", example])
        .args(["--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().expect("a profile is in it"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "building {example}: {status}");
    profile_dir.join("examples").join(example)
}

/// Runs one example; what it said.
fn run(package: &str, example: &str) -> String {
    let mut child = Command::new(build(package, example))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an example can be started");
    let started = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child has a status") {
            Some(status) => break status,
            None if started.elapsed() > LIMIT => {
                child.kill().expect("a child can be killed");
                panic!("{example} has not ended within {LIMIT:?}");
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut said = String::new();
    let mut pipe = child.stdout.take().expect("a pipe was asked for");
    pipe.read_to_string(&mut said).expect("text");
    assert!(status.success(), "{example}: {status}; it said: {said}");
    said
}

#[test]
fn plain_loop() {
    let said = run("receptor-core", "plain_loop");
    assert!(said.contains("alpha: beta answered in "), "{said}");
    assert!(said.contains("beta: alpha answered in "), "{said}");
}

#[test]
fn chat() {
    let said = run("receptor-core", "chat");
    assert!(said.contains("ann: hello bob, and bye\n"), "{said}");
    assert!(said.contains("bob: hello ann, and bye\n"), "{said}");
}

#[test]
fn simulation() {
    let said = run("receptor-core", "simulation");
    assert_eq!(said.matches("beta answered in 100ms\n").count(), 29, "{said}");
    assert!(
        said.lines().last().unwrap_or_default().starts_with("29 pongs"),
        "{said}"
    );
    assert_eq!(said, run("receptor-core", "simulation"), "two runs differ");
}

#[test]
fn tokio_service() {
    assert_eq!(run("receptor-tokio", "service"), "IS ANYBODY THERE?\n");
}

#[test]
fn tokio_submit() {
    let said = run("receptor-tokio", "submit");
    assert!(said.contains("IS ANYBODY THERE?"), "{said}");
    assert!(said.contains("released"), "{said}");
}
