//! The demo's daemons: this very program, started once per node.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::client::Client;

/// One daemon and how it is started.
pub(super) struct Daemon {
    pub(super) name: &'static str,
    args: Vec<String>,
    child: Option<Child>,
}

/// Daemons on loopback, with all their files in one temporary directory.
pub(super) struct Mesh {
    dir: TempDir,
    daemons: Vec<Daemon>,
}

impl Mesh {
    pub(super) fn new() -> Result<Self> {
        // Short, because the path of a socket is limited to 108 bytes.
        let dir = tempfile::Builder::new()
            .prefix("receptor-demo-")
            .tempdir()
            .context("temporary directory")?;
        Ok(Self {
            dir,
            daemons: Vec::new(),
        })
    }

    /// Starts a node. `listen` and `peers` are ports on loopback, `work` pairs of work type and shell command.
    pub(super) fn start(
        &mut self,
        name: &'static str,
        listen: Option<u16>,
        peers: &[u16],
        work: &[(&str, &str)],
    ) -> Result<()> {
        let mut args: Vec<String> = Vec::new();
        let mut entity = |name: &str, params: &[String]| {
            args.push(format!("--{name}"));
            args.extend_from_slice(params);
        };
        let data = self.dir.path().join("data");
        entity("node", &[format!("id={name}"), format!("datadir={}", data.display())]);
        entity("log-level", &["level=info".into()]);
        entity(
            "control-service",
            &[format!("filename={}", self.socket(name).display())],
        );
        if let Some(port) = listen {
            entity("tcp-listener", &["bindaddr=127.0.0.1".into(), format!("port={port}")]);
        }
        for port in peers {
            entity("tcp-peer", &[format!("address=127.0.0.1:{port}")]);
        }
        for (work_type, command) in work {
            let params = format!("-c '{command}'");
            entity(
                "work-command",
                &[
                    format!("worktype={work_type}"),
                    "command=sh".into(),
                    format!("params={params}"),
                ],
            );
        }
        self.daemons.push(Daemon {
            name,
            args,
            child: None,
        });
        self.revive(name)
    }

    /// Starts a node that is not running.
    pub(super) fn revive(&mut self, name: &str) -> Result<()> {
        let log = self.log(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let program = std::env::current_exe().context("find this program")?;
        let daemon = self.daemon(name)?;
        let child = Command::new(program)
            .args(&daemon.args)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()
            .with_context(|| format!("start node {name}"))?;
        daemon.child = Some(child);
        Ok(())
    }

    /// Kills a node with SIGKILL.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        let mut child = self
            .daemon(name)?
            .child
            .take()
            .with_context(|| format!("node {name} is not running"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits until every node has a route to every other; an error after a minute.
    pub(super) fn wait_for_routes(&self) -> Result<Duration> {
        let start = Instant::now();
        let whole = |daemon: &Daemon| {
            Client::command(
                &self.socket(daemon.name),
                r#"{"command":"status","requested_fields":["RoutingTable"]}"#,
            )
            .ok()
            .and_then(|status| status["RoutingTable"].as_object().map(|table| table.len()))
                == Some(self.daemons.len() - 1)
        };
        while !self.daemons.iter().all(whole) {
            if start.elapsed() > Duration::from_secs(60) {
                bail!("no routes after a minute; logs are in {}", self.dir.path().display());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(start.elapsed())
    }

    /// The control socket of a node.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sock"))
    }

    /// Where everything is.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the files, for looking into a failure.
    pub(super) fn keep_files(&mut self) {
        self.dir.disable_cleanup(true);
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        self.daemons
            .iter_mut()
            .find(|d| d.name == name)
            .with_context(|| format!("no node {name}"))
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for child in self.daemons.iter_mut().filter_map(|daemon| daemon.child.as_mut()) {
            // An error means that it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
