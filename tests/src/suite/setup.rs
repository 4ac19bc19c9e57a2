//! Nodes for cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use receptor_core::config::{
    Backend, BackendKind, Config, ControlService, ListenerTransport, PeerTransport, Service, SocketFile, WorkKind,
    WorkType,
};
use receptor_core::id::{NodeId, ServiceName};
use receptor_host::adapter::Tls;
use receptor_host::runner::RunnerProgram;

use super::PATIENCE;
use super::adapter::{Adapter, Error, Node, Options, StartError};
use crate::live::{Control, Scratch, free_port, unit_runner, until};

/// A ping lost while routes change would be answered after ten seconds.
const PING: Duration = Duration::from_secs(1);

/// What one run of a case has.
pub struct Bench {
    near: Arc<dyn Adapter>,
    far: Arc<dyn Adapter>,
    /// A directory of its own. Processes of units end with it.
    pub scratch: Scratch,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

impl Bench {
    pub(super) fn new(near: Arc<dyn Adapter>, far: Arc<dyn Adapter>) -> Self {
        Self {
            near,
            far,
            scratch: Scratch::new(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.near.is_idle() && self.far.is_idle()
    }

    /// Starts a node on the near adapter.
    pub fn near(&self, setup: &Setup) -> Box<dyn Node> {
        setup.start(&*self.near)
    }

    /// Starts a node on the far adapter.
    pub fn far(&self, setup: &Setup) -> Box<dyn Node> {
        setup.start(&*self.far)
    }

    /// Tries to start a node on the near adapter.
    pub fn try_near(&self, setup: &Setup) -> Result<Box<dyn Node>, StartError> {
        setup.try_start(&*self.near)
    }

    /// Two nodes, `near` and `far`, that reach each other over TCP.
    pub fn pair(&self) -> (Box<dyn Node>, Box<dyn Node>) {
        let port = free_port();
        let near = self.near(&Setup::new("near").listen(port));
        let far = self.far(&Setup::new("far").peer(port));
        until_reachable(&*near, "far");
        until_reachable(&*far, "near");
        (near, far)
    }

    /// A node that runs units: `cat`; `slow`, which echoes its input and stays; `gate`, which says `begun`, waits for
    /// [`Bench::open_gate`], echoes its input and says `done`. Its control socket is at [`Bench::socket`].
    pub fn worker(&self, id: &str) -> Setup {
        let gate = self.scratch.join("gate");
        let gate = format!(
            "-c \"echo begun; until test -e {}; do sleep 0.02; done; cat; echo done\"",
            gate.display()
        );
        let mut setup = Setup::new(id).control(&self.socket(id));
        setup.options.data_dir = Some(self.scratch.join("data"));
        setup.options.runner = Some(RunnerProgram {
            path: "/usr/bin/env".into(),
            first_args: vec![self.scratch.mark().into(), unit_runner().into()],
        });
        for (name, command, params) in [
            ("cat", "cat", ""),
            ("slow", "sh", "-c \"cat; exec sleep 600\""),
            ("gate", "sh", &gate),
        ] {
            let kind = WorkKind::Command {
                command: command.to_owned(),
                params: params.to_owned(),
                allow_runtime_params: false,
            };
            setup.config.work_types.push(WorkType::new(name, kind));
        }
        setup
    }

    /// Lets units of type `gate` end.
    pub fn open_gate(&self) {
        self.scratch.write("gate", "");
    }

    /// Where a worker's control socket is.
    pub fn socket(&self, id: &str) -> PathBuf {
        self.scratch.join(&format!("{id}.sock"))
    }

    /// Directory of one of a worker's units.
    pub fn unit(&self, id: &str, unit: &str) -> PathBuf {
        self.scratch.join("data").join(id).join(unit)
    }

    /// A session with a worker's control service.
    pub fn control(&self, id: &str) -> Control {
        Control::connect(&self.socket(id)).unwrap_or_else(|error| panic!("control socket of {id}: {error}"))
    }
}

/// A node to be started, as often as one likes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its configuration.
    pub config: Config,
    /// What else it gets.
    pub options: Options,
}

impl Setup {
    /// A node without anything.
    pub fn new(id: &str) -> Self {
        Self {
            config: Config::new(NodeId::new(id)),
            options: Options::default(),
        }
    }

    /// Any backend.
    #[must_use]
    pub fn backend(mut self, kind: BackendKind) -> Self {
        self.config.backends.push(Backend {
            kind,
            cost: 1.0,
            node_costs: Default::default(),
            allowed_peers: None,
        });
        self
    }

    /// A TCP listener on loopback.
    #[must_use]
    pub fn listen(self, port: u16) -> Self {
        self.backend(BackendKind::listener(format!("127.0.0.1:{port}")))
    }

    /// Dials such a listener, again and again.
    #[must_use]
    pub fn peer(self, port: u16) -> Self {
        self.backend(BackendKind::peer(format!("127.0.0.1:{port}")))
    }

    /// Listens on a port of loopback.
    #[must_use]
    pub fn listen_over(self, port: u16, transport: ListenerTransport) -> Self {
        self.backend(BackendKind::Listener {
            bind: format!("127.0.0.1:{port}"),
            transport,
        })
    }

    /// Dials again and again.
    #[must_use]
    pub fn peer_over(self, address: impl Into<String>, transport: PeerTransport) -> Self {
        self.backend(BackendKind::Peer {
            address: address.into(),
            redial: true,
            transport,
        })
    }

    /// With these TLS configs.
    #[must_use]
    pub fn tls(mut self, tls: Arc<Tls>) -> Self {
        self.options.tls = tls;
        self
    }

    /// A control service named `control`, with a socket of mode 0600.
    #[must_use]
    pub fn control(mut self, path: &Path) -> Self {
        self.config.control_services.push(ControlService {
            service: Some(ServiceName::CONTROL),
            socket: Some(SocketFile {
                path: path.to_str().expect("scratch paths are text").to_owned(),
                mode: 0o600,
            }),
            ..ControlService::default()
        });
        self
    }

    /// A service between local sockets and the mesh.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.config.services.push(service);
        self
    }

    fn start(&self, adapter: &dyn Adapter) -> Box<dyn Node> {
        let started = self.try_start(adapter);
        started.unwrap_or_else(|error| panic!("{}: {error:?}", self.config.node_id.as_str()))
    }

    fn try_start(&self, adapter: &dyn Adapter) -> Result<Box<dyn Node>, StartError> {
        adapter.start(self.config.clone(), self.options.clone())
    }
}

/// A chain `near - middle - far` over TCP, the middle on the far adapter.
pub fn chain(bench: &Bench) -> [Box<dyn Node>; 3] {
    let (first, second) = (free_port(), free_port());
    let near = bench.near(&Setup::new("near").listen(first));
    let middle = bench.far(&Setup::new("middle").peer(first).listen(second));
    let far = bench.near(&Setup::new("far").peer(second));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    [near, middle, far]
}

/// Waits until `target` answers pings of `node`.
pub fn until_reachable(node: &dyn Node, target: &str) {
    until(&format!("{target} is reachable"), PATIENCE, || {
        let answer = node.ping(target, PING);
        answer.map(drop).map_err(|error| format!("{error:?}"))
    });
}

/// Waits until `node` has no route to `target`.
pub fn until_unreachable(node: &dyn Node, target: &str) {
    until(&format!("{target} is unreachable"), PATIENCE, || {
        match node.ping(target, PING) {
            Err(Error::Refused(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
