//! `receptor check`: what would go wrong, before the node is started.
//!
//! Looks at a configuration as the node would, and at what it names on this machine: certificates, keys, files, addresses,
//! directories, programs, and whether peers can be reached. It changes nothing and opens nothing for longer than a moment.

mod addresses;
mod files;
mod finding;
mod peers;
mod tls;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;

pub use finding::{Finding, Severity};

use crate::config::{self, Action, Config, Host};

/// The help.
pub const HELP: &str = "\
Usage: receptor check [--json] [--offline] [configuration as without check]

   --json: One JSON object per finding
   --offline: Do not connect to peers

Exit code 1 if there is an error among the findings, else 0.
";

/// How a check is made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Options {
    json: bool,
    offline: bool,
}

/// Runs `receptor check` with the arguments behind that word.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut options = Options::default();
    let mut args = args.peekable();
    loop {
        match args.peek().and_then(|arg| arg.to_str()) {
            Some("--json") => options.json = true,
            Some("--offline") => options.offline = true,
            _ => break,
        }
        args.next();
    }
    let args: Result<Vec<String>, _> = args.map(OsString::into_string).collect();
    let findings = match args {
        Ok(args) if args.is_empty() || matches!(args[0].as_str(), "--help" | "-h") => return print(HELP),
        Ok(args) => check(&args, &Host::current(), options, Timestamp::now()),
        Err(arg) => vec![Finding::error("command line", format!("argument {arg:?} is not UTF-8"))],
    };
    let mut text = String::new();
    for finding in &findings {
        text += &if options.json {
            finding.to_json()
        } else {
            finding.to_string()
        };
        text.push('\n');
    }
    print(&text);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A reader that went away is nobody's failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Everything there is to say of a configuration.
fn check(args: &[String], host: &Host, options: Options, now: Timestamp) -> Vec<Finding> {
    const SUBJECT: &str = "configuration";
    let config = match config::load(args, host) {
        Ok(Action::Run(config)) => Ok(*config),
        Ok(Action::Sections(sections)) => match sections.node {
            Some(node) => node.build(),
            None => return vec![Finding::ok(SUBJECT, "there is no node in it")],
        },
        Ok(_) => return vec![Finding::ok(SUBJECT, "there is no node in it")],
        Err(error) => Err(error),
    };
    match config {
        Ok(config) => check_node(&config, options, now),
        Err(error) => vec![Finding::error(SUBJECT, error.to_string())],
    }
}

fn check_node(config: &Config, options: Options, now: Timestamp) -> Vec<Finding> {
    let id = config.node.id.as_str();
    let mut findings = vec![Finding::ok("configuration", format!("node {id}"))];
    findings.extend(
        config
            .warnings
            .iter()
            .map(|text| Finding::warning("configuration", text)),
    );
    if config.backends.is_empty() {
        let text = "no listener, no peer and no local-only: the program would end at once";
        findings.push(Finding::error("configuration", text));
    }
    if id.contains(':') {
        let text = format!("node ID {id}: classic nodes do not find a name with : in client certificates");
        findings.push(Finding::warning("node", text));
    }
    firewall(config, &mut findings);
    tls::check(config, now, &mut findings);
    files::check(config, &mut findings);
    addresses::listeners(config, &mut findings);
    if !options.offline {
        peers::peers(config, &mut findings);
    }
    findings
}

fn firewall(config: &Config, findings: &mut Vec<Finding>) {
    let rules = config.node.firewall.as_slice();
    let has_no_condition = |rule: &receptor_core::firewall::Rule| {
        let conditions = [&rule.from_node, &rule.to_node, &rule.from_service, &rule.to_service];
        conditions.iter().all(|condition| condition.is_none())
    };
    let last = rules.len().saturating_sub(1);
    if let Some(number) = rules.iter().position(has_no_condition).filter(|number| *number < last) {
        let text = format!("rule {number} always matches, so those behind it have no effect");
        findings.push(Finding::warning("firewall", text));
    }
}
