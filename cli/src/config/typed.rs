//! A checked configuration as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use receptor_core::config::{BackendKind, ControlService, ProxySettings, Service, WorkKeys, WorkLimits};
use receptor_core::firewall::Rules;
use receptor_core::id::NodeId;
use receptor_host::tls_files::TlsFiles;

use crate::logging::Level;

/// A configuration that passed every check that needs no network.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity and settings.
    pub node: Node,
    /// How much is logged.
    pub log_level: Level,
    /// Whether packets are logged.
    pub trace: bool,
    /// Listeners, peers and `local-only`, in order.
    pub backends: Vec<Backend>,
    /// Control services, in order.
    pub control_services: Vec<ControlService>,
    /// Proxies between local sockets and the mesh, in order.
    pub services: Vec<Service>,
    /// Work types, in order.
    pub workers: Vec<Worker>,
    /// Keys of signed work, whose files are not read yet.
    pub work_keys: WorkKeys,
    /// Limits of units.
    pub work_limits: WorkLimits,
    /// TLS configs, whose files are not read yet.
    pub tls: TlsFiles,
    /// HTTP proxies on the way to WebSocket peers.
    pub proxies: ProxySettings,
    /// What the user should know; to be logged once the node starts.
    pub warnings: Vec<String>,
    /// The file that `reload` would read.
    pub config_file: Option<PathBuf>,
}

/// `node`.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Node ID.
    pub id: NodeId,
    /// Where the node's directory is made, which is called by its ID; not created yet.
    pub data_dir: PathBuf,
    /// A connection without received traffic for longer is dropped.
    pub idle_timeout: Duration,
    /// A connection whose certificate names no node is refused.
    pub strict: bool,
    /// Which data messages pass.
    pub firewall: Rules,
}

/// What makes links, or stands for their absence: `tcp-listener`, `tcp-peer` and so on, and `local-only`.
#[derive(Clone, PartialEq, Debug)]
pub struct Backend {
    /// What it is.
    pub kind: BackendKind,
    /// Cost and admission.
    pub links: Links,
}

/// What all backends have in common.
#[derive(Clone, PartialEq, Debug)]
pub struct Links {
    /// Cost of a link; positive and finite.
    pub cost: f64,
    /// Costs for certain peers; positive and finite.
    pub node_costs: BTreeMap<NodeId, f64>,
    /// Who may connect; `None` is everybody.
    pub allowed_peers: Option<BTreeSet<NodeId>>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            cost: 1.0,
            node_costs: BTreeMap::new(),
            allowed_peers: None,
        }
    }
}

/// A work type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Worker {
    /// Its name, unique.
    pub work_type: String,
    /// What runs.
    pub kind: WorkerKind,
    /// Whether requests about it must be signed.
    pub verify_signature: bool,
}

/// Kinds of work type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkerKind {
    /// `work-command`.
    Command {
        /// The program.
        command: String,
        /// Its parameters, not split yet.
        params: String,
        /// Whether a submitter may append parameters.
        allow_runtime_params: bool,
    },
    /// Configured, but of a kind this program cannot run: not advertised, submissions are refused with the reason.
    Unavailable {
        /// Why, e.g. `work-kubernetes is not supported yet`.
        reason: String,
    },
}

/// What a configuration takes from the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Host name, the default node ID.
    pub name: String,
    /// Directory for temporary files, used when `datadir` is set to nothing.
    pub temp_dir: PathBuf,
    /// HTTP proxies, by the environment.
    pub proxies: ProxySettings,
}

impl Host {
    /// The machine this program runs on.
    pub fn current() -> Self {
        Self {
            name: receptor_host::machine::hostname(),
            temp_dir: std::env::temp_dir(),
            proxies: proxies(|name| std::env::var(name).ok()),
        }
    }
}

/// What Go's standard library reads: capitals first. A program that serves CGI takes no proxy from there, because any client
/// could set it with a header `Proxy`.
pub(super) fn proxies(variable: impl Fn(&str) -> Option<String>) -> ProxySettings {
    let either = |name: &str| {
        let text = variable(name).filter(|text| !text.is_empty());
        text.or_else(|| variable(&name.to_ascii_lowercase()))
            .unwrap_or_default()
    };
    let is_cgi = variable("REQUEST_METHOD").is_some_and(|method| !method.is_empty());
    ProxySettings {
        http: if is_cgi { String::new() } else { either("HTTP_PROXY") },
        https: either("HTTPS_PROXY"),
        exceptions: either("NO_PROXY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_from_the_environment() {
        let set = |pairs: &'static [(&str, &str)]| {
            proxies(move |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
        };
        let found = set(&[
            ("http_proxy", "a"),
            ("HTTPS_PROXY", "b"),
            ("https_proxy", "c"),
            ("no_proxy", "d"),
        ]);
        assert_eq!((&*found.http, &*found.https, &*found.exceptions), ("a", "b", "d"));
        assert_eq!(
            set(&[("HTTP_PROXY", "a"), ("REQUEST_METHOD", "GET")]),
            ProxySettings::default()
        );
    }
}
