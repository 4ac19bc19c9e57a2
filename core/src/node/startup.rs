//! From nothing to dialling: the epoch is durable before the first hello, and units are known before the first command.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::commands::stream_type;
use super::io::{Event, Level, Output, Task, TaskResult};
use super::{Node, TaskOwner};
use crate::config::{ControlTcp, SocketFile};
use crate::error::CallerError;
use crate::time::{Now, Wall};
use crate::wire::classic::WorkCommand;
use crate::workceptor::Stored;

/// Where the start stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Reading the stored epoch and the units.
    Loading {
        /// The epoch is known and durable.
        epoch: bool,
        /// The units are known.
        units: bool,
    },
    /// Binding listeners and control sockets; so many answers are missing.
    Binding(usize),
    /// Started.
    Running,
    /// A listener could not be bound.
    Failed,
}

/// The epoch of this run: whole seconds and a random low part, but never below what was used before (`wire.md` §8).
fn epoch(wall: Wall, random: u64, stored: Option<u64>) -> u64 {
    let clock = (wall.as_secs() << 24) | (random & 0xff_ffff);
    clock.max(stored.map_or(0, |stored| stored.saturating_add(1)))
}

impl Node {
    pub(super) fn startup_done(&mut self, now: Now, owner: TaskOwner, result: TaskResult) -> Result<(), CallerError> {
        match (owner, result) {
            (TaskOwner::LoadEpoch, TaskResult::Epoch(stored)) => self.choose_epoch(now, stored),
            (TaskOwner::LoadEpoch, TaskResult::Failed(error)) => {
                self.warn(alloc::format!("cannot read the stored epoch: {error}"));
                self.choose_epoch(now, None);
            }
            (TaskOwner::StoreEpoch(epoch), TaskResult::Stored) => self.epoch_known(now, epoch),
            (TaskOwner::StoreEpoch(epoch), TaskResult::Failed(error)) => {
                self.warn(alloc::format!(
                    "cannot store the epoch, so peers may ignore this node after a restart with an earlier clock: {error}"
                ));
                self.epoch_known(now, epoch);
            }
            (TaskOwner::ScanUnits, TaskResult::Units(units)) => {
                self.work.handle_scan(now, units);
                self.loaded(now, |_, units| *units = true);
            }
            (TaskOwner::ScanUnits, TaskResult::Failed(error)) => {
                self.error(alloc::format!("cannot list units of work: {error}"));
                self.work.handle_scan(now, Stored::default());
                self.loaded(now, |_, units| *units = true);
            }
            (
                TaskOwner::Listen
                | TaskOwner::ListenControl
                | TaskOwner::ListenControlTcp
                | TaskOwner::ListenService(_),
                TaskResult::Listening(address),
            ) => {
                self.log(Level::Info, alloc::format!("listening on {address}"));
                self.bound(now);
            }
            (TaskOwner::Listen, TaskResult::Failed(error)) => self.start_failed(error),
            (TaskOwner::ListenControl, TaskResult::Failed(error)) => {
                self.start_failed(alloc::format!("error opening Unix socket: {error}"));
            }
            (TaskOwner::ListenControlTcp, TaskResult::Failed(error)) => {
                self.start_failed(alloc::format!("error listening on TCP socket: {error}"));
            }
            (TaskOwner::ListenService(index), TaskResult::Failed(error)) => {
                self.start_failed(self.services.start_error(index, &error));
            }
            (owner, result) => {
                return Err(CallerError::Misuse(alloc::format!(
                    "task {owner:?} was answered with {result:?}"
                )));
            }
        }
        Ok(())
    }

    fn choose_epoch(&mut self, now: Now, stored: Option<u64>) {
        let epoch = epoch(now.wall, self.rng.next_u64(), stored);
        self.task(TaskOwner::StoreEpoch(epoch), Task::StoreEpoch(epoch));
    }

    fn epoch_known(&mut self, now: Now, epoch: u64) {
        self.net.begin(now, epoch);
        self.loaded(now, |epoch, _| *epoch = true);
    }

    fn loaded(&mut self, now: Now, what: impl FnOnce(&mut bool, &mut bool)) {
        let Phase::Loading { epoch, units } = &mut self.phase else {
            return;
        };
        what(epoch, units);
        if *epoch && *units {
            self.bind(now);
        }
    }

