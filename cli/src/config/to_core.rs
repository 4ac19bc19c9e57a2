//! What of the configuration the core needs to know.

use receptor_core::config::{Backend as CoreBackend, Config as CoreConfig, WorkKind, WorkType};

use receptor_host::machine;

use super::typed::{Backend, Config, WorkerKind};

/// Facts about the machine that `status` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Logical CPUs.
    pub cpu_count: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Machine {
    /// The machine this program runs on.
    pub fn current() -> Self {
        Self {
            cpu_count: machine::cpu_count() as u64,
            memory_mib: machine::memory_mib(),
        }
    }
}

impl Config {
    /// The configuration of the core. Backends, control services and work types keep their order, so that an index
    /// means the same on both sides.
    pub fn to_core(&self, machine: Machine) -> CoreConfig {
        let mut core = CoreConfig::new(self.node.id.clone());
        core.version = crate::VERSION.into();
        core.cpu_count = machine.cpu_count;
        core.memory_mib = machine.memory_mib;
        core.idle_timeout = self.node.idle_timeout;
        core.strict = self.node.strict;
        core.proxies = self.proxies.clone();
        core.firewall = self.node.firewall.clone();
        core.backends = self.backends.iter().map(backend).collect();
        core.control_services = self.control_services.clone();
        core.services = self.services.clone();
        core.work_types = self
            .workers
            .iter()
            .map(|worker| WorkType {
                verify_signature: worker.verify_signature,
                ..WorkType::new(&*worker.work_type, work_kind(&worker.kind))
            })
            .collect();
        core.work_limits = self.work_limits.clone();
        core.work_keys = self.work_keys.clone();
        core
    }
}

fn backend(backend: &Backend) -> CoreBackend {
    let Backend { kind, links } = backend;
    CoreBackend {
        kind: kind.clone(),
        cost: links.cost,
        node_costs: links.node_costs.clone(),
        allowed_peers: links.allowed_peers.clone(),
    }
}

fn work_kind(kind: &WorkerKind) -> WorkKind {
    match kind {
        WorkerKind::Command {
            command,
            params,
            allow_runtime_params,
        } => WorkKind::Command {
            command: command.clone(),
            params: params.clone(),
            allow_runtime_params: *allow_runtime_params,
        },
        WorkerKind::Unavailable { reason } => WorkKind::Unavailable { reason: reason.clone() },
    }
}
