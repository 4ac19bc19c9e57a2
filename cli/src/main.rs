//! `receptor`: a node of a mesh, by command line and configuration file.

use std::io::Write as _;
use std::process::ExitCode;

use receptor_cli::config::{self, Action, ConfigError, Host};
use receptor_cli::{VERSION, help, run};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args
        .next()
        .map_or_else(|| "receptor".into(), |name| name.to_string_lossy().into_owned());
    let args: Result<Vec<String>, _> = args.map(std::ffi::OsString::into_string).collect();
    // Words before the classic grammar, which refuses a value that belongs to no entity.
    match args.as_deref().ok().and_then(|args| args.first()).map(String::as_str) {
        Some("demo") => return unsupported("demo"),
        Some("unit-runner") => return unsupported("unit-runner"),
        _ => {}
    }
    let action = match args {
        Ok(args) => config::load(&args, &Host::current()),
        Err(arg) => Err(ConfigError::new(format!("argument {arg:?} is not UTF-8"))),
    };
    match action {
        Ok(Action::Help) => print(&help::help(&program)),
        Ok(Action::Completion) => print(&help::bash_completion()),
        Ok(Action::Version) => print(&format!("{VERSION}\n")),
        Ok(Action::Run(config)) => run::run(&program, *config, |_, _| unsupported("running a node")),
        Err(error) => fail(&error),
    }
}

fn unsupported(name: &str) -> ExitCode {
    fail(&ConfigError::unsupported(name))
}

fn fail(error: &ConfigError) -> ExitCode {
    print(&format!("Error: {error}\n"));
    ExitCode::FAILURE
}

/// Writes to stdout, where even errors go in the classic node. A reader that went away is nobody's failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
