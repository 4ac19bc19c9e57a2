//! The task that owns the node: carries facts in and decisions out, and decides nothing itself.
//!
//! Each pass goes in the same order: what woke us is collected and the clock read, an overdue deadline, requests of the
//! application, sockets and pipes, what other tasks brought; outputs are carried out after each of them, sockets
//! written last, when everything that wants to be sent is known. Every part of a pass is bounded.

mod app;
mod tasks;
pub(crate) mod timer;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use receptor_core::deadline::Deadline;
use receptor_core::id::{BackendId, LinkId, PipeId, TaskId};
use receptor_core::node::io::{Input, Layer, LinkInput, LinkOutput, Output, PipeInput, PipeOutput, Security};
use receptor_core::time::Now;
use receptor_host::UnitStore;
use receptor_host::adapter::{
    self, ConfigSource, DriverEnd, End, LinkMaker, LocalEnd, LocalNews, Machine, MeshEvent, Quic, ReadBuffer, ReadySet,
    Reloading, SecureEnd, Source, Tls, UnitWorker,
};
use receptor_host::error_text::os_text;
use receptor_host::runner::RunnerProgram;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use self::app::App;
use self::timer::Timer;
use crate::arrivals::{ARRIVALS, Arrival, Arrivals};
use crate::clock::Clock;
use crate::handle::Request;
use crate::links::{Link, Linked, NewLink, ReadOutcome};
use crate::services;
use crate::units::Units;

/// Requests, arrivals and raised flags handled in one pass, each.
const PASS: usize = 64;

/// Bytes read in one pass before what they caused is written: frames do not wait until every socket was looked at.
const READ_BYTES: usize = 1 << 20;

/// Time to send what is queued when the node is shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// How long a deadline rests that is due again although its timeout was handled and gave nothing.
const FRUITLESS_PAUSE: Duration = Duration::from_millis(10);

/// What a driver is made of besides its machine.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) store: Option<Arc<UnitStore>>,
    pub(crate) runner: Option<RunnerProgram>,
    pub(crate) quic: Option<Quic>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) config_source: Option<Arc<dyn ConfigSource>>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) events: broadcast::Sender<MeshEvent>,
    pub(crate) started: oneshot::Sender<Result<(), String>>,
}

/// Runs the machine to its end.
pub(crate) async fn run<M: Machine>(machine: M, parts: Parts) -> End {
    let mut driver = Driver::new(machine, parts);
    driver.drain();
    let mut inbox = Inbox::default();
    while driver.end.is_none() {
        // Work without end must not starve the other tasks of a single-threaded runtime.
        tokio::task::coop::consume_budget().await;
        poll_fn(|cx| driver.poll_inbox(cx, &mut inbox)).await;
        driver.pass(&mut inbox);
    }
    driver.finish().await
}

struct Driver<M> {
    machine: M,
    clock: Clock,
    /// Read once per pass.
    now: Now,
    timer: Timer,
    ready: Arc<ReadySet>,
    requests: mpsc::Receiver<Request>,
    arrivals_in: Arrivals,
    arrivals: mpsc::Receiver<Arrival>,
    /// Tasks that live as long as the driver: listeners, and connections to runners.
    tasks: JoinSet<()>,
    links: HashMap<LinkId, Link>,
    link_maker: Arc<LinkMaker>,
    /// Links that may have something to write.
    to_write: Vec<LinkId>,
    /// All links read into this one.
    read_buffer: ReadBuffer,
    frames: Vec<BytesMut>,
    /// Read since links were last written to.
    read_bytes: usize,
    quic: Option<Quic>,
    pipes: HashMap<PipeId, DriverEnd>,
    next_pipe: u64,
    /// Pipes of services that wait for their socket.
    sockets: HashMap<PipeId, oneshot::Sender<services::Connection>>,
    tls: Arc<Tls>,
    config_source: Option<Arc<dyn ConfigSource>>,
    reloading: Reloading,
    /// Where listeners of backends are told to end, and which task that answers.
    listeners: HashMap<BackendId, oneshot::Sender<TaskId>>,
    units: Units,
    worker: Arc<UnitWorker>,
    store: Option<Arc<UnitStore>>,
    app: App,
    /// Outputs carried out in this pass.
    outputs: usize,
    /// The last timeout changed nothing, and the deadline is still due.
    fruitless: bool,
    end: Option<End>,
}

