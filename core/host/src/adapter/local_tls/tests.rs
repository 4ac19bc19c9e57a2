//! Both ends of a connection, whose bytes go through a real socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::task::Waker;

use receptor_core::id::NodeId;
use receptor_core::tls::{ClientSettings, Configs, Pem, ServerSettings};
use rustls::time_provider::DefaultTimeProvider;

use super::*;

#[derive(Debug)]
struct TestSocket(UnixStream);

fn poll_call(
    socket: &UnixStream,
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

type End = LocalConnection<TestSocket>;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A server `s` and a client `c` that trusts it.
fn configs() -> Configs {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let cert = Pem::new("cert", certificate.pem());
    let server = ServerSettings {
        skip_receptor_names_check: true,
        ..ServerSettings::new("s", cert.clone(), Pem::new("key", key.serialize_pem()))
    };
    let client = ClientSettings {
        root_cas: Some(cert),
        ..ClientSettings::new("c")
    };
    let clock = Arc::new(DefaultTimeProvider);
    Configs::new(&NodeId::new("n"), &[server], &[client], None, clock).unwrap()
}

fn ends(host: &str) -> (End, End) {
    let configs = configs();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let (config, name) = configs.link_client("c", host, &[]).unwrap();
    let client = End::client(TestSocket(near), config, name).unwrap();
    let server = End::server(TestSocket(far), configs.link_server("s", &[]).unwrap()).unwrap();
    (client, server)
}

fn connected() -> (End, End) {
    let (mut client, mut server) = ends("localhost");
    let mut done = (false, false);
    while done != (true, true) {
        done.0 |= client.poll_handshake(&mut cx()) == Poll::Ready(Ok(()));
        done.1 |= server.poll_handshake(&mut cx()) == Poll::Ready(Ok(()));
    }
    (client, server)
}

impl End {
    fn read(&mut self) -> Poll<io::Result<Option<Bytes>>> {
        self.tls.as_mut().unwrap().poll_read(&mut cx(), &self.socket)
    }

    fn write(&mut self, pieces: &[&'static [u8]]) -> Poll<io::Result<usize>> {
        let pieces = pieces.iter().copied().map(Bytes::from_static).collect();
        self.tls.as_mut().unwrap().poll_write(&mut cx(), &self.socket, &pieces)
    }

    fn finish(&mut self) -> bool {
        self.tls
            .as_mut()
            .unwrap()
            .poll_finish(&mut cx(), &self.socket)
            .is_ready()
    }
}

fn data(read: Poll<io::Result<Option<Bytes>>>) -> Bytes {
    match read {
        Poll::Ready(Ok(Some(data))) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_and_ends_go_both_ways() {
    let (mut client, mut server) = connected();
    assert!(matches!(client.write(&[b"a ", b"question"]), Poll::Ready(Ok(10))));
    assert_eq!(data(server.read()), b"a question"[..]);
    assert!(server.read().is_pending());
    assert!(client.finish());
    assert!(matches!(server.read(), Poll::Ready(Ok(None))));
    // The other half goes on.
    assert!(matches!(server.write(&[&[7; 40_000]]), Poll::Ready(Ok(40_000))));
    let mut received = 0;
    while received < 40_000 {
        received += data(client.read()).len();
    }
    assert!(server.finish());
    assert!(matches!(client.read(), Poll::Ready(Ok(None))));
    assert!(matches!(client.write(&[b"more"]), Poll::Ready(Err(_))), "after its end");
}

#[test]
fn what_the_socket_does_not_take_waits() {
    static LONG: [u8; 64 << 10] = [3; 64 << 10];
    let (mut client, mut server) = connected();
    let mut written = 0;
    while let Poll::Ready(sent) = client.write(&[&LONG]) {
        written += sent.unwrap();
    }
    let mut received = 0;
    while received < written {
        while let Poll::Ready(Ok(Some(data))) = server.read() {
            received += data.len();
        }
        let _ = client.tls.as_mut().unwrap().poll_flush(&mut cx(), &client.socket);
    }
    assert_eq!(received, written);
}

/// As the Python client does it.
#[test]
fn an_end_below_tls_is_an_end_between_records_only() {
    let (mut client, mut server) = connected();
    assert!(matches!(client.write(&[b"status\n"]), Poll::Ready(Ok(7))));
    client.socket.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(data(server.read()), b"status\n"[..]);
    assert!(matches!(server.read(), Poll::Ready(Ok(None))));
    assert!(matches!(server.write(&[b"{}"]), Poll::Ready(Ok(2))));
    assert_eq!(data(client.read()), b"{}"[..]);

    let (client, mut server) = connected();
    (&client.socket.0).write_all(&[23, 3, 3, 0, 100, 1, 2]).unwrap();
    client.socket.0.shutdown(Shutdown::Write).unwrap();
    match server.read() {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_handshake_that_fails_says_why_on_both_ends() {
    let (mut client, mut server) = ends("example.org");
    let (refused, told) = loop {
        let refused = client.poll_handshake(&mut cx());
        let told = server.poll_handshake(&mut cx());
        if let (Poll::Ready(Err(refused)), Poll::Ready(Err(told))) = (refused, told) {
            break (refused, told);
        }
    };
    assert!(refused.contains("not valid for name \"example.org\""), "{refused}");
    assert_eq!(told, "tls: bad certificate");

    let (client, mut server) = ends("localhost");
    (&client.socket.0)
        .write_all(b"status\n{\"command\":\"status\"}\n")
        .unwrap();
    assert!(matches!(server.poll_handshake(&mut cx()), Poll::Ready(Err(_))));
    let mut alert = [0; 7];
    (&client.socket.0).read_exact(&mut alert).unwrap();
    assert_eq!(alert[0], 21);

    let (client, mut server) = ends("localhost");
    drop(client);
    assert_eq!(
        server.poll_handshake(&mut cx()),
        Poll::Ready(Err("connection was closed".to_owned()))
    );
}
