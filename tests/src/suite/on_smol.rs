//! `receptor-smol` on an executor that has a thread of its own.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Async, Timer};
use futures_lite::future;
use futures_lite::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use receptor_core::config::Config;
use receptor_core::firewall::Rules;
use receptor_core::id::{BackendId, NodeId, ServiceName};
use receptor_core::netceptor::TraceHop;
use receptor_smol::{Mesh, MeshError, MeshEvent, MeshStream, PacketSocket, ReceiveError};
use serde_json::Value;

use super::PATIENCE;
use super::adapter::{
    Adapter, Datagram, End, Error, Event, Events, Listener, Node, Options, Pace, Packet, Reader, StartError, Stream,
    Tags, Writer,
};

/// A fresh executor.
pub fn adapter() -> Arc<dyn Adapter> {
    let executor = Arc::new(Executor::new());
    let (stop, stopped) = async_channel::bounded::<()>(1);
    let running = Arc::clone(&executor);
    let thread = thread::spawn(move || {
        // An error says that the other end is gone: that is the signal.
        let _ = async_io::block_on(running.run(stopped.recv()));
    });
    Arc::new(Smol {
        run: Run,
        executor,
        stop: Some(stop),
        thread: Some(thread),
    })
}

struct Smol {
    run: Run,
    executor: Arc<Executor<'static>>,
    stop: Option<async_channel::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Smol {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(
            thread::panicking() || !matches!(ended, Some(Err(_))),
            "the executor's thread died"
        );
    }
}

/// Waits for futures.
#[derive(Clone, Copy)]
struct Run;

impl Run {
    fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
        let limited = async {
            Timer::after(limit).await;
            Err(Error::TimedOut)
        };
        async_io::block_on(future::or(async { Ok(future.await) }, limited))
    }

    fn ask<T>(&self, future: impl Future<Output = Result<T, MeshError>>) -> Result<T, Error> {
        self.within(PATIENCE, future)?.map_err(error)
    }

    fn io<T>(&self, limit: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.within(limit, future)
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn stream(&self, stream: MeshStream) -> Stream {
        let peer = stream.peer().cloned();
        let (reader, writer) = futures_lite::io::split(stream);
        Stream {
            reader: Box::new(ReadEnd(*self, reader)),
            writer: Box::new(WriteEnd(*self, writer)),
            peer,
        }
    }
}

fn error(error: MeshError) -> Error {
    match error {
        MeshError::Closed => Error::Closed,
        other => Error::Refused(other.to_string()),
    }
}

impl Adapter for Smol {
    fn start(&self, config: Config, options: Options) -> Result<Box<dyn Node>, StartError> {
        let mut given = receptor_smol::Options::default();
        given.data_dir = options.data_dir;
        given.runner = options.runner;
        given.tls = options.tls;
        given.config_source = options.config_source;
        let executor = Arc::clone(&self.executor);
        let spawn = move |task| executor.spawn(task).detach();
        let started = self.run.within(PATIENCE, Mesh::start(config, given, spawn));
        let started = started.map_err(|error| StartError::Other(format!("{error:?}")))?;
        let mesh = started.map_err(|error| match error {
            receptor_smol::StartError::Config(text) => StartError::Config(text),
            receptor_smol::StartError::DataDir(text) => StartError::DataDir(text),
            receptor_smol::StartError::Start(text) => StartError::Start(text),
            other => StartError::Other(other.to_string()),
        })?;
        Ok(Box::new(OneNode { run: self.run, mesh }))
    }

    fn is_idle(&self) -> bool {
        self.executor.is_empty()
    }
}

struct OneNode {
    run: Run,
    mesh: Mesh,
}

impl Node for OneNode {
    fn listen(&self, service: &str, advertise: Option<Tags>) -> Result<Box<dyn Listener>, Error> {
        let listener = match advertise {
            Some(tags) => self.run.ask(self.mesh.listen_advertised(service, tags))?,
            None => self.run.ask(self.mesh.listen(service))?,
        };
        Ok(Box::new(OneListener(self.run, listener)))
    }

    fn listen_tls(&self, service: &str, tls: &str) -> Result<Box<dyn Listener>, Error> {
        let listener = self.run.ask(self.mesh.listen_tls(service, None, tls))?;
        Ok(Box::new(OneListener(self.run, listener)))
    }

    fn dial_tls(&self, node: &str, service: &str, tls: &str) -> Result<Stream, Error> {
        let stream = self.run.ask(self.mesh.dial_tls(node, service, tls))?;
        Ok(self.run.stream(stream))
    }

    fn dial(&self, node: &str, service: &str) -> Result<Stream, Error> {
        let stream = self.run.ask(self.mesh.dial(node, service))?;
        Ok(self.run.stream(stream))
    }

    fn packet(&self, service: &str, advertise: Option<Tags>) -> Result<Box<dyn Packet>, Error> {
        let socket = match advertise {
            Some(tags) => self.run.ask(self.mesh.packet_advertised(service, tags))?,
            None => self.run.ask(self.mesh.packet(service))?,
        };
        Ok(Box::new(OnePacket(self.run, socket)))
    }

