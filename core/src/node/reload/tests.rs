//! Reloads of a node whose tasks are answered by hand.

use alloc::string::ToString as _;
use alloc::vec;

use super::*;
use crate::config::{Backend, BackendKind, Config, TlsNames, WorkKind, WorkType};
use crate::firewall::{Action, Rule, Rules};
use crate::id::{CommandId, LinkId, TaskId};
use crate::node::io::{Command, Input, LinkInput, LinkOutput};

const NOW: Now = Now {
    mono: crate::time::Instant::ZERO,
    wall: crate::time::Wall::from_secs(1_700_000_000),
};

fn listener(bind: &str) -> Backend {
    Backend::new(BackendKind::listener(bind))
}

fn secure(bind: &str) -> Backend {
    Backend::new(BackendKind::Listener {
        bind: bind.into(),
        transport: crate::config::ListenerTransport::Tcp { tls: Some("t".into()) },
    })
}

/// The TLS configs there are.
fn tls() -> TlsNames {
    TlsNames {
        servers: ["t".into()].into(),
        ..TlsNames::default()
    }
}

fn peer(address: &str) -> Backend {
    Backend::new(BackendKind::peer(address))
}

/// A node, and what it wants that is not answered yet.
struct Rig {
    node: Node,
    tasks: Vec<(TaskId, Task)>,
    replies: Vec<(CommandId, Reply)>,
    closed: Vec<LinkId>,
    next: u64,
}

impl Rig {
    fn new(backends: Vec<Backend>) -> Self {
        let mut config = Config::new("node".into());
        config.backends = backends;
        config.tls = tls();
        let node = Node::new(config, [7; 32], NOW).unwrap();
        let mut rig = Self {
            node,
            tasks: Vec::new(),
            replies: Vec::new(),
            closed: Vec::new(),
            next: 0,
        };
        rig.drain();
        while rig.node.phase != Phase::Running {
            let (id, task) = rig.tasks.remove(0);
            let result = match task {
                Task::StoreEpoch(_) => TaskResult::Stored,
                Task::Listen { address, .. } => TaskResult::Listening(address),
                task => task.decline(),
            };
            rig.done(id, result);
        }
        rig
    }

    fn input(&mut self, input: Input) {
        self.node.handle(NOW, input).unwrap();
        self.drain();
    }

    fn done(&mut self, id: TaskId, result: TaskResult) {
        self.input(Input::Done(id, result));
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Task(id, task) => self.tasks.push((id, task)),
                Output::Reply(id, reply) => self.replies.push((id, reply)),
                Output::Link(link, LinkOutput::Close) => self.closed.push(link),
                _ => {}
            }
        }
    }

    /// Takes the first task that is like this.
    fn take(&mut self, what: &str) -> TaskId {
        let like = |(_, task): &(TaskId, Task)| alloc::format!("{task:?}").contains(what);
        let index = self.tasks.iter().position(like);
        let index = index.unwrap_or_else(|| panic!("no {what} in {:?}", self.tasks));
        self.tasks.remove(index).0
    }

    fn wants(&self, what: &str) -> bool {
        self.tasks
            .iter()
            .any(|(_, task)| alloc::format!("{task:?}").contains(what))
    }

    fn ask(&mut self) {
        self.next += 1;
        self.input(Input::Command(CommandId(self.next), Command::Reload));
    }

    fn read(&mut self, backends: Vec<Backend>) {
        let id = self.take("Reload");
        let new = Reloadable {
            backends,
            tls: tls(),
            ..Reloadable::default()
        };
        self.done(id, TaskResult::Reloaded(Ok(Box::new(new))));
    }

    fn link_up(&mut self, backend: u64, link: u64) -> LinkId {
        let id = LinkId(link);
        self.input(Input::Link(
            id,
            LinkInput::Up {
                backend: BackendId(backend),
                remote: "there".into(),
                certified: None,
            },
        ));
        id
    }

    fn answer(&mut self) -> Reply {
        assert_eq!(self.replies.len(), 1, "{:?}", self.replies);
        self.replies.remove(0).1
    }
}

fn refused(text: &str) -> Reply {
    Reply::NotReloaded(failed(text))
}

#[test]
fn what_did_not_change_is_not_touched() {
    let all = vec![listener(":1"), peer("x:1")];
    let mut rig = Rig::new(all.clone());
    let dial = rig.take("Dial");
    rig.done(
        dial,
        TaskResult::Dialed {
            link: LinkId(1),
            remote: "x".into(),
            certified: None,
        },
    );
    rig.link_up(0, 2);
    rig.ask();
    let mut new = all;
    new.push(peer("y:1"));
    new.reverse();
    rig.read(new);
    assert_eq!(rig.answer(), Reply::Done);
    assert!(rig.closed.is_empty());
    assert!(rig.wants("y:1"));
    assert_eq!(rig.tasks.len(), 1);
}

#[test]
fn links_of_backends_that_go_or_change_are_closed_and_their_listeners_too() {
    let mut rig = Rig::new(vec![listener(":1"), listener(":2")]);
    let (gone, changed) = (rig.link_up(0, 1), rig.link_up(1, 2));
    rig.ask();
    let mut dearer = listener(":2");
    dearer.cost = 3.0;
    rig.read(vec![dearer]);
    assert_eq!(rig.closed, [gone, changed]);
    assert!(rig.replies.is_empty(), "answered before the address is free");
    let id = rig.take("Unlisten { backend: BackendId(0) }");
    // What was accepted before the listener was closed comes too late.
    let late = rig.link_up(0, 3);
    assert_eq!(rig.closed.last(), Some(&late));
    rig.done(id, TaskResult::Unlistened);
    assert_eq!(rig.answer(), Reply::Done);
    assert!(!rig.wants("Listen"));
}

