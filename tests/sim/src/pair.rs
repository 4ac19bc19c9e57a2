//! Two nodes on one wire, the smallest world.

use std::ops::{Deref, DerefMut};

use receptor_core::config::{Backend, BackendKind, Config, ControlService, SocketFile, WorkKind, WorkType};
use receptor_core::id::ServiceName;
use receptor_core::time::Duration;

use crate::world::{NodeIndex, World};

/// A world of `left` (0), which listens, and `right` (1), which dials.
#[derive(Debug)]
pub struct Pair(World);

impl Pair {
    /// Index of the listening node, called `left`.
    pub const LEFT: NodeIndex = 0;
    /// Index of the dialling node, called `right`.
    pub const RIGHT: NodeIndex = 1;

    /// Two connected nodes.
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.start(node("left", &[listener("left")]));
        world.start(node("right", &[peer("left")]));
        let mut pair = Self(world);
        pair.run_for(Duration::from_secs(1));
        pair
    }
}

impl Deref for Pair {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl DerefMut for Pair {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.0
    }
}

/// A backend that listens under a node's name.
pub fn listener(name: &str) -> Backend {
    backend(BackendKind::listener(name))
}

/// A backend that dials the node of that name.
pub fn peer(name: &str) -> Backend {
    backend(BackendKind::peer(name))
}

fn backend(kind: BackendKind) -> Backend {
    Backend {
        kind,
        cost: 1.0,
        node_costs: Default::default(),
        allowed_peers: None,
    }
}

/// A node with a control service and the simulated programs as work types.
pub fn node(name: &str, backends: &[Backend]) -> Config {
    let work = |name: &str| {
        let kind = WorkKind::Command {
            command: name.into(),
            params: String::new(),
            allow_runtime_params: true,
        };
        WorkType::new(name, kind)
    };
    let mut config = Config::new(name.into());
    config.version = "test".into();
    config.backends = backends.to_vec();
    config.control_services = vec![ControlService {
        service: Some(ServiceName::CONTROL),
        socket: Some(SocketFile {
            path: format!("{name}.sock"),
            mode: 0o600,
        }),
        ..ControlService::default()
    }];
    config.work_types = ["cat", "produce", "sleep", "fail", "missing"].map(work).to_vec();
    config
}
