//! Files, directories and programs.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use receptor_core::config::{Service, SocketFile};
use receptor_host::adapter::{check_private_key, check_public_key};
use receptor_host::error_text::os_text;

use super::Finding;
use crate::config::{Config, WorkerKind};

/// Longest path of a Unix socket, in bytes, that every client can connect to.
const SOCKET_PATH: usize = 107;

pub(super) fn check(config: &Config, findings: &mut Vec<Finding>) {
    data_dir(config, findings);
    work_keys(config, findings);
    for control in &config.control_services {
        if let Some(socket) = &control.socket {
            check_socket("control-service", socket, findings);
        }
    }
    for service in &config.services {
        match service {
            Service::UnixSocketServer { socket, .. } => check_socket("unix-socket-server", socket, findings),
            Service::UnixSocketClient { path, .. } if !Path::new(path).exists() => {
                let subject = format!("unix-socket-client {path}");
                findings.push(Finding::warning(
                    subject,
                    "nobody listens there: no such file or directory",
                ));
            }
            _ => {}
        }
    }
    for worker in &config.workers {
        if let WorkerKind::Command { command, .. } = &worker.kind {
            let subject = format!("work-command {}", worker.work_type);
            findings.push(match find_program(command) {
                Some(path) => Finding::ok(subject, path),
                None => Finding::warning(subject, format!("{command}: no such program can be executed")),
            });
        }
    }
}

/// Keys of signed work; the node reads them at each use.
fn work_keys(config: &Config, findings: &mut Vec<Finding>) {
    let keys = &config.work_keys;
    let signing = keys.signing.as_ref().map(|signing| &signing.private_key);
    let verification = keys.verification.as_ref().map(|verification| &verification.public_key);
    let checks = [
        (
            "work-signing",
            signing,
            check_private_key as fn(&str) -> Result<(), String>,
        ),
        ("work-verification", verification, check_public_key),
    ];
    for (entity, file, check) in checks {
        let Some(file) = file.filter(|file| !file.is_empty()) else {
            continue;
        };
        let subject = format!("{entity} {file}");
        findings.push(match check(file) {
            Ok(()) => Finding::ok(subject, "an RSA key"),
            Err(why) => Finding::error(subject, why),
        });
    }
}

/// The directory of the node, or the nearest one above it that exists, in which it would be made.
fn data_dir(config: &Config, findings: &mut Vec<Finding>) {
    let dir = config.node.data_dir.join(config.node.id.as_str());
    let subject = format!("data directory {}", dir.display());
    let Some(existing) = dir.ancestors().find(|dir| dir.exists()) else {
        findings.push(Finding::error(subject, "it cannot be made: nothing of its path exists"));
        return;
    };
    if let Err(why) = try_directory(existing) {
        findings.push(Finding::error(subject, format!("{}: {why}", existing.display())));
        return;
    }
    if existing == dir {
        let mode = fs::metadata(&dir).map_or(0, |known| known.permissions().mode() & 0o777);
        if mode & 0o022 != 0 {
            let text = format!("others may write there (mode {mode:04o}); 0700 is safe");
            findings.push(Finding::warning(subject, text));
            return;
        }
        findings.push(Finding::ok(subject, "can be written"));
    } else {
        findings.push(Finding::ok(subject, format!("can be made in {}", existing.display())));
    }
}

/// Whether files can be made in a directory; one is, and is gone again.
fn try_directory(dir: &Path) -> Result<(), String> {
    let known = fs::metadata(dir).map_err(|error| os_text(&error))?;
    if !known.is_dir() {
        return Err("not a directory".into());
    }
    let mut code = None;
    let open = |path: &Path| fs::File::create_new(path).inspect_err(|error| code = error.raw_os_error());
    match tempfile::Builder::new().prefix(".receptor-check-").make_in(dir, open) {
        Ok(_) => Ok(()),
        Err(error) => Err(os_text(&code.map_or(error, io::Error::from_raw_os_error))),
    }
}

fn check_socket(what: &str, socket: &SocketFile, findings: &mut Vec<Finding>) {
    let path = Path::new(&socket.path);
    let subject = format!("{what} {}", socket.path);
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut problem = None;
    if let Err(why) = try_directory(dir) {
        problem = Some(Finding::error(&subject, format!("{}: {why}", dir.display())));
    } else if fs::symlink_metadata(path).is_ok_and(|known| known.is_dir()) {
        problem = Some(Finding::error(&subject, "it is a directory"));
    }
    let is_good = problem.is_none();
    findings.extend(problem);
    let mode = socket.mode;
    let mut warn = |text: String| findings.push(Finding::warning(&subject, text));
    if mode > 0o777 || mode & 0o600 != 0o600 {
        warn(format!(
            "permissions {mode} is mode {mode:04o}: octal numbers begin with 0, such as 0660"
        ));
    } else if mode & 0o002 != 0 {
        warn(format!("everybody on this machine may connect (mode {mode:04o})"));
    } else if socket.path.len() > SOCKET_PATH {
        warn(format!(
            "the path has more than {SOCKET_PATH} bytes, so most clients cannot connect"
        ));
    } else if is_good {
        findings.push(Finding::ok(subject, format!("can be made (mode {mode:04o})")));
    }
}

/// As the system looks for it.
fn find_program(command: &str) -> Option<String> {
    let is_program = |path: &Path| {
        let known = fs::metadata(path);
        known.is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        return is_program(Path::new(command)).then(|| command.to_owned());
    }
    let dirs = env::var_os("PATH")?;
    env::split_paths(&dirs)
        .map(|dir| dir.join(command))
        .find(|path| is_program(path))
        .map(|path| path.display().to_string())
}