/// What a wake-up brought.
#[derive(Default)]
struct Inbox {
    requests: Vec<Request>,
    sources: Vec<Source>,
    arrivals: Vec<Arrival>,
    /// All handles are gone.
    abandoned: bool,
}

impl<M: Machine> Driver<M> {
    fn new(machine: M, parts: Parts) -> Self {
        let Parts {
            clock,
            store,
            runner,
            quic,
            tls,
            config_source,
            requests,
            events,
            started,
        } = parts;
        let ready = Arc::new(ReadySet::default());
        let link_maker = Arc::new(LinkMaker::new(Arc::clone(&ready)));
        if let Some(quic) = &quic {
            quic.attach(ready.flag(Source::Quic));
        }
        let (arrivals_in, arrivals) = mpsc::channel(ARRIVALS);
        let worker = Arc::new(UnitWorker::new(store.clone(), runner));
        let of_units = Arc::clone(&worker);
        Self {
            machine,
            clock,
            now: clock.now(),
            timer: Timer::default(),
            ready,
            requests,
            units: Units::new(
                Arc::new(move |unit, deed| of_units.run(unit, deed)),
                arrivals_in.clone(),
            ),
            worker,
            arrivals_in,
            arrivals,
            tasks: JoinSet::new(),
            links: HashMap::new(),
            link_maker,
            to_write: Vec::new(),
            read_buffer: ReadBuffer::default(),
            frames: Vec::new(),
            read_bytes: 0,
            quic,
            pipes: HashMap::new(),
            next_pipe: 1,
            sockets: HashMap::new(),
            tls,
            config_source,
            reloading: Reloading::default(),
            listeners: HashMap::new(),
            store,
            app: App::new(events, started),
            outputs: 0,
            fruitless: false,
            end: None,
        }
    }

    /// Looks at every source in turn; ready as soon as one has something, or the deadline has come.
    fn poll_inbox(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<()> {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            if let Err(error) = ended {
                tracing::error!("a task of the adapter died: {error}");
            }
        }
        let deadline = match self.machine.next_deadline() {
            deadline if !self.fruitless => deadline,
            // A deadline that stays due whatever is done: do not spin on it.
            _ => Deadline::At(self.now.mono + FRUITLESS_PAUSE, "fruitless"),
        };
        let due = self.timer.poll_due(cx, self.clock, deadline);
        if self.app.has_room() {
            match self.requests.poll_recv_many(cx, &mut inbox.requests, PASS) {
                Poll::Ready(0) => inbox.abandoned = true,
                Poll::Ready(_) | Poll::Pending => {}
            }
        }
        // A pending answer only says that its waker is in place.
        let _ = self.ready.poll_take(cx, PASS, &mut inbox.sources);
        let _ = self.arrivals.poll_recv_many(cx, &mut inbox.arrivals, PASS);
        let quiet = inbox.requests.is_empty() && inbox.sources.is_empty() && inbox.arrivals.is_empty();
        if quiet && !due && !inbox.abandoned {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    fn pass(&mut self, inbox: &mut Inbox) {
        self.now = self.clock.now();
        self.outputs = 0;
        if self.machine.next_deadline().is_due(self.now.mono) {
            self.input(Input::Timeout);
            self.drain();
            self.fruitless = self.outputs == 0 && self.machine.next_deadline().is_due(self.now.mono);
        } else {
            self.fruitless = false;
        }
        // Before requests: who drops a listener may at once ask for the same service.
        inbox.sources.retain(|&source| match source {
            Source::ListenerDropped(_) | Source::PortDropped(_) => {
                self.on_dropped(source);
                false
            }
            Source::Link(_) | Source::Pipe(_) | Source::Quic => true,
        });
        self.drain();
        for request in inbox.requests.drain(..) {
            self.on_request(request);
            self.drain();
        }
        for source in inbox.sources.drain(..) {
            match source {
                Source::Link(link) => self.on_link_woken(link),
                Source::Pipe(pipe) => self.on_pipe_news(pipe),
                Source::Quic => self.on_quic_news(),
                Source::ListenerDropped(_) | Source::PortDropped(_) => {}
            }
            self.drain();
            if self.read_bytes > READ_BYTES {
                self.write_links();
                self.now = self.clock.now();
            }
        }
        for arrival in inbox.arrivals.drain(..) {
            self.on_arrival(arrival);
            self.drain();
        }
        self.write_links();
        if inbox.abandoned {
            self.end.get_or_insert(End::Shutdown);
        }
    }

    /// Tells the machine a fact. That it cannot place it is a fault of this adapter, and no reason to stop.
    fn input(&mut self, input: Input) {
        if let Err(error) = self.machine.handle(self.now, input) {
            tracing::debug!("the node refused an input: {error}");
        }
    }

    /// Carries out everything the machine wants.
    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.outputs += 1;
            match output {
                Output::Link(link, LinkOutput::Ready) => {
                    if let Some(state) = self.links.get_mut(&link) {
                        *state.frames_wait() = true;
                        self.to_write.push(link);
                    }
                }
                Output::Link(link, LinkOutput::Close) => self.close_link(link),
                Output::Pipe(pipe, output) => self.on_pipe_output(pipe, output),
                Output::Secure {
                    cipher,
                    plain,
                    security,
                } => self.secure(cipher, plain, security),
                Output::Open(pipe) => self.await_socket(pipe),
                Output::Quic(message) => {
                    if let Some(quic) = &self.quic {
                        quic.send(message);
                    }
                }
                Output::Task(task, deed) => self.on_task(task, deed),
                Output::Reply(command, reply) => self.on_reply(command, reply),
                Output::Event(event) => self.on_event(event),
                other => tracing::warn!("the node wants something unknown: {other:?}"),
            }
        }
    }

