//! The unit runner as a program of its own, for programs that embed a node and are not runners themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    receptor_host::runner::main(std::env::args_os().skip(1))
}
