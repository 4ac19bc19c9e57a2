//! What proxies answer.

use super::*;
use crate::config::HttpProxy;

fn dialling(credentials: Option<&str>) -> Transport {
    let proxy = HttpProxy {
        address: "proxy:3128".into(),
        credentials: credentials.map(Into::into),
    };
    Transport::lengths().through_proxy("hub:443", &proxy)
}

#[test]
fn credentials_are_sent() {
    assert_eq!(
        text(&mut dialling(Some("me:secret"))),
        "CONNECT hub:443 HTTP/1.1\r\nHost: hub:443\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
}

#[test]
fn bytes_behind_the_answer_belong_to_the_connection() {
    let mut a = dialling(None);
    a.handle_bytes(b"HTTP/1.0 200\r\n\r\n\x02\x00hi");
    assert_eq!(a.poll_frame().unwrap(), b"hi"[..]);
}

#[test]
fn refusals_are_told_in_the_proxys_words() {
    for (answer, error) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            "proxy does not connect: 407 Proxy Authentication Required",
        ),
        (b"HTTP/1.1 2000\r\n\r\n", "proxy does not connect: 2000"),
        (b"HTTP/2 200\r\n\r\n", "proxy does not connect: no HTTP answer"),
        (b"\r\n\r\n", "proxy does not connect: no HTTP answer"),
        (&[b'x'; HEAD_MAX + 1], "handshake longer than 32768 bytes"),
    ] {
        for slice in [1, usize::MAX] {
            let mut a = dialling(None);
            answer.chunks(slice).for_each(|part| a.handle_bytes(part));
            assert_eq!(failure(&a), error);
        }
    }
}
