use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use receptor_core::config::{ListenerTransport, PeerTransport};
use receptor_core::error::CallerError;
use receptor_core::id::{CommandId, ServiceName, TaskId};
use receptor_core::node::io::{Command, Event, Layer, Reply, Task, TaskResult};
use receptor_core::time::Instant;
use receptor_core::workceptor::{UnitError, UnitId, UnitTask, UnitTaskResult};
use receptor_host::adapter::{MeshError, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::handle::{Mesh, spawn};

/// A machine that does what a test's closure says.
struct Script {
    react: React,
    outbox: Outbox,
}

type React = Box<dyn FnMut(&mut Outbox, Input) + Send>;

#[derive(Default)]
struct Outbox {
    outputs: VecDeque<Output>,
    frames: VecDeque<BytesMut>,
    deadline: Deadline,
    calls: Arc<Mutex<usize>>,
}

impl Outbox {
    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

impl Machine for Script {
    fn handle(&mut self, _now: Now, input: Input) -> Result<(), CallerError> {
        *self.outbox.calls.lock().unwrap() += 1;
        (self.react)(&mut self.outbox, input);
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outbox.outputs.pop_front()
    }

    fn next_deadline(&self) -> Deadline {
        self.outbox.deadline
    }

    fn pull_frames(&mut self, _now: Now, _link: LinkId, max_bytes: usize, into: &mut Vec<BytesMut>) {
        let mut bytes = 0;
        while bytes < max_bytes
            && let Some(frame) = self.outbox.frames.pop_front()
        {
            bytes += frame.len();
            into.push(frame);
        }
    }
}

fn start(outbox: Outbox, react: impl FnMut(&mut Outbox, Input) + Send + 'static) -> Mesh {
    spawn(
        Script {
            react: Box::new(react),
            outbox,
        },
        Clock::new(),
        None,
        None,
        Options::default(),
    )
    .0
}

/// Collects what `pick` finds in the machine's inputs.
fn watching<T: Send + 'static>(
    outbox: Outbox,
    mut pick: impl FnMut(&mut Outbox, Input) -> Option<T> + Send + 'static,
) -> (Mesh, mpsc::Receiver<T>) {
    let (seen_in, seen) = mpsc::channel(1000);
    let mesh = start(outbox, move |outbox, input| {
        if let Some(found) = pick(outbox, input) {
            seen_in.try_send(found).unwrap();
        }
    });
    (mesh, seen)
}

fn done(input: Input) -> Option<(TaskId, TaskResult)> {
    match input {
        Input::Done(task, result) => Some((task, result)),
        _ => None,
    }
}

fn tasks(list: impl IntoIterator<Item = Task>) -> Outbox {
    let outputs = list
        .into_iter()
        .zip(1..)
        .map(|(task, id)| Output::Task(TaskId(id), task))
        .collect();
    Outbox {
        outputs,
        ..Outbox::default()
    }
}

#[tokio::test]
async fn frames_go_from_link_to_link_in_order() {
    let mesh = start(Outbox::default(), |outbox, input| {
        if let Input::Link(link, LinkInput::Frame(frame)) = input {
            outbox.frames.push_back(frame);
            outbox.push(Output::Link(link, LinkOutput::Ready));
        }
    });
    let (near, far) = tokio::io::duplex(100);
    mesh.attach(BackendId(0), near, "test").await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(far);
    let sent: Vec<u8> = (0..2000_u16).flat_map(|n| [3, 0, n as u8, (n >> 8) as u8, 7]).collect();
    let echo = sent.clone();
    tokio::spawn(async move { writer.write_all(&echo).await.unwrap() });
    let mut received = vec![0; sent.len()];
    reader.read_exact(&mut received).await.unwrap();
    assert_eq!(received, sent);
    mesh.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn every_link_goes_down_once() {
    let (mesh, mut downs) = watching(Outbox::default(), |outbox, input| match input {
        Input::Link(link, LinkInput::Frame(frame)) => {
            outbox.frames.push_back(frame);
            outbox.push(Output::Link(link, LinkOutput::Close));
            outbox.push(Output::Link(link, LinkOutput::Close));
            None
        }
        Input::Link(link, LinkInput::Down { .. }) => Some(link),
        _ => None,
    });
    // Closed by the node: what is queued still arrives.
    let (near, mut far) = tokio::io::duplex(100);
    mesh.attach(BackendId(0), near, "test").await.unwrap();
    far.write_all(b"\x03\0bye").await.unwrap();
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"\x03\0bye");
    drop(far);
    assert_eq!(downs.recv().await, Some(LinkId(1)));
    // Closed by the peer.
    let (near, far) = tokio::io::duplex(100);
    mesh.attach(BackendId(0), near, "test").await.unwrap();
    drop(far);
    assert_eq!(downs.recv().await, Some(LinkId(2)));
    mesh.shutdown().await;
    assert_eq!(downs.recv().await, None);
}

#[tokio::test]
async fn tcp_links_are_listened_for_and_dialled() {
    let (mesh, mut results) = watching(
        tasks([Task::Listen {
            backend: BackendId(3),
            address: "127.0.0.1:0".to_owned(),
            transport: ListenerTransport::Tcp { tls: None },
            handshakes: 1,
            links: 1,
        }]),
        |outbox, input| match input {
            Input::Done(TaskId(1), TaskResult::Listening(address)) => {
                outbox.push(Output::Task(
                    TaskId(2),
                    Task::Dial {
                        backend: BackendId(4),
                        address,
                        transport: PeerTransport::Tcp { tls: None },
                        proxy: None,
                    },
                ));
                None
            }
            Input::Done(_, TaskResult::Dialed { link, .. }) => {
                outbox.frames.push_back(BytesMut::from(&b"over tcp"[..]));
                outbox.push(Output::Link(link, LinkOutput::Ready));
                None
            }
            Input::Link(_, LinkInput::Up { backend, .. }) => Some(format!("up {}", backend.0)),
            Input::Link(_, LinkInput::Frame(frame)) => Some(String::from_utf8_lossy(&frame).into_owned()),
            other => Some(format!("{other:?}")),
        },
    );
    assert_eq!(results.recv().await.unwrap(), "up 3");
    assert_eq!(results.recv().await.unwrap(), "over tcp");
    mesh.shutdown().await;
}

#[tokio::test]
async fn tasks_are_answered_once_also_when_they_cannot_be_done() {
    let unit = UnitId::parse("abc").unwrap();
    let (mesh, mut results) = watching(
        tasks([
            Task::Listen {
                backend: BackendId(0),
                address: "nowhere".to_owned(),
                transport: ListenerTransport::Tcp { tls: None },
                handshakes: 1,
                links: 1,
            },
            Task::Dial {
                backend: BackendId(0),
                address: "127.0.0.1:1".to_owned(),
                transport: PeerTransport::Tcp { tls: None },
                proxy: None,
            },
            Task::ListenControl {
                path: "/nonexistent/dir/socket".to_owned(),
                mode: 0o600,
            },
            Task::LoadEpoch,
            Task::StoreEpoch(5),
            Task::ScanUnits,
            Task::Unit(unit.clone(), UnitTask::Remove { tombstone: None }),
            Task::Unit(unit, UnitTask::ReadOutput { offset: 0, max: 1 }),
        ]),
        |_, input| done(input),
    );
    let mut answers = HashMap::new();
    for _ in 0..8 {
        let (task, result) = results.recv().await.unwrap();
        assert!(answers.insert(task.0, result).is_none(), "answered twice");
    }
    let failed = |task| match &answers[&task] {
        TaskResult::Failed(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(1), "listen tcp: address nowhere: missing port in address");
    assert_eq!(failed(2), "dial tcp 127.0.0.1:1: connect: connection refused");
    assert!(failed(3).starts_with("could not acquire lock on socket file: "));
    assert!(matches!(answers[&4], TaskResult::Epoch(None)));
    assert!(matches!(answers[&5], TaskResult::Stored));
    assert!(matches!(&answers[&6], TaskResult::Units(stored) if stored.units.is_empty()));
    for task in [7, 8] {
        assert!(matches!(
            &answers[&task],
            TaskResult::Unit(UnitTaskResult::Failed(UnitError::Io(text))) if text == "this node has no data directory"
        ));
    }
    mesh.shutdown().await;
}

#[tokio::test]
async fn a_control_connection_is_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let task = Task::ListenControl {
        path: path.to_str().unwrap().to_owned(),
        mode: 0o600,
    };
    let (mesh, mut inputs) = watching(tasks([task]), |outbox, input| match input {
        Input::Done(_, TaskResult::Listening(_)) => Some("listening".to_owned()),
        Input::Pipe(pipe, PipeInput::OpenControl { .. }) => {
            outbox.push(Output::Pipe(pipe, PipeOutput::Data(Bytes::from_static(b"hello\n"))));
            None
        }
        Input::Pipe(pipe, PipeInput::Data(data)) => {
            outbox.push(Output::Pipe(pipe, PipeOutput::Data(data)));
            None
        }
        Input::Pipe(pipe, PipeInput::Eof) => {
            outbox.push(Output::Pipe(pipe, PipeOutput::Eof));
            None
        }
        Input::Pipe(_, PipeInput::Closed) => Some("closed".to_owned()),
        _ => None,
    });
    assert_eq!(inputs.recv().await.unwrap(), "listening");
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    client.write_all(b"echo\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello\necho\n");
    assert_eq!(inputs.recv().await.unwrap(), "closed");
    mesh.shutdown().await;
    assert_eq!(inputs.recv().await, None);
}

#[tokio::test]
async fn dialled_streams_obey_the_credit_and_close_when_dropped() {
    let (mesh, mut inputs) = watching(Outbox::default(), |outbox, input| match input {
        Input::Command(id, Command::Dial { pipe, service, .. }) => {
            let reply = if service == "bad" {
                Reply::Error("no".to_owned())
            } else {
                Reply::Done
            };
            outbox.push(Output::Pipe(pipe, PipeOutput::Begin(Layer::Plain)));
            outbox.push(Output::Reply(id, reply));
            None
        }
        Input::Pipe(pipe, PipeInput::Data(data)) => {
            // Bytes are echoed and paid back.
            outbox.push(Output::Pipe(pipe, PipeOutput::Credit(data.len())));
            outbox.push(Output::Pipe(pipe, PipeOutput::Data(data)));
            None
        }
        Input::Pipe(pipe, PipeInput::Eof) => {
            outbox.push(Output::Pipe(pipe, PipeOutput::Eof));
            None
        }
        Input::Pipe(pipe, PipeInput::Closed) => Some(pipe),
        _ => None,
    });
    assert_eq!(
        mesh.dial("b", "bad").await.unwrap_err(),
        MeshError::Refused("no".to_owned())
    );
    inputs.recv().await.unwrap();
    let stream = mesh.dial("b", "echo").await.unwrap();
    assert_eq!(stream.peer().unwrap().as_str(), "b");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).await.unwrap();
    assert!(echoed == data);
    drop((reader, writing.await.unwrap()));
    inputs.recv().await.unwrap();
    mesh.shutdown().await;
    assert_eq!(inputs.recv().await, None);
}