    fn attach(&self, backend: BackendId, connection: UnixStream, remote: &str, pace: Pace) -> Result<(), Error> {
        let attached = async {
            let connection = Async::new(connection).expect("it is a socket");
            match pace {
                Pace::Whole => self.mesh.attach(backend, connection, remote).await,
                Pace::OneByte => self.mesh.attach(backend, OneByte::new(connection), remote).await,
            }
        };
        self.run.ask(attached)
    }

    fn ping(&self, node: &str, limit: Duration) -> Result<NodeId, Error> {
        let pong = self.run.within(limit, self.mesh.ping(node))?;
        Ok(pong.map_err(error)?.from)
    }

    fn traceroute(&self, node: &str) -> Result<Vec<TraceHop>, Error> {
        self.run.ask(self.mesh.traceroute(node))
    }

    fn status(&self) -> Result<Value, Error> {
        let text = self.run.ask(self.mesh.status())?;
        Ok(serde_json::from_str(&text).expect("the status is JSON"))
    }

    fn set_firewall(&self, rules: Rules) -> Result<(), Error> {
        self.run.ask(self.mesh.set_firewall(rules))
    }

    fn reload(&self) -> Result<(), Error> {
        self.run.ask(self.mesh.reload())
    }

    fn events(&self) -> Box<dyn Events> {
        Box::new(TheEvents(self.run, self.mesh.events()))
    }

    fn shutdown(&self) {
        let ended = self.run.within(PATIENCE, self.mesh.shutdown());
        ended.expect("a node can be shut down");
    }

    fn closed(&self) -> End {
        let end = self.run.within(PATIENCE, self.mesh.closed());
        match end.expect("the node ends") {
            receptor_smol::End::Shutdown => End::Shutdown,
            receptor_smol::End::Duplicate => End::Duplicate,
            other => End::Other(other.to_string()),
        }
    }
}

struct OneListener(Run, receptor_smol::Listener);

impl Listener for OneListener {
    fn service(&self) -> ServiceName {
        self.1.service()
    }

    fn accept(&mut self) -> Result<Stream, Error> {
        let stream = self.0.ask(self.1.accept())?;
        Ok(self.0.stream(stream))
    }
}

struct ReadEnd(Run, ReadHalf<MeshStream>);

impl Reader for ReadEnd {
    fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        self.0.io(limit, self.1.read(buffer))
    }
}

struct WriteEnd(Run, WriteHalf<MeshStream>);

impl Writer for WriteEnd {
    fn write(&mut self, data: &[u8], limit: Duration) -> io::Result<usize> {
        self.0.io(limit, self.1.write(data))
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.0.io(PATIENCE, self.1.close())
    }
}

struct OnePacket(Run, PacketSocket);

impl Packet for OnePacket {
    fn service(&self) -> ServiceName {
        self.1.service()
    }

    fn send_to(&self, data: &[u8], node: &str, service: &str) -> Result<(), Error> {
        self.0.ask(self.1.send_to(data.to_vec(), node, service))
    }

    fn recv_from(&self, limit: Duration) -> Result<Datagram, Error> {
        match self.0.within(limit, self.1.recv_from())? {
            Ok(datagram) => Ok(Datagram {
                from: datagram.from,
                from_service: datagram.from_service,
                data: datagram.data.to_vec(),
            }),
            Err(ReceiveError::Unreachable(report)) => Err(Error::Unreachable {
                to: report.to,
                problem: report.problem,
            }),
            Err(ReceiveError::Closed) => Err(Error::Closed),
        }
    }

    fn lost(&self) -> u64 {
        self.1.lost()
    }
}

struct TheEvents(Run, receptor_smol::Events);

impl Events for TheEvents {
    fn next(&mut self) -> Result<Option<Event>, Error> {
        let event = self.0.within(PATIENCE, self.1.next())?;
        Ok(event.map(|event| match event {
            MeshEvent::RoutesChanged => Event::RoutesChanged,
            MeshEvent::Log(_, text) => Event::Log(text.to_string()),
            MeshEvent::Lost(count) => Event::Lost(count),
            other => Event::Other(format!("{other:?}")),
        }))
    }
}

/// A connection at [`Pace::OneByte`].
struct OneByte<C> {
    inner: C,
    rested: [bool; 2],
}

impl<C> OneByte<C> {
    fn new(inner: C) -> Self {
        Self {
            inner,
            rested: [false; 2],
        }
    }

    /// Whether this call of one direction is to find nothing ready.
    fn rests(&mut self, direction: usize, cx: &Context<'_>) -> bool {
        let rested = &mut self.rested[direction];
        *rested = !*rested;
        if *rested {
            cx.waker().wake_by_ref();
        }
        *rested
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for OneByte<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.rests(0, cx) {
            return Poll::Pending;
        }
        let one = buf.len().min(1);
        Pin::new(&mut self.inner).poll_read(cx, &mut buf[..one])
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for OneByte<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.rests(1, cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