    // Links.

    fn add_link(&mut self, connection: NewLink) -> LinkId {
        let (id, link) = match connection {
            NewLink::Plain(connection) => {
                let (id, flag) = self.link_maker.link();
                (id, Link::plain(connection, flag))
            }
            NewLink::Layered(frames) => (frames.link(), Link::layered(frames)),
        };
        self.links.insert(id, link);
        id
    }

    fn on_link_up(&mut self, backend: BackendId, linked: Linked) {
        let Linked {
            connection,
            remote,
            certified,
        } = linked;
        let link = self.add_link(connection);
        let up = LinkInput::Up {
            backend,
            remote,
            certified,
        };
        self.input(Input::Link(link, up));
        // What came with it counts before the next connection.
        self.on_link_woken(link);
    }

    fn on_link_woken(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_writing() {
            self.to_write.push(id);
        }
        let outcome = link.read(&mut self.read_buffer, &mut self.frames);
        let mut frames = std::mem::take(&mut self.frames);
        for frame in frames.drain(..) {
            self.read_bytes += frame.len();
            self.input(Input::Link(id, LinkInput::Frame(frame)));
        }
        self.frames = frames;
        if let ReadOutcome::Gone(reason) = outcome {
            self.links.remove(&id);
            self.input(Input::Link(id, LinkInput::Down { reason }));
        }
    }

    fn write_links(&mut self) {
        self.read_bytes = 0;
        while let Some(id) = self.to_write.pop() {
            if let Err(reason) = self.write_link(id) {
                self.links.remove(&id);
                self.input(Input::Link(id, LinkInput::Down { reason }));
            }
            // Room in a queue may have let more frames in.
            self.drain();
        }
    }

    /// Pulls and writes until the node has nothing for this link or the connection takes no more.
    fn write_link(&mut self, id: LinkId) -> Result<(), String> {
        let Some(link) = self.links.get_mut(&id) else {
            return Ok(());
        };
        loop {
            match link.write() {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(os_text(&error)),
                Poll::Ready(Ok(())) => {}
            }
            if !*link.frames_wait() {
                return Ok(());
            }
            self.machine.pull_frames(self.now, id, link.room(), &mut self.frames);
            *link.frames_wait() = !self.frames.is_empty();
            link.enqueue(&mut self.frames);
        }
    }