#[tokio::test]
async fn listeners_and_sockets_live_and_die_with_their_handles() {
    let (mesh, mut inputs) = watching(Outbox::default(), |outbox, input| match input {
        Input::Command(id, command) => {
            let (reply, event, seen) = match command {
                Command::Listen { service, .. } => {
                    let service = ServiceName::new(&service).unwrap();
                    let event = Event::Accepted {
                        service,
                        pipe: PipeId(1 << 63),
                        from: Some("x".into()),
                    };
                    (Reply::Service(service), Some(event), None)
                }
                Command::OpenPort { port, service, .. } => {
                    let service = ServiceName::new(&service).unwrap();
                    let data = Bytes::from_static(b"ping");
                    let event = Event::Datagram {
                        port,
                        from: "y".into(),
                        from_service: service,
                        data,
                    };
                    (Reply::Service(service), Some(event), None)
                }
                Command::Unlisten { .. } => (Reply::Done, None, Some("unlisten")),
                Command::ClosePort { .. } => (Reply::Done, None, Some("close port")),
                _ => (Reply::Done, None, None),
            };
            outbox.push(Output::Reply(id, reply));
            event.into_iter().for_each(|event| outbox.push(Output::Event(event)));
            outbox.push(Output::Pipe(PipeId(1 << 63), PipeOutput::Begin(Layer::Plain)));
            seen
        }
        _ => None,
    });
    let mut listener = mesh.listen("echo").await.unwrap();
    assert_eq!(listener.service(), ServiceName::new("echo").unwrap());
    assert_eq!(listener.accept().await.unwrap().peer().unwrap().as_str(), "x");
    drop(listener);
    assert_eq!(inputs.recv().await.unwrap(), "unlisten");
    let socket = mesh.packet("sock").await.unwrap();
    assert_eq!(&socket.recv_from().await.unwrap().data[..], b"ping");
    drop(socket);
    assert_eq!(inputs.recv().await.unwrap(), "close port");
    mesh.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_wake_the_machine_in_time() {
    let outbox = Outbox {
        deadline: Deadline::At(Instant::from_millis(5000), "test"),
        ..Outbox::default()
    };
    let (_mesh, mut timeouts) = watching(outbox, |outbox, input| {
        outbox.deadline = Deadline::Idle;
        matches!(input, Input::Timeout).then(tokio::time::Instant::now)
    });
    let begun = tokio::time::Instant::now();
    let fired = timeouts.recv().await.unwrap() - begun;
    assert!(
        fired >= Duration::from_secs(5) && fired <= Duration::from_millis(5010),
        "{fired:?}"
    );
    assert!(
        tokio::time::timeout(Duration::from_secs(100), timeouts.recv())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_stays_due_does_not_spin() {
    let calls = Arc::new(Mutex::new(0));
    let outbox = Outbox {
        deadline: Deadline::Now,
        calls: Arc::clone(&calls),
        ..Outbox::default()
    };
    let _mesh = start(outbox, |_, _| {});
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = *calls.lock().unwrap();
    assert!((10..=110).contains(&calls), "{calls} calls in a second");
}

#[tokio::test]
async fn the_end_is_told_to_everybody() {
    let mesh = start(Outbox::default(), |_, _| {});
    let pending = tokio::spawn({
        let mesh = mesh.clone();
        async move { mesh.status().await }
    });
    let mut events = mesh.events();
    tokio::task::yield_now().await;
    mesh.shutdown().await;
    assert_eq!(mesh.closed().await, End::Shutdown);
    assert_eq!(pending.await.unwrap(), Err(MeshError::Closed));
    assert_eq!(events.next().await, None);
    assert_eq!(mesh.ping("x").await, Err(MeshError::Closed));

    let outputs = [Output::Event(Event::Duplicate)].into();
    let mesh = start(
        Outbox {
            outputs,
            ..Outbox::default()
        },
        |_, _| {},
    );
    assert_eq!(mesh.closed().await, End::Duplicate);

    let outputs = [Output::Reply(CommandId(77), Reply::Done)].into();
    let mesh = start(
        Outbox {
            outputs,
            ..Outbox::default()
        },
        |_, _| panic!("out of luck"),
    );
    assert_eq!(mesh.status().await, Err(MeshError::Closed));
    assert_eq!(mesh.closed().await, End::Died);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_sends_what_is_queued() {
    let mesh = start(Outbox::default(), |outbox, input| {
        if let Input::Link(link, LinkInput::Up { .. }) = input {
            outbox.frames.extend((0..10).map(|n| BytesMut::from(&[n; 10][..])));
            outbox.push(Output::Link(link, LinkOutput::Ready));
        }
    });
    let (near, mut far) = tokio::io::duplex(16);
    mesh.attach(BackendId(0), near, "test").await.unwrap();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        all
    });
    mesh.shutdown().await;
    assert_eq!(reading.await.unwrap().len(), 120);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_still_writes_when_a_node_ends_loses_nothing() {
    let mesh = start(Outbox::default(), |outbox, input| {
        if let Input::Link(link, LinkInput::Up { .. }) = input {
            outbox.frames.push_back(BytesMut::from(&b"last words"[..]));
            outbox.push(Output::Link(link, LinkOutput::Ready));
        }
    });
    let (near, mut far) = tokio::io::duplex(1000);
    mesh.attach(BackendId(0), near, "test").await.unwrap();
    let ending = tokio::spawn(async move { mesh.shutdown().await });
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"\x0a\0last words");
    far.write_all(b"an answer").await.expect("the node still takes it");
    drop(far);
    ending.await.unwrap();
}

#[tokio::test]
async fn the_machine_is_told_before_links_are_closed() {
    let (mesh, mut farewells) = watching(Outbox::default(), |_, input| {
        matches!(input, Input::Shutdown).then_some(())
    });
    mesh.shutdown().await;
    assert_eq!(farewells.recv().await, Some(()));
}
