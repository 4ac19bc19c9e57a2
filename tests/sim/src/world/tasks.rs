//! How a simulated machine carries out its node's tasks.

use receptor_core::config::{ListenerTransport, PeerTransport};
use receptor_core::id::TaskId;
use receptor_core::node::io::{Input, Task, TaskResult};
use receptor_core::time::Duration;
use receptor_core::workceptor::{UnitId, UnitTask, UnitTaskResult};

use super::observed::Observed;
use super::{Happening, NodeIndex, World};

impl World {
    pub(super) fn carry_out_task(&mut self, index: NodeIndex, id: TaskId, task: Task) {
        let soon = self.now + Duration::from_micros(20);
        let host = &mut self.hosts[index];
        let disk_time = host.disk_time();
        let (at, result) = match task {
            Task::Listen {
                backend,
                address,
                transport,
                ..
            } => {
                let is_datagram = transport == ListenerTransport::Udp;
                let result = if self.network.bind(&address, index, backend, is_datagram) {
                    TaskResult::Listening(address)
                } else {
                    TaskResult::Failed(format!("listen tcp {address}: bind: address already in use"))
                };
                (soon, result)
            }
            Task::ListenControl { path, .. } => (soon, TaskResult::Listening(path)),
            Task::LoadEpoch => (soon, host.disk.load_epoch()),
            Task::StoreEpoch(epoch) => {
                let stored = Happening::StoreEpoch {
                    node: index,
                    task: id,
                    epoch,
                };
                return self.schedule(self.now + disk_time, index, stored);
            }
            Task::ScanUnits => {
                let mut units = host.disk.scan(host.boots);
                for unit in &mut units.units {
                    unit.runner = Self::running(host, &unit.id);
                }
                (soon, TaskResult::Units(units))
            }
            Task::Dial { address, transport, .. } => {
                let is_known = matches!(transport, PeerTransport::Tcp { tls: None } | PeerTransport::Udp);
                assert!(is_known, "a transport the simulator does not know: {transport:?}");
                let since = self.now;
                let to = self.named(&address).unwrap_or(index);
                let at = self.now + self.network.direction(index, to).delay;
                let connect = Happening::Connect {
                    node: index,
                    task: id,
                    address,
                    since,
                };
                return self.schedule(at, index, connect);
            }
            Task::Unit(unit, UnitTask::Spawn { program, args, .. }) => {
                return self.spawn(index, id, &unit, &program, &args);
            }
            Task::Unit(unit, UnitTask::Attach { runner }) => {
                let attach = Happening::Attach {
                    node: index,
                    task: id,
                    unit,
                    identity: runner.identity,
                };
                return self.schedule(self.now + Duration::from_millis(1), index, attach);
            }
            Task::Unit(unit, UnitTask::Cancel) => return self.cancel_runner(index, id, &unit),
            Task::Unit(unit, task) => return self.disk_task(index, id, unit, task, disk_time),
            other => panic!("a task the simulator does not know: {other:?}"),
        };
        self.done_at(at, index, id, result);
    }

    pub(super) fn done_at(
        &mut self,
        at: receptor_core::time::Instant,
        node: NodeIndex,
        task: TaskId,
        result: TaskResult,
    ) {
        self.schedule(at, node, Happening::Task { node, task, result });
    }

    /// A task about files takes effect somewhere between its issue and its answer.
    fn disk_task(&mut self, index: NodeIndex, id: TaskId, unit: UnitId, task: UnitTask, disk_time: Duration) {
        let synced = matches!(
            task,
            UnitTask::Create { sync: true, .. }
                | UnitTask::Bury { .. }
                | UnitTask::Remove { .. }
                | UnitTask::Update { sync: true, .. }
                | UnitTask::Sync
        );
        let host = &mut self.hosts[index];
        let time = if synced { disk_time } else { Duration::from_micros(20) };
        let begin = self.now.max(host.disk_free_at(&unit));
        let (effect, answer) = (begin + host.share_of(time), begin + time);
        host.disk_busy.insert(unit.clone(), answer);
        let what = Happening::Disk {
            node: index,
            task: id,
            unit,
            what: task,
            answer,
        };
        self.schedule(effect, index, what);
    }

    pub(super) fn disk_effect(
        &mut self,
        index: NodeIndex,
        id: TaskId,
        unit: UnitId,
        task: UnitTask,
        answer: receptor_core::time::Instant,
    ) {
        let is_removal = matches!(task, UnitTask::Remove { .. });
        let changes_record = matches!(task, UnitTask::Create { .. } | UnitTask::Update { .. });
        let result = self.hosts[index].disk.run(&unit, task);
        let is_done = !matches!(result, UnitTaskResult::Failed(_));
        if changes_record && is_done {
            self.recorded(index, &unit);
        }
        if is_removal && is_done {
            self.trace.line(self.now, index, format_args!("removed {unit}"));
            self.observe(|| Observed::Removed { node: index, unit });
        }
        self.done_at(answer.max(self.now), index, id, TaskResult::Unit(result));
    }

    pub(super) fn recorded(&mut self, index: NodeIndex, unit: &UnitId) {
        let Some(record) = self.hosts[index].disk.unit(unit).and_then(|dir| dir.record.clone()) else {
            return;
        };
        self.trace.line(
            self.now,
            index,
            format_args!(
                "record {unit} {} {} {:?}",
                record.state.number(),
                record.stdout_size,
                record.detail
            ),
        );
        self.observe(|| Observed::Recorded {
            node: index,
            unit: unit.clone(),
            record,
        });
    }

    pub(super) fn epoch_stored(&mut self, index: NodeIndex, task: TaskId, epoch: u64) {
        let result = self.hosts[index].disk.store_epoch(epoch);
        self.input(index, Input::Done(task, result));
    }
}
