//! `reload`: the command line and the files are read again (`config.md` §8).
//!
//! Backends, TLS configs, work types, firewall rules and the log level change while the node runs. What is said of it to the rest of the mesh
//! or of the machine does not: the node's name, its directory, control services and proxies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use receptor_core::config::Service;
use receptor_core::node::io::{ReloadCode, ReloadError};
use receptor_host::adapter::{ConfigSource, FreshConfig};

use crate::config::to_core::Machine;
use crate::config::v2::{self, Later};
use crate::config::{self, Action, Config, Host};
use crate::expiry::ExpiryWatch;
use crate::logging::LevelControl;
use crate::tls_watch::TlsWatch;

/// Where the running node's configuration came from.
#[derive(Debug)]
pub struct Source {
    file: PathBuf,
    args: Vec<String>,
    host: Host,
    running: Fixed,
    level: LevelControl,
    watch: Option<Arc<TlsWatch>>,
    expiry: Option<Arc<ExpiryWatch>>,
}

impl Source {
    /// Of a node that was started with these arguments and this configuration. `None` if no file was named: nothing could have
    /// changed.
    pub fn new(args: Vec<String>, host: Host, config: &Config, level: LevelControl) -> Option<Self> {
        let file = config.config_file.clone()?;
        Some(Self {
            file,
            args,
            host,
            running: Fixed::of(config),
            level,
            watch: None,
            expiry: None,
        })
    }

    /// Has a watch follow the TLS configs that are read.
    pub fn set_watch(&mut self, watch: Arc<TlsWatch>) {
        self.watch = Some(watch);
    }

    /// Has the daily look at certificates follow, too.
    pub fn set_expiry(&mut self, expiry: Arc<ExpiryWatch>) {
        self.expiry = Some(expiry);
    }

    /// The file that is to be watched, since it says by itself when it has changed: of dialect 2 (`config.md` §9).
    pub fn watched_file(&self) -> Option<&Path> {
        let is_watched = self.args.iter().any(|arg| arg == v2::SWITCH);
        Some(&*self.file).filter(|_| is_watched)
    }

    fn load(&self) -> Result<Config, ReloadError> {
        match config::load(&self.args, &self.host) {
            Ok(Action::Run(config)) => Ok(*config),
            Ok(Action::Sections(sections)) => match sections.node.map(Later::build) {
                Some(Ok(config)) => Ok(config),
                Some(Err(error)) => Err(failed(&error.to_string())),
                None => Err(failed("the configuration does not describe a node any more")),
            },
            Ok(_) => Err(failed("the configuration does not describe a node any more")),
            Err(error) => Err(failed(&error.to_string())),
        }
    }
}

impl ConfigSource for Source {
    fn read(&self) -> Result<FreshConfig, ReloadError> {
        let config = self.load()?;
        self.running.check(&Fixed::of(&config))?;
        let mut fresh = FreshConfig::new(config.to_core(Machine::current()).reloadable());
        let tls = config.tls.load(&config.node.id).map_err(|error| failed(&error))?;
        let certificates = tls.warnings().to_vec();
        fresh.tls = Some(tls);
        let (level, watch, expiry) = (self.level.clone(), self.watch.clone(), self.expiry.clone());
        fresh.applied = Some(Box::new(move || {
            level.set(config.log_level, config.trace);
            for warning in config.warnings.iter().chain(&certificates) {
                tracing::warn!("{warning}");
            }
            if let Some(expiry) = expiry {
                expiry.set(&config.tls);
            }
            if let Some(watch) = watch {
                watch.set(config.tls);
            }
        }));
        Ok(fresh)
    }
}

fn failed(text: &str) -> ReloadError {
    ReloadError {
        text: text.to_owned(),
        code: ReloadCode::Failed,
    }
}

