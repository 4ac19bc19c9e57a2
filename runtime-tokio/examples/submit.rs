//! A unit of work submitted from Rust: the client of the control service that every node has, over the mesh.
//!
//! One node offers the work type `shout`; this program asks it to do some, and prints the output. The program is its own
//! unit runner: units outlive the node that started them, in a process of their own.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use receptor_core::id::ServiceName;
use receptor_host::runner::{self, RUNNER_ARGUMENT, RunnerProgram};
use receptor_tokio::config::{Backend, BackendKind, ControlService, WorkKind, WorkType};
use receptor_tokio::{Config, Mesh, MeshStream, Options};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// Where the units are submitted to; another node's ID works the same.
const NODE: &str = "worker";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|word| word == RUNNER_ARGUMENT).is_some() {
        return runner::main(args);
    }
    match submit() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn submit() -> Result<(), Box<dyn Error>> {
    let data_dir = std::env::temp_dir().join(format!("receptor-submit-{}", std::process::id()));
    let mesh = start(data_dir.clone()).await?;

    let (mut control, created) = command(&mesh, &format!("work submit {NODE} shout")).await?;
    // "Work unit created with ID UNIT. Send stdin data and EOF."
    let unit = created
        .split(['.', ' '])
        .nth(5)
        .ok_or_else(|| created.clone())?
        .to_owned();
    control.write_all(b"is anybody there?\n").await?;
    control.shutdown().await?;
    let mut answer = String::new();
    control.read_to_string(&mut answer).await?;
    println!("submitted: {}", answer.trim());

    // The output as it comes, to the end of the unit.
    let (mut control, header) = command(&mesh, &format!("work results {unit}")).await?;
    let mut output = String::new();
    control.read_to_string(&mut output).await?;
    println!("{header}: {}", output.trim());

    let (_, released) = command(&mesh, &format!("work release {unit}")).await?;
    println!("{released}");
    mesh.shutdown().await;
    std::fs::remove_dir_all(data_dir)?;
    Ok(())
}

async fn start(data_dir: PathBuf) -> Result<Mesh, Box<dyn Error>> {
    let mut config = Config::new(NODE.into());
    config.backends = vec![Backend::new(BackendKind::LocalOnly)];
    config.control_services = vec![ControlService {
        service: Some(ServiceName::CONTROL),
        ..ControlService::default()
    }];
    let shout = WorkKind::Command {
        command: "tr".to_owned(),
        params: "a-z A-Z".to_owned(),
        allow_runtime_params: false,
    };
    config.work_types = vec![WorkType::new("shout", shout)];
    let mut options = Options::default();
    options.data_dir = Some(data_dir);
    options.runner = Some(RunnerProgram::default());
    Ok(Mesh::start(config, options).await?)
}

/// Opens a session of the own node's control service, gives one command, and reads the first line of the answer.
async fn command(mesh: &Mesh, line: &str) -> Result<(BufReader<MeshStream>, String), Box<dyn Error>> {
    let mut session = BufReader::new(mesh.dial("localhost", "control").await?);
    let mut answer = String::new();
    session.read_line(&mut answer).await?;
    session.write_all(format!("{line}\n").as_bytes()).await?;
    answer.clear();
    session.read_line(&mut answer).await?;
    match answer.strip_prefix("ERROR: ") {
        Some(error) => Err(error.trim().into()),
        None => Ok((session, answer.trim().to_owned())),
    }
}