#[test]
fn a_new_listener_that_cannot_be_bound_leaves_everything_as_it_was() {
    let mut rig = Rig::new(vec![listener(":1"), peer("x:1")]);
    rig.tasks.clear();
    let link = rig.link_up(0, 1);
    rig.ask();
    rig.read(vec![listener(":5"), listener(":6")]);
    let (good, bad) = (rig.take(":5"), rig.take(":6"));
    assert!(rig.tasks.is_empty());
    rig.done(good, TaskResult::Listening(":5".into()));
    let early = rig.link_up(2, 2);
    assert!(rig.closed.is_empty());
    rig.done(bad, TaskResult::Failed("in use".into()));
    assert_eq!(rig.closed, [early]);
    assert!(rig.replies.is_empty());
    let id = rig.take("Unlisten { backend: BackendId(2) }");
    rig.done(id, TaskResult::Unlistened);
    assert_eq!(rig.answer(), refused("in use"));
    assert!(!rig.closed.contains(&link));
    // The same again finds the old state.
    rig.ask();
    rig.read(vec![listener(":1"), peer("x:1")]);
    assert_eq!(rig.answer(), Reply::Done);
    assert!(rig.tasks.is_empty());
}

#[test]
fn a_listener_that_stood_in_the_way_comes_back_when_the_new_one_fails() {
    let mut rig = Rig::new(vec![listener(":1")]);
    let link = rig.link_up(0, 1);
    rig.ask();
    rig.read(vec![secure(":1")]);
    assert!(!rig.wants("Task::Listen") && rig.tasks.len() == 1);
    let id = rig.take("Unlisten");
    rig.done(id, TaskResult::Unlistened);
    let id = rig.take("Listen { backend: BackendId(1)");
    rig.done(id, TaskResult::Failed("no".into()));
    let id = rig.take("Listen { backend: BackendId(0)");
    rig.done(id, TaskResult::Listening(":1".into()));
    assert_eq!(rig.answer(), refused("no"));
    assert!(!rig.closed.contains(&link));
}

#[test]
fn a_listener_can_change_how_its_frames_travel() {
    let mut rig = Rig::new(vec![listener(":1")]);
    let link = rig.link_up(0, 1);
    rig.ask();
    rig.read(vec![secure(":1")]);
    let id = rig.take("Unlisten");
    rig.done(id, TaskResult::Unlistened);
    let id = rig.take("Listen { backend: BackendId(1)");
    rig.done(id, TaskResult::Listening(":1".into()));
    assert_eq!(rig.closed, [link]);
    assert_eq!(rig.answer(), Reply::Done);
    assert!(rig.tasks.is_empty());
}

#[test]
fn what_is_wrong_is_refused_before_anything_changes() {
    let mut rig = Rig::new(vec![listener(":1")]);
    let mut free = listener(":2");
    free.cost = 0.0;
    rig.ask();
    rig.read(vec![free]);
    assert_eq!(rig.answer(), refused("connection cost must be positive"));
    rig.ask();
    let id = rig.take("Reload");
    let error = ReloadError {
        text: "no".into(),
        code: ReloadCode::NotReloadable,
    };
    rig.done(id, TaskResult::Reloaded(Err(error.clone())));
    assert_eq!(rig.answer(), Reply::NotReloaded(error));
    rig.ask();
    let id = rig.take("Reload");
    let decline = Task::Reload.decline();
    rig.done(id, decline);
    assert_eq!(rig.answer(), refused("not supported by this program"));
    assert!(rig.tasks.is_empty() && rig.closed.is_empty());
}

#[test]
fn who_asks_during_a_reload_gets_another_one() {
    let mut rig = Rig::new(vec![listener(":1")]);
    rig.ask();
    rig.ask();
    rig.ask();
    rig.read(vec![listener(":1")]);
    assert_eq!(rig.replies.len(), 1);
    rig.read(vec![listener(":1")]);
    let ids: Vec<_> = rig.replies.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(rig.tasks.is_empty());
}

#[test]
fn rules_and_work_types_are_new_after_a_reload() {
    let mut rig = Rig::new(vec![listener(":1")]);
    let work_type = |name: &str| WorkType::new(name, WorkKind::Unavailable { reason: "test".into() });
    let mut reload = |work_types: Vec<WorkType>| {
        rig.ask();
        let id = rig.take("Reload");
        let new = Reloadable {
            backends: vec![listener(":1")],
            firewall: Rules::new(vec![Rule::new(Action::Drop)]).unwrap(),
            work_types,
            ..Reloadable::default()
        };
        rig.done(id, TaskResult::Reloaded(Ok(Box::new(new))));
        rig.answer()
    };
    assert_eq!(
        reload(vec![work_type("a"), work_type("a")]),
        refused("work type a already registered")
    );
    assert_eq!(reload(vec![work_type("a")]), Reply::Done);
    rig.input(Input::Command(
        CommandId(99),
        Command::Ping {
            target: "node".to_string(),
        },
    ));
    // Its own ping falls under the rules, too, so that nothing comes back.
    assert!(rig.replies.is_empty());
}