/// What cannot change while the node runs: entities, each with all it says. Order and repetition do not matter.
#[derive(PartialEq, Eq, Debug)]
struct Fixed(BTreeSet<(&'static str, String)>);

impl Fixed {
    fn of(config: &Config) -> Self {
        // Taken apart, so that what is added to it is thought of here.
        let config::Node {
            id,
            data_dir,
            idle_timeout,
            strict,
            firewall: _,
        } = &config.node;
        let mut items = BTreeSet::from([("node", format!("{id} {data_dir:?} {idle_timeout:?} {strict}"))]);
        let control = config.control_services.iter();
        items.extend(control.map(|service| ("control-service", format!("{service:?}"))));
        let services = config.services.iter();
        items.extend(services.map(|service| (entity(service), format!("{service:?}"))));
        Self(items)
    }

    fn check(&self, new: &Self) -> Result<(), ReloadError> {
        let (name, what) = if let Some((name, _)) = new.0.difference(&self.0).next() {
            (
                name,
                "was modified or added. Must restart receptor for these changes to take effect",
            )
        } else if let Some((name, _)) = self.0.difference(&new.0).next() {
            (name, "was removed. Must restart receptor for changes to take effect")
        } else {
            return Ok(());
        };
        Err(ReloadError {
            text: format!("a non-reloadable config action '{name}' {what}"),
            code: ReloadCode::NotReloadable,
        })
    }
}

fn entity(service: &Service) -> &'static str {
    match service {
        Service::TcpServer { .. } => "tcp-server",
        Service::TcpClient { .. } => "tcp-client",
        Service::UnixSocketServer { .. } => "unix-socket-server",
        Service::UnixSocketClient { .. } => "unix-socket-client",
        _ => "service",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::Level;
    use std::fs;

    const FILE: &str = "
- node: {id: a}
- log-level: info
- tcp-listener: {port: 2000}
- tcp-peer: {address: 'b:1'}
- control-service: {filename: a.sock}
- tcp-server: {port: 8000, remotenode: b, remoteservice: web}
- work-command: {worktype: cat, command: cat}
";

    struct Rig {
        source: Source,
        file: PathBuf,
        _dir: tempfile::TempDir,
    }

    fn host() -> Host {
        Host {
            name: "host".into(),
            temp_dir: "/tmp".into(),
            proxies: Default::default(),
        }
    }

    fn args(file: &Path) -> Vec<String> {
        vec!["--config".into(), file.to_str().unwrap().into()]
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("receptor.conf");
        fs::write(&file, FILE).unwrap();
        let Ok(Action::Run(config)) = config::load(&args(&file), &host()) else {
            panic!("the file is good");
        };
        let level = LevelControl::new(Level::Info, false);
        Rig {
            source: Source::new(args(&file), host(), &config, level).unwrap(),
            file,
            _dir: dir,
        }
    }

    impl Rig {
        fn read(&self, change: (&str, &str)) -> Result<FreshConfig, ReloadError> {
            assert!(change.0.is_empty() || FILE.contains(change.0));
            fs::write(&self.file, FILE.replacen(change.0, change.1, 1)).unwrap();
            self.source.read()
        }

        fn refusal(&self, from: &str, to: &str) -> (ReloadCode, String) {
            let error = self.read((from, to)).unwrap_err();
            (error.code, error.text)
        }
    }

    #[test]
    fn what_can_change_is_read_again() {
        let rig = rig();
        assert_eq!(rig.read(("port: 2000", "port: 2001")).unwrap().node.backends.len(), 2);
        assert_eq!(
            rig.read(("- tcp-peer: {address: 'b:1'}", ""))
                .unwrap()
                .node
                .backends
                .len(),
            1
        );
        let types = rig.read(("worktype: cat", "worktype: dog")).unwrap().node.work_types;
        assert_eq!(types[0].name, "dog");
        let rules = rig
            .read(("{id: a}", "{id: a, firewallrules: [{action: drop}]}"))
            .unwrap();
        assert_ne!(rules.node.firewall, Default::default());
    }

    #[test]
    fn the_log_level_changes_only_when_the_node_has_the_rest() {
        let rig = rig();
        let fresh = rig.read(("log-level: info", "log-level: debug")).unwrap();
        assert!(!rig.source.level.wants(tracing::Level::DEBUG));
        fresh.applied.unwrap()();
        assert!(rig.source.level.wants(tracing::Level::DEBUG));
    }

    #[test]
    fn what_cannot_change_is_refused_by_its_name() {
        let rig = rig();
        let changed = |name: &str| {
            let text = format!(
                "a non-reloadable config action '{name}' was modified or added. Must restart receptor for these changes to take effect"
            );
            (ReloadCode::NotReloadable, text)
        };
        assert_eq!(rig.refusal("{id: a}", "{id: a, datadir: /else}"), changed("node"));
        assert_eq!(rig.refusal("a.sock", "b.sock"), changed("control-service"));
        assert_eq!(rig.refusal("port: 8000", "port: 8001"), changed("tcp-server"));
        let added = "- tcp-client: {service: x, address: 'c:1'}\n- log-level";
        assert_eq!(rig.refusal("- log-level", added), changed("tcp-client"));
        let server = "- tcp-server: {port: 8000, remotenode: b, remoteservice: web}\n";
        let (code, text) = rig.refusal(server, "");
        assert_eq!(code, ReloadCode::NotReloadable);
        assert_eq!(
            text,
            "a non-reloadable config action 'tcp-server' was removed. Must restart receptor for changes to take effect"
        );
    }

    #[test]
    fn order_quoting_and_repetition_do_not_matter() {
        let rig = rig();
        let server = "- tcp-server: {port: 8000, remotenode: b, remoteservice: web}\n";
        let again = "- tcp-server: {remoteservice: 'web', remotenode: \"b\", port: '8000'}\n";
        fs::write(&rig.file, format!("{again}{}", FILE.replace(server, again))).unwrap();
        rig.source.read().unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_an_error_of_the_other_kind() {
        let rig = rig();
        let (code, text) = rig.refusal("port: 2000", "port: x");
        assert_eq!(code, ReloadCode::Failed);
        assert!(text.contains("port"), "{text}");
        fs::remove_file(&rig.file).unwrap();
        let error = rig.source.read().unwrap_err();
        assert_eq!(error.code, ReloadCode::Failed);
        assert!(
            error.text.starts_with("error loading config file: open "),
            "{}",
            error.text
        );
        // And it is fine again.
        rig.read(("", "")).unwrap();
    }

    #[test]
    fn without_a_file_there_is_nothing_to_read() {
        let args: Vec<String> = ["--node", "id=a", "--local-only"].map(String::from).into();
        let Ok(Action::Run(config)) = config::load(&args, &host()) else {
            panic!("the arguments are good");
        };
        let level = LevelControl::new(Level::Info, false);
        assert!(Source::new(args, host(), &config, level).is_none());
    }
}
