//! Two ends whose pipes are carried by hand, as two nodes and the mesh between them would.

use std::task::Waker;

use receptor_core::id::PipeId;
use receptor_core::node::io::{PIPE_WINDOW, Role, Security};

use super::super::{DriverEnd, ReadySet, pipe};
use super::*;

struct Side {
    driver: Option<DriverEnd>,
    end: SecureEnd,
    secured: bool,
    failure: Option<String>,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn side(layer: &Layer) -> Side {
    let (driver, local) = pipe(PipeId(1), &Arc::new(ReadySet::default()));
    Side {
        driver: Some(driver),
        end: SecureEnd::begun(local, Arc::new(Tls::default()), layer),
        secured: false,
        failure: None,
    }
}

fn secure(role: Role) -> Side {
    side(&Layer::Secure(Security::anonymous(role)))
}

/// Carries what one side did to the other; says how many bytes.
fn carry(from: &mut Side, to: &mut Side) -> usize {
    let Some(driver) = &from.driver else { return 0 };
    let news = driver.take_news();
    let mut count = 0;
    for data in news.data {
        count += data.len();
        driver.grant(data.len());
        if let Some(to) = &to.driver {
            to.deliver(data);
        }
    }
    if let (true, Some(to)) = (news.eof, &to.driver) {
        to.deliver_eof();
    }
    from.secured |= news.secured;
    if news.closed {
        from.failure = news.failure;
        from.driver = None;
        to.driver = None;
    }
    count
}

fn handshake(a: &mut Side, b: &mut Side) -> (Poll<bool>, Poll<bool>) {
    for _ in 0..8 {
        let _ = (a.end.poll_handshake(&mut cx()), b.end.poll_handshake(&mut cx()));
        carry(a, b);
        carry(b, a);
    }
    (a.end.poll_handshake(&mut cx()), b.end.poll_handshake(&mut cx()))
}

fn connected() -> (Side, Side) {
    let (mut client, mut server) = (secure(Role::Client), secure(Role::Server));
    assert_eq!(
        handshake(&mut client, &mut server),
        (Poll::Ready(true), Poll::Ready(true))
    );
    assert!(client.secured && server.secured);
    (client, server)
}

#[test]
fn bytes_and_ends_go_through_while_credit_is_short() {
    let (mut client, mut server) = connected();
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut read) = (Bytes::from(data.clone()), Vec::new());
    while read.len() < data.len() {
        // As much as the window takes, and not a byte more.
        let mut under_way = 0;
        while !sent.is_empty() {
            match client.end.poll_write_bytes(&mut cx(), &mut sent) {
                Poll::Ready(written) => written.unwrap(),
                Poll::Pending => break,
            }
        }
        if sent.is_empty() {
            assert_eq!(client.end.poll_shut_down(&mut cx()), Poll::Ready(Some(())));
            assert_eq!(client.end.poll_write(&mut cx(), b"more"), Poll::Ready(None));
        }
        under_way += carry(&mut client, &mut server);
        assert!(under_way <= PIPE_WINDOW);
        while let Poll::Ready(Incoming::Data(data)) = server.end.poll_read(&mut cx(), 10_000) {
            assert!(data.len() <= 10_000);
            read.extend_from_slice(&data);
        }
    }
    assert!(read == data);
    assert_eq!(server.end.poll_read(&mut cx(), 1), Poll::Ready(Incoming::Eof));
    assert_eq!(server.end.poll_write(&mut cx(), b"answer"), Poll::Ready(Some(6)));
    carry(&mut server, &mut client);
    let answer = Incoming::Data(Bytes::from_static(b"answer"));
    assert_eq!(client.end.poll_read(&mut cx(), 100), Poll::Ready(answer));
    assert!(client.end.poll_read(&mut cx(), 100).is_pending());
}

#[test]
fn an_end_that_nobody_announced_is_a_failure_that_is_told() {
    let (mut client, mut server) = connected();
    assert_eq!(client.end.poll_write(&mut cx(), b"half of it"), Poll::Ready(Some(10)));
    carry(&mut client, &mut server);
    server.driver.as_ref().unwrap().deliver_eof();
    let Poll::Ready(Incoming::Data(_)) = server.end.poll_read(&mut cx(), 100) else {
        panic!("what came is there")
    };
    assert_eq!(server.end.poll_read(&mut cx(), 100), Poll::Ready(Incoming::Closed));
    let reason = "TLS: stream ended without close_notify";
    assert_eq!(server.end.failure().as_deref(), Some(reason));
    carry(&mut server, &mut client);
    assert_eq!(server.failure.as_deref(), Some(reason));
    assert_eq!(server.end.poll_write(&mut cx(), b"x"), Poll::Ready(None));
}

#[test]
fn who_speaks_no_tls_is_refused_by_name() {
    let (mut client, mut plain) = (secure(Role::Client), side(&Layer::Plain));
    assert_eq!(plain.end.poll_handshake(&mut cx()), Poll::Ready(true));
    let greeting = b"Receptor Control, node x\n";
    assert_eq!(
        plain.end.poll_write(&mut cx(), greeting),
        Poll::Ready(Some(greeting.len()))
    );
    let (failed, _) = handshake(&mut client, &mut plain);
    assert_eq!(failed, Poll::Ready(false));
    let failure = client.failure.unwrap();
    assert!(failure.starts_with("handshake failed: TLS: "), "{failure}");
}

#[test]
fn a_config_that_does_not_exist_fails_at_once() {
    let mut security = Security::anonymous(Role::Client);
    security.config = Some("nobody".to_owned());
    let mut side = side(&Layer::Secure(security));
    assert_eq!(side.end.poll_handshake(&mut cx()), Poll::Ready(false));
    carry(&mut side, &mut secure(Role::Server));
    assert_eq!(side.failure.as_deref(), Some("unknown TLS config nobody"));
}

#[test]
fn a_pipe_that_is_closed_ends_the_handshake() {
    let mut client = secure(Role::Client);
    assert!(client.end.poll_handshake(&mut cx()).is_pending());
    client.driver = None;
    assert_eq!(client.end.poll_handshake(&mut cx()), Poll::Ready(false));
    assert!(client.end.failure().is_some());
}

#[test]
fn an_end_that_is_dropped_says_so_even_without_credit() {
    let (mut client, mut server) = connected();
    let mut endless = Bytes::from(vec![1; 2 * PIPE_WINDOW]);
    while client.end.poll_write_bytes(&mut cx(), &mut endless).is_ready() {}
    drop(std::mem::replace(&mut client.end, secure(Role::Client).end));
    carry(&mut client, &mut server);
    // The node has closed both pipes by then; what was delivered before can be read to its end.
    let end = loop {
        match server.end.poll_read(&mut cx(), usize::MAX) {
            Poll::Ready(Incoming::Data(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end, Poll::Ready(Incoming::Eof));
}
