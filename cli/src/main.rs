//! `receptor`: a node of a mesh, by command line and configuration file.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use receptor_cli::certificates::{self, Terminal, Tool};
use receptor_cli::config::{self, Action, ConfigError, Host, v2};
use receptor_cli::{VERSION, check, demo, help, node, run};
use receptor_host::runner::{self, RUNNER_ARGUMENT};

#[cfg(not(any(feature = "tokio", feature = "smol")))]
compile_error!("choose a runtime: feature `tokio` (the default) or `smol`");

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args
        .next()
        .unwrap_or_else(|| "receptor".into())
        .to_string_lossy()
        .into_owned();
    let mut args = args.peekable();
    // Words before the classic grammar, which refuses a value that belongs to no entity. The runner's arguments need
    // not be UTF-8.
    if args.next_if(|word| word == RUNNER_ARGUMENT).is_some() {
        return runner::main(args);
    }
    if args.next_if(|word| word == "demo").is_some() {
        return demo::run();
    }
    if args.next_if(|word| word == "check").is_some() {
        return check::main(args);
    }
    let args = match texts(args) {
        Ok(args) => args,
        Err(error) => return fail(&error),
    };
    if args.iter().any(|arg| arg == v2::SWITCH) {
        print(&format!("{}\n", v2::GREETING));
    }
    match config::load(&args, &Host::current()) {
        Ok(Action::HelpOfSections) => print(v2::HELP),
        Ok(Action::Sections(sections)) => sections_of(&program, args, *sections),
        Ok(Action::Help) => print(&help::help(&program)),
        Ok(Action::Completion) => print(&help::bash_completion()),
        Ok(Action::Version) => print(&format!("{VERSION}\n")),
        Ok(Action::Certificate(tool)) => certificate(&tool),
        Ok(Action::Run(config)) => run::run(&program, args, *config, node::run),
        Err(error) => fail(&error),
    }
}

fn texts(args: impl Iterator<Item = OsString>) -> Result<Vec<String>, ConfigError> {
    let not_text = |arg| ConfigError::new(format!("argument {arg:?} is not UTF-8"));
    args.map(OsString::into_string)
        .collect::<Result<_, _>>()
        .map_err(not_text)
}

/// Certificate tools first, then the node, if anything makes one.
fn sections_of(program: &str, args: Vec<String>, sections: v2::Sections) -> ExitCode {
    print(&format!("Using config file: {}\n", sections.file));
    for tool in &sections.tools {
        if certificate(tool) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    match sections.node.map(v2::Later::build) {
        Some(Ok(config)) => run::run(program, args, config, node::run),
        Some(Err(error)) => fail(&error),
        None => print("empty receptor config, skipping...\n"),
    }
}

fn certificate(tool: &Tool) -> ExitCode {
    let mut terminal = Terminal {
        input: &mut std::io::stdin().lock(),
        output: &mut std::io::stdout(),
    };
    match certificates::run(tool, jiff::Timestamp::now(), &mut terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    print(&format!("Error: {error}\n"));
    ExitCode::FAILURE
}

/// Writes to stdout, where even errors go in the classic node. A reader that went away is nobody's failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
