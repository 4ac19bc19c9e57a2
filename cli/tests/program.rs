//! The program as its users see it: output and exit code.

use std::process::{Command, Output};

fn receptor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_receptor"))
        .args(args)
        .output()
        .unwrap()
}

fn check(args: &[&str], code: i32, starts: &str) {
    let output = receptor(args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.starts_with(starts), "{args:?}: {text}");
    assert!(
        output.stderr.is_empty(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_is_printed_and_how_it_ends() {
    check(&[], 0, "Usage: ");
    check(&["--help"], 0, "Usage: ");
    check(&["-h", "--bogus"], 0, "Usage: ");
    check(&["--version"], 0, concat!(env!("CARGO_PKG_VERSION"), "\n"));
    check(&["--bash-completion"], 0, "_receptor() {");
    check(&["value"], 1, "Error: parameter specified before command\n");
    check(&[""], 1, "Error: empty argument\n");
    check(
        &["--tcp-listener", "0", "cost=-1"],
        1,
        "Error: connection cost must be positive\n",
    );
    check(&["--log-level", "error", "--node", "id=a"], 1, "Run ");
}

#[test]
fn the_second_dialect_says_what_it_does() {
    const GREETING: &str = "Running v2 cli/config\n";
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let says = |args: &[&str], code: i32, text: &str| check(args, code, &format!("{GREETING}{text}"));
    let version = concat!(env!("CARGO_PKG_VERSION"), "\n");
    says(&["--version", "--config-v2"], 0, version);
    says(&["--config-v2", "--help"], 0, "Usage: ");
    says(&["--config-v2", "-c", "x"], 1, "Error: unknown flag: -c\n");
    let empty = file("empty.yaml", "version: 2\n");
    let reading = format!("Using config file: {empty}\n");
    says(
        &["--config-v2", "--config", &empty],
        0,
        &format!("{reading}empty receptor config, skipping...\n"),
    );
    let wrong = file("wrong.yml", "tcp-peer: {address: a}\n");
    says(
        &["--config", &wrong, "--config-v2"],
        1,
        &format!("Error: error loading config file: {wrong}:1: unknown section tcp-peer (did you mean tcp-peers?)\n"),
    );
    let idle = file("idle.json", r#"{"node": {"id": "a"}, "log-level": {"level": "error"}}"#);
    says(
        &["--config-v2", &format!("--config={idle}")],
        1,
        &format!("Using config file: {idle}\nRun "),
    );
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let tools = format!(
        "cert-init: {{commonname: CA, outcert: {0}/ca.crt, outkey: {0}/ca.key}}\n\
         cert-makereqs: {{commonname: a, bits: 2048, nodeid: a, outreq: {0}/a.csr, outkey: {0}/a.key}}\n\
         cert-signreqs: {{req: {0}/a.csr, cacert: {0}/ca.crt, cakey: {0}/ca.key, outcert: {0}/a.crt, verify: true}}\n",
        dir.path().display()
    );
    let tools = file("tools.yaml", &tools);
    says(
        &["--config-v2", "--config", &tools],
        0,
        &format!("Using config file: {tools}\nempty receptor config, skipping...\n"),
    );
    assert!(std::fs::exists(at("a.crt")).unwrap());
}

#[test]
fn the_unit_runner_is_in_the_program() {
    let output = receptor(&["unit-runner"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is started by the daemon"));
}

#[test]
fn arguments_that_are_not_text_are_named() {
    use std::os::unix::ffi::OsStrExt as _;
    let arg = std::ffi::OsStr::from_bytes(b"--no\xff");
    let output = Command::new(env!("CARGO_BIN_EXE_receptor")).arg(arg).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "Error: argument \"--no\\xFF\" is not UTF-8\n"
    );
}

#[test]
fn files_are_read_and_blamed_by_name_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receptor.conf");
    let name = path.to_str().unwrap();
    check(
        &["-c", name],
        1,
        &format!("Error: error loading config file: open {name}: no such file or directory\n"),
    );
    std::fs::write(&path, "---\n- trace\n- tcp-listner: '1'\n").unwrap();
    check(
        &["--config", name],
        1,
        &format!(
            "Error: error loading config file: {name}:3: could not get config type for command tcp-listner: \
             unknown config type tcp-listner (did you mean tcp-listener?)\n"
        ),
    );
}

#[test]
fn a_node_without_backends_says_so() {
    let output = receptor(&[
        "--node",
        "id=a",
        "--work-python",
        "worktype=py",
        "plugin=a",
        "function=b",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    // `WARNING 2026/03/09 07:05:01 text`
    let (level, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(level, "WARNING");
    assert_eq!(
        &rest[20..],
        "work type py is not offered: work-python is not supported yet (command line)"
    );
    assert!(
        rest[..20]
            .chars()
            .zip("0000/00/00 00:00:00 ".chars())
            .all(|(is, form)| { if form == '0' { is.is_ascii_digit() } else { is == form } })
    );
    assert!(lines[1].ends_with(" Nothing to do - no backends are running."));
    assert!(lines[2].ends_with(" --help for command line instructions."));
}
