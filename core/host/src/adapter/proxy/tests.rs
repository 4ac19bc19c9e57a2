//! A proxy between a real socket and the end of a stream whose bytes are carried by hand.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;

use receptor_core::id::PipeId;
use receptor_core::node::io::{Layer, PIPE_WINDOW, Role, Security};
use socket2::SockRef;

use super::super::{DriverEnd, LocalNews, ReadySet, Tls, pipe};
use super::*;

#[derive(Debug)]
struct TestSocket(TcpStream);

fn poll_call(
    socket: &TcpStream,
    call: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
) -> Poll<io::Result<usize>> {
    match call(socket.as_fd()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result.map(|progress| progress.count)),
    }
}

impl LocalSocket for TestSocket {
    fn poll_read(
        &self,
        _: &mut Context<'_>,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        poll_call(&self.0, read)
    }

    fn poll_write(
        &self,
        _: &mut Context<'_>,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<Progress>,
    ) -> Poll<io::Result<usize>> {
        poll_call(&self.0, write)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the nodes at both ends know of their pipe.
struct Side {
    driver: Option<DriverEnd>,
    secured: bool,
    /// The local side has said that it will send no more.
    eof: bool,
    closed: bool,
    failure: Option<String>,
}

impl Side {
    fn new() -> (Self, SecureEnd) {
        let (driver, local) = pipe(PipeId(1), &Arc::new(ReadySet::default()));
        let side = Self {
            driver: Some(driver),
            secured: false,
            eof: false,
            closed: false,
            failure: None,
        };
        (side, SecureEnd::new(local, Arc::new(Tls::default())))
    }
}

/// A connection of a service up to the end of its stream in another node.
struct Bench {
    proxy: Option<Proxy<TestSocket>>,
    near: Side,
    far: Side,
    far_end: SecureEnd,
    /// Who has connected.
    client: TcpStream,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn bench() -> Bench {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    bench_with(client, socket)
}

/// A connection that takes some thousand bytes before somebody reads them. Over Unix sockets: they never wait for a timer.
fn narrow_bench() -> Bench {
    let (client, socket) = UnixStream::pair().unwrap();
    SockRef::from(&socket).set_send_buffer_size(5000).unwrap();
    // Reading and writing is the same for both.
    bench_with(OwnedFd::from(client).into(), OwnedFd::from(socket).into())
}

fn bench_with(client: TcpStream, socket: TcpStream) -> Bench {
    socket.set_nonblocking(true).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ((near, near_end), (far, far_end)) = (Side::new(), Side::new());
    Bench {
        proxy: Some(Proxy::new(LocalConnection::plain(TestSocket(socket)), near_end)),
        near,
        far,
        far_end,
        client,
    }
}

fn connected(is_secure: bool) -> Bench {
    let mut bench = bench();
    bench.begin(is_secure);
    bench
}

/// Carries what one side did to the other.
fn carry(from: &mut Side, to: &mut Side) {
    let Some(driver) = &from.driver else { return };
    let LocalNews {
        secured,
        data,
        eof,
        closed,
        failure,
        ..
    } = driver.take_news();
    for data in data {
        driver.grant(data.len());
        if let Some(to) = &to.driver {
            to.deliver(data);
        }
    }
    if let (true, Some(to)) = (eof, &to.driver) {
        to.deliver_eof();
    }
    from.secured |= secured;
    from.eof |= eof;
    from.closed |= closed;
    if closed {
        from.driver = None;
        from.failure = failure;
    }
}

impl Bench {
    fn begin(&mut self, is_secure: bool) {
        let layer = |role| match is_secure {
            true => Layer::Secure(Security::anonymous(role)),
            false => Layer::Plain,
        };
        self.near.driver.as_ref().unwrap().begin(layer(Role::Client));
        self.far.driver.as_ref().unwrap().begin(layer(Role::Server));
        for _ in 0..8 {
            assert!(self.poll().is_pending());
            let _ = self.far_end.poll_handshake(&mut cx());
            carry(&mut self.near, &mut self.far);
            carry(&mut self.far, &mut self.near);
        }
        assert!(self.far_end.poll_handshake(&mut cx()).is_ready());
        assert_eq!((self.near.secured, self.far.secured), (is_secure, is_secure));
    }

    /// One turn; the proxy is dropped when it is ready, as its task would.
    fn poll(&mut self) -> Poll<()> {
        let proxy = self.proxy.as_mut().expect("the proxy is still there");
        let ended = proxy.poll(&mut cx());
        if ended.is_ready() {
            self.proxy = None;
        }
        carry(&mut self.near, &mut self.far);
        carry(&mut self.far, &mut self.near);
        ended
    }

    /// Turns until the proxy has ended.
    fn end(&mut self) {
        for _ in 0..1000 {
            if self.proxy.is_none() || self.poll().is_ready() {
                return;
            }
            self.read_far(0);
        }
        panic!("not over");
    }

    /// What the far end got, up to so many bytes, and what was found behind it.
    fn read_far(&mut self, most: usize) -> (Vec<u8>, Option<Incoming>) {
        let mut all = Vec::new();
        while all.len() < most {
            match self.far_end.poll_read(&mut cx(), most - all.len()) {
                Poll::Ready(Incoming::Data(data)) => all.extend_from_slice(&data),
                Poll::Ready(end) => return (all, Some(end)),
                Poll::Pending => return (all, None),
            }
        }
        (all, None)
    }

    /// Turns until the far end got so many bytes.
    fn expect_far(&mut self, expected: &[u8]) {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            if self.proxy.is_some() {
                let _ = self.poll();
            }
            let (data, end) = self.read_far(expected.len() - all.len());
            all.extend_from_slice(&data);
            if all.len() == expected.len() {
                break;
            }
            assert_eq!(end, None, "after {} bytes", all.len());
        }
        assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
    }

    fn expect_far_eof(&mut self) {
        for _ in 0..1000 {
            if self.proxy.is_some() {
                let _ = self.poll();
            }
            if let (_, Some(end)) = self.read_far(1) {
                return assert_eq!(end, Incoming::Eof);
            }
        }
        panic!("no end");
    }

    fn write_far(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            match self.far_end.poll_write(&mut cx(), data) {
                Poll::Ready(count) => data = &data[count.expect("it is open")..],
                Poll::Pending => {}
            }
            carry(&mut self.far, &mut self.near);
        }
    }

    /// The client breaks the connection off.
    fn break_client(&mut self) {
        local_socket::break_off(&self.client);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }

    fn expect_client(&mut self, expected: &[u8]) {
        let mut all = vec![0; expected.len()];
        self.client.read_exact(&mut all).unwrap();
        assert!(all == expected);
    }

    fn expect_client_reset(&mut self) {
        let error = self
            .client
            .read(&mut [0])
            .expect_err("nothing came, and no ordinary end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways_through_small_writes() {
    for is_secure in [true, false] {
        let mut bench = narrow_bench();
        bench.begin(is_secure);
        let (data, mut at, mut got) = (pattern(PIPE_WINDOW), 0, Vec::new());
        bench.client.set_nonblocking(true).unwrap();
        let mut stalls = 0;
        while got.len() < data.len() {
            if at < data.len()
                && let Poll::Ready(count) = bench.far_end.poll_write(&mut cx(), &data[at..])
            {
                at += count.unwrap();
            }
            assert!(bench.poll().is_pending());
            let held = bench.proxy.as_ref().unwrap().inbound_bytes;
            assert!(held <= WRITE_MOST + WRITE_MOST, "{held} bytes are held");
            stalls += usize::from(held > 0);
            let mut piece = [0; 1777];
            match bench.client.read(&mut piece) {
                Ok(count) => got.extend_from_slice(&piece[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(got == data);
        assert!(stalls > 10, "the socket took everything at once");
        bench.client.set_nonblocking(false).unwrap();

        // More than the window, so that credit has to come in between.
        let data = pattern(PIPE_WINDOW * 2 + 77);
        let (client, sent) = (bench.client.try_clone().unwrap(), data.clone());
        std::thread::scope(|scope| {
            scope.spawn(move || (&client).write_all(&sent).unwrap());
            bench.expect_far(&data);
        });
    }
}

#[test]
fn each_half_closes_on_its_own() {
    for is_secure in [true, false] {
        let mut bench = connected(is_secure);
        bench.client.write_all(b"question").unwrap();
        bench.client.shutdown(Shutdown::Write).unwrap();
        bench.expect_far(b"question");
        bench.expect_far_eof();
        bench.write_far(b"answer");
        assert!(bench.poll().is_pending());
        bench.expect_client(b"answer");
        assert_eq!(bench.far_end.poll_shut_down(&mut cx()), Poll::Ready(Some(())));
        carry(&mut bench.far, &mut bench.near);
        bench.end();
        assert_eq!(bench.client.read(&mut [0]).unwrap(), 0);
        assert!(bench.near.eof && bench.near.closed && bench.near.failure.is_none());

        let mut bench = connected(is_secure);
        bench.write_far(b"greeting");
        assert_eq!(bench.far_end.poll_shut_down(&mut cx()), Poll::Ready(Some(())));
        carry(&mut bench.far, &mut bench.near);
        assert!(bench.poll().is_pending());
        bench.expect_client(b"greeting");
        assert_eq!(bench.client.read(&mut [0]).unwrap(), 0);
        bench.client.write_all(b"and more").unwrap();
        bench.expect_far(b"and more");
        assert!(!bench.near.eof);
        drop(bench.client.try_clone().map(|client| client.shutdown(Shutdown::Write)));
        bench.end();
        bench.expect_far_eof();
        assert!(bench.near.eof && bench.near.closed && bench.near.failure.is_none());
    }
}

#[test]
fn a_stream_that_breaks_breaks_the_socket_after_the_last_bytes() {
    for is_secure in [true, false] {
        let mut bench = connected(is_secure);
        bench.write_far(b"last words");
        bench.near.driver = None;
        bench.end();
        bench.expect_client(b"last words");
        bench.expect_client_reset();
    }
}

#[test]
fn an_end_that_nobody_announced_breaks_the_socket_and_is_told() {
    let mut bench = connected(true);
    bench.write_far(b"half of it");
    bench.near.driver.as_ref().unwrap().deliver_eof();
    bench.end();
    bench.expect_client(b"half of it");
    bench.expect_client_reset();
    let reason = "TLS: stream ended without close_notify";
    assert_eq!(bench.near.failure.as_deref(), Some(reason));
}

#[test]
fn a_handshake_that_fails_breaks_the_socket_and_is_told() {
    let mut bench = bench();
    bench.client.write_all(b"request").unwrap();
    let driver = bench.near.driver.as_ref().unwrap();
    driver.begin(Layer::Secure(Security::anonymous(Role::Client)));
    driver.deliver(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    bench.end();
    let failure = bench.near.failure.as_deref().unwrap();
    assert!(failure.starts_with("handshake failed: TLS: "), "{failure}");
    assert!(!bench.near.eof);
    bench.expect_client_reset();
}

#[test]
fn a_dial_that_fails_breaks_the_socket() {
    let mut bench = bench();
    assert!(bench.poll().is_pending());
    bench.near.driver = None;
    assert!(bench.poll().is_ready());
    bench.expect_client_reset();
}

#[test]
fn a_socket_that_breaks_is_no_ordinary_end_and_what_it_said_is_delivered() {
    for is_secure in [true, false] {
        let mut bench = connected(is_secure);
        bench.client.write_all(b"last words").unwrap();
        bench.expect_far(b"last words");
        bench.break_client();
        bench.end();
        // The node sees a pipe that was closed without its end: it tells the far side.
        assert!(bench.near.closed && !bench.near.eof && bench.near.failure.is_none());
        if is_secure {
            bench.expect_far_eof();
        }
    }
}

#[test]
fn who_leaves_in_peace_while_the_stream_is_opened_is_heard() {
    let mut bench = bench();
    bench.client.write_all(b"last words").unwrap();
    bench.client.shutdown(Shutdown::Both).unwrap();
    for _ in 0..3 {
        assert!(bench.poll().is_pending());
        let proxy = bench.proxy.as_mut().unwrap();
        assert!(proxy.wants_tick() && proxy.tick().is_pending());
    }
    bench.begin(true);
    bench.expect_far(b"last words");
    bench.expect_far_eof();
    assert!(bench.near.eof);
}

#[test]
fn who_breaks_off_while_the_stream_is_opened_needs_none() {
    for is_quiet in [true, false] {
        let mut bench = bench();
        assert!(bench.poll().is_pending());
        if !is_quiet {
            bench.client.write_all(b"half a request").unwrap();
            assert!(bench.poll().is_pending());
            bench.client.write_all(b"and a bit").unwrap();
        }
        bench.break_client();
        let proxy = bench.proxy.as_mut().unwrap();
        assert!(proxy.wants_tick());
        assert!(proxy.tick().is_ready());
        bench.proxy = None;
        carry(&mut bench.near, &mut bench.far);
        assert!(bench.near.closed && !bench.near.eof);
    }
}

#[test]
fn a_closed_stream_waits_for_a_socket_that_takes_nothing_only_so_long() {
    let mut bench = narrow_bench();
    bench.begin(true);
    bench.write_far(&pattern(PIPE_WINDOW / 2));
    bench.near.driver = None;
    assert!(bench.poll().is_pending());
    let proxy = bench.proxy.as_mut().unwrap();
    let ticks = (1..)
        .take_while(|_| proxy.wants_tick() && proxy.tick().is_pending())
        .count();
    assert_eq!(ticks as u32, LAST_TICKS - 1);
}
