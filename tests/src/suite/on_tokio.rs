//! `receptor-tokio` on a current-thread runtime, which has a thread of its own.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use receptor_core::config::Config;
use receptor_core::firewall::Rules;
use receptor_core::id::{BackendId, NodeId, ServiceName};
use receptor_core::netceptor::TraceHop;
use receptor_tokio::{Mesh, MeshError, MeshEvent, MeshStream, PacketSocket, ReceiveError};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::PATIENCE;
use super::adapter::{
    Adapter, Datagram, End, Error, Event, Events, Listener, Node, Options, Pace, Packet, Reader, StartError, Stream,
    Tags, Writer,
};

/// Time for what still blocks a thread of the runtime at its end.
const LAST: Duration = Duration::from_secs(1);

/// A fresh runtime.
pub fn adapter() -> Arc<dyn Adapter> {
    let (handle_in, handle) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        handle_in.send(runtime.handle().clone()).expect("it is waited for");
        let _ = runtime.block_on(stopped);
        runtime.shutdown_timeout(LAST);
    });
    Arc::new(Tokio {
        run: Run(handle.recv().expect("the thread sends it")),
        stop: Some(stop),
        thread: Some(thread),
    })
}

struct Tokio {
    run: Run,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Tokio {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(
            thread::panicking() || !matches!(ended, Some(Err(_))),
            "the runtime's thread died"
        );
    }
}

/// Waits for futures.
#[derive(Clone)]
struct Run(Handle);

impl Run {
    fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<T, Error> {
        let bounded = async { timeout(limit, future).await };
        self.0.block_on(bounded).map_err(|_| Error::TimedOut)
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
        let (reader, writer) = tokio::io::split(stream);
        Stream {
            reader: Box::new(ReadEnd(self.clone(), reader)),
            writer: Box::new(WriteEnd(self.clone(), writer)),
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

impl Adapter for Tokio {
    fn start(&self, config: Config, options: Options) -> Result<Box<dyn Node>, StartError> {
        let mut given = receptor_tokio::Options::default();
        given.data_dir = options.data_dir;
        given.runner = options.runner;
        given.tls = options.tls;
        given.config_source = options.config_source;
        let started = self.run.within(PATIENCE, Mesh::start(config, given));
        let started = started.map_err(|error| StartError::Other(format!("{error:?}")))?;
        let mesh = started.map_err(|error| match error {
            receptor_tokio::StartError::Config(text) => StartError::Config(text),
            receptor_tokio::StartError::DataDir(text) => StartError::DataDir(text),
            receptor_tokio::StartError::Start(text) => StartError::Start(text),
            other => StartError::Other(other.to_string()),
        })?;
        Ok(Box::new(OneNode {
            run: self.run.clone(),
            mesh,
        }))
    }

    fn is_idle(&self) -> bool {
        self.run.0.metrics().num_alive_tasks() == 0
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
        Ok(Box::new(OneListener(self.run.clone(), listener)))
    }

    fn listen_tls(&self, service: &str, tls: &str) -> Result<Box<dyn Listener>, Error> {
        let listener = self.run.ask(self.mesh.listen_tls(service, None, tls))?;
        Ok(Box::new(OneListener(self.run.clone(), listener)))
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
        Ok(Box::new(OnePacket(self.run.clone(), socket)))
    }

    fn attach(&self, backend: BackendId, connection: UnixStream, remote: &str, pace: Pace) -> Result<(), Error> {
        let attached = async {
            connection.set_nonblocking(true).expect("a socket can be set");
            let connection = tokio::net::UnixStream::from_std(connection).expect("it is a socket");
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
        Box::new(TheEvents(self.run.clone(), self.mesh.events()))
    }

    fn shutdown(&self) {
        let ended = self.run.within(PATIENCE, self.mesh.shutdown());
        ended.expect("a node can be shut down");
    }

    fn closed(&self) -> End {
        let end = self.run.within(PATIENCE, self.mesh.closed());
        match end.expect("the node ends") {
            receptor_tokio::End::Shutdown => End::Shutdown,
            receptor_tokio::End::Duplicate => End::Duplicate,
            other => End::Other(other.to_string()),
        }
    }
}

struct OneListener(Run, receptor_tokio::Listener);

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
        self.0.io(PATIENCE, self.1.shutdown())
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

struct TheEvents(Run, receptor_tokio::Events);

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
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rests(0, cx) {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