    fn bind(&mut self, now: Now) {
        if let Err(error) = self.open_control_services(now) {
            return self.start_failed(error);
        }
        let mut count = 1;
        for service in self.config.control_services.clone() {
            if let Some(SocketFile { path, mode }) = service.socket {
                count += 1;
                self.task(TaskOwner::ListenControl, Task::ListenControl { path, mode });
            }
            if let Some(ControlTcp { bind: address, tls }) = service.tcp {
                count += 1;
                self.task(TaskOwner::ListenControlTcp, Task::ListenControlTcp { address, tls });
            }
        }
        match self.open_services(now) {
            Ok(tasks) => count += tasks,
            Err(error) => return self.start_failed(error),
        }
        let listeners: Vec<_> = self.net.listeners().collect();
        let limits = &self.config.limits;
        let (handshakes, links) = (limits.handshakes, limits.links);
        for (backend, address, transport) in listeners {
            count += 1;
            let task = Task::Listen {
                backend,
                address,
                transport,
                handshakes,
                links,
            };
            self.task(TaskOwner::Listen, task);
        }
        self.phase = Phase::Binding(count);
        self.bound(now);
    }

    fn open_control_services(&mut self, now: Now) -> Result<(), String> {
        let services: Vec<_> = self
            .config
            .control_services
            .iter()
            .filter_map(|service| Some((service.service?, service.tls.clone())))
            .collect();
        for (name, tls) in services {
            let service = self
                .listen_stream(&name.to_string(), tls.as_deref())
                .map_err(|error| alloc::format!("error opening Unix socket: {error}"))?;
            self.control_services.insert(service);
        }
        self.advertise_control_services(now);
        Ok(())
    }

    /// Tells the mesh of the control services, and with them of the work types.
    pub(super) fn advertise_control_services(&mut self, now: Now) {
        let types = self.work.advertised_types().map(|(name, secure)| WorkCommand {
            work_type: name.into(),
            secure,
        });
        let work_types = Some(types.collect::<Vec<_>>()).filter(|types| !types.is_empty());
        for &service in &self.control_services {
            let tags = BTreeMap::from([("type".to_string(), "Control Service".to_string())]);
            let conn_type = stream_type(self.stream_tls.get(&service).map(String::as_str));
            self.net
                .advertise(now, service, conn_type, Some(tags), work_types.clone());
        }
    }

    fn bound(&mut self, now: Now) {
        let Phase::Binding(missing) = &mut self.phase else {
            return;
        };
        *missing -= 1;
        if *missing == 0 {
            self.phase = Phase::Running;
            self.net.open(now);
            self.outputs.push_back(Output::Event(Event::Started));
        }
    }

    fn start_failed(&mut self, error: String) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Failed;
            self.outputs.push_back(Output::Event(Event::StartFailed(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_made_as_the_spec_has_it() {
        assert_eq!(
            epoch(Wall::from_secs(1_700_000_000), 0xff_abcdef, None),
            28_521_267_211_259_375
        );
    }

    #[test]
    fn a_peer_that_comes_before_the_last_listener_is_bound_is_not_sent_away() {
        use crate::config::{Backend, BackendKind, Config};
        use crate::id::LinkId;
        use crate::node::io::{Input, LinkInput, LinkOutput};

        let mut config = Config::new("node".into());
        let listeners = ["one", "two"].map(|bind| Backend::new(BackendKind::listener(bind)));
        config.backends = listeners.into();
        let mut node = Node::new(config, [0; 32], Now::default()).unwrap();
        let mut bound = 0;
        let mut sent = Vec::new();
        while let Some(output) = node.poll_output() {
            match output {
                Output::Task(id, Task::Listen { backend, address, .. }) if bound == 0 => {
                    bound += 1;
                    let listening = TaskResult::Listening(address);
                    node.handle(Now::default(), Input::Done(id, listening)).unwrap();
                    let up = LinkInput::Up {
                        backend,
                        remote: "peer".into(),
                        certified: None,
                    };
                    node.handle(Now::default(), Input::Link(LinkId(7), up)).unwrap();
                }
                Output::Task(_, Task::Listen { .. }) => {}
                Output::Task(id, Task::StoreEpoch(_)) => {
                    node.handle(Now::default(), Input::Done(id, TaskResult::Stored))
                        .unwrap();
                }
                Output::Task(id, task) => node.handle(Now::default(), Input::Done(id, task.decline())).unwrap(),
                Output::Link(link, output) => {
                    assert_ne!(output, LinkOutput::Close, "{link:?}");
                    node.pull_frames(Now::default(), link, 1 << 16, &mut sent);
                }
                Output::Event(Event::Started) => panic!("one listener is not bound"),
                _ => {}
            }
        }
        assert_eq!((bound, sent.len()), (1, 1), "the peer is greeted");
    }

    #[test]
    fn a_clock_set_back_does_not_lower_the_epoch() {
        assert_eq!(epoch(Wall::from_secs(1), 0, Some(u64::MAX - 1)), u64::MAX);
        assert_eq!(epoch(Wall::from_secs(1), 0, Some(77 << 24)), (77 << 24) + 1);
    }
}