    /// Lets a task flush and close the connection; the end is reported from there, once.
    fn close_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        self.machine.pull_frames(self.now, id, usize::MAX, &mut self.frames);
        link.enqueue(&mut self.frames);
        if let Link::Layered {
            frames,
            frames_wait,
            is_closing,
        } = link
        {
            (*frames_wait, *is_closing) = (false, true);
            return frames.close();
        }
        let Some(Link::Plain(mut link)) = self.links.remove(&id) else {
            return;
        };
        let arrivals = self.arrivals_in.clone();
        tokio::spawn(async move {
            let reason = link.flush_and_shut_down().await;
            // The driver is gone: nobody needs to know.
            let _ = arrivals.send(Arrival::LinkClosed(id, reason)).await;
            link.linger().await;
        });
    }

    // Pipes.

    /// Makes a pipe under a fresh ID.
    fn new_pipe(&mut self) -> (PipeId, LocalEnd) {
        let id = PipeId(self.next_pipe);
        self.next_pipe += 1;
        (id, self.add_pipe(id))
    }

    fn add_pipe(&mut self, id: PipeId) -> LocalEnd {
        let (driver_end, local_end) = adapter::pipe(id, &self.ready);
        self.pipes.insert(id, driver_end);
        local_end
    }

    fn on_pipe_news(&mut self, id: PipeId) {
        let Some(pipe) = self.pipes.get(&id) else { return };
        let LocalNews {
            drained,
            secured,
            data,
            eof,
            closed,
            failure,
        } = pipe.take_news();
        if drained > 0 {
            self.input(Input::Pipe(id, PipeInput::Drained(drained)));
        }
        if secured {
            self.input(Input::Pipe(id, PipeInput::Secured));
        }
        for data in data {
            self.input(Input::Pipe(id, PipeInput::Data(data)));
        }
        if eof {
            self.input(Input::Pipe(id, PipeInput::Eof));
        }
        if closed {
            self.close_pipe(id, failure);
        }
    }

    fn on_pipe_output(&mut self, id: PipeId, output: PipeOutput) {
        let Some(pipe) = self.pipes.get(&id) else { return };
        match output {
            PipeOutput::Begin(layer) => pipe.begin(layer),
            PipeOutput::Data(data) => pipe.deliver(data),
            PipeOutput::Eof => pipe.deliver_eof(),
            PipeOutput::Credit(count) => pipe.grant(count),
            PipeOutput::Close => self.close_pipe(id, None),
        }
    }

    /// Whoever closed: the pipe is gone, and the node is told so once.
    fn close_pipe(&mut self, id: PipeId, failure: Option<String>) {
        self.sockets.remove(&id);
        if self.pipes.remove(&id).is_some() {
            let input = failure.map_or(PipeInput::Closed, PipeInput::Failed);
            self.input(Input::Pipe(id, input));
        }
    }

    /// Starts the task that makes and reads the records of a stream which the node itself uses.
    fn secure(&mut self, cipher: PipeId, plain: PipeId, security: Security) {
        let cipher = SecureEnd::begun(self.add_pipe(cipher), Arc::clone(&self.tls), &Layer::Secure(security));
        let plain = self.add_pipe(plain);
        tokio::spawn(adapter::tie(cipher, plain));
    }

    /// Starts the task of a stream that a service accepted.
    fn await_socket(&mut self, pipe: PipeId) {
        let end = SecureEnd::new(self.add_pipe(pipe), Arc::clone(&self.tls));
        let (sender, socket) = oneshot::channel();
        self.sockets.insert(pipe, sender);
        tokio::spawn(services::serve_accepted(socket, end));
    }

    // QUIC.

    fn on_quic_news(&mut self) {
        let messages = self.quic.as_ref().map(Quic::take).unwrap_or_default();
        for message in messages {
            self.input(Input::Quic(message));
        }
    }

    // The end.

    /// Lets the machine say farewell, sends what is queued, then closes everything.
    async fn finish(mut self) -> End {
        self.now = self.clock.now();
        self.input(Input::Shutdown);
        self.drain();
        self.tasks.abort_all();
        let mut closing = JoinSet::new();
        for (id, mut link) in self.links.drain() {
            self.machine.pull_frames(self.now, id, usize::MAX, &mut self.frames);
            link.enqueue(&mut self.frames);
            closing.spawn(async move {
                match link {
                    Link::Plain(mut link) => {
                        link.flush_and_shut_down().await;
                        // Else a peer that still writes finds the connection broken, and may lose what it has not yet read.
                        link.linger().await;
                    }
                    Link::Layered { frames, .. } => {
                        frames.close();
                        poll_fn(|cx| frames.poll_ended(cx)).await;
                    }
                }
            });
        }
        // Who is not done by then is cut off.
        let _ = tokio::time::timeout(SHUTDOWN_LIMIT, closing.join_all()).await;
        self.ready.close();
        self.tasks.shutdown().await;
        self.end.take().unwrap_or(End::Died)
    }
}

impl<M> Drop for Driver<M> {
    fn drop(&mut self) {
        // Also when the machine panicked: raised flags must not keep their sources alive.
        self.ready.close();
    }
}

#[cfg(test)]
mod tests;
