//! All layers in any slicing.

use super::tls::{client, configs, server};
use super::*;
use crate::config::HttpProxy;

/// Every combination of layers, as a client and a server, and what it is called.
fn pairs() -> Vec<(&'static str, Transport, Transport)> {
    let plain = url("ws://hub/mesh");
    let secure = url("wss://hub/mesh");
    let web = |url| Transport::web_socket_client(url, None).unwrap();
    let (old_client, old_server, _) = configs(true);
    let (new_client, new_server, _) = configs(false);
    vec![
        ("tcp", Transport::lengths(), Transport::lengths()),
        (
            "tls 1.2",
            Transport::lengths().over_tls(client(&old_client, "hub")),
            Transport::lengths().over_tls(server(&old_server)),
        ),
        (
            "tls 1.3",
            Transport::lengths().over_tls(client(&new_client, "hub")),
            Transport::lengths().over_tls(server(&new_server)),
        ),
        ("ws", web(&plain), Transport::web_socket_server("/mesh")),
        (
            "wss",
            web(&secure).over_tls(client(&new_client, "hub")),
            Transport::web_socket_server("/").over_tls(server(&new_server)),
        ),
    ]
}

#[test]
fn any_slicing_gives_the_same_frames() {
    let sizes = [1, 2, 125, 126, 4096, 16_384, 65_535, 3];
    for slice in [1, 2, 3, 17, 1000, 16_384, usize::MAX] {
        for (name, mut a, mut b) in pairs() {
            let [none, nothing] = settle(&mut a, &mut b, slice);
            assert_eq!((none.len(), nothing.len()), (0, 0), "{name}");
            assert!(!a.is_handshaking() && !b.is_handshaking(), "{name}");
            for (index, &size) in sizes.iter().enumerate() {
                a.push_frame(frame(index as u8, size));
                b.push_frame(frame(100 + index as u8, size));
            }
            let out = settle(&mut a, &mut b, slice);
            for (end, base) in out.iter().zip([100, 0]) {
                let expected: Vec<_> = (base..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect();
                assert!(*end == expected, "{name} in slices of {slice}");
            }
            a.finish();
            settle(&mut a, &mut b, slice);
            assert!(a.end().is_none_or(|end| *end == End::Closed), "{name}: {a:?}");
            b.handle_eof();
            assert_eq!(b.end(), Some(&End::Closed), "{name}");
        }
    }
}

#[test]
fn frames_of_the_dialler_may_share_a_segment_with_the_end_of_the_handshake() {
    // All that a server says when it is done, and what it sends at once.
    let mut a = Transport::web_socket_client(&url("ws://hub"), None).unwrap();
    let mut b = Transport::web_socket_server("/");
    carry(&mut a, &mut b, usize::MAX);
    assert!(!b.is_handshaking());
    b.push_frame(frame(7, 5));
    let bytes = b.poll_transmit().unwrap();
    assert!(b.poll_transmit().is_none());
    a.handle_bytes(&bytes);
    assert!(!a.is_handshaking());
    assert_eq!(a.poll_frame().unwrap(), [7; 5][..]);
}

#[test]
fn a_proxy_stands_before_everything() {
    let proxy = HttpProxy {
        address: "proxy:3128".into(),
        credentials: None,
    };
    for slice in [1, 7, usize::MAX] {
        for (name, a, mut b) in pairs() {
            let mut a = a.through_proxy("hub:80", &proxy);
            assert!(a.is_handshaking());
            assert_eq!(
                text(&mut a),
                "CONNECT hub:80 HTTP/1.1\r\nHost: hub:80\r\n\r\n",
                "{name}"
            );
            for part in b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n".chunks(slice) {
                a.handle_bytes(part);
            }
            settle(&mut a, &mut b, slice);
            assert!(!a.is_handshaking(), "{name}");
            b.push_frame(frame(1, 1));
            let [frames, _] = settle(&mut a, &mut b, slice);
            assert_eq!(frames, [[1]], "{name}");
        }
    }
}

#[test]
fn an_idle_link_holds_no_buffers() {
    let (client_config, server_config, _) = configs(false);
    let mut a = Transport::lengths().over_tls(client(&client_config, "hub"));
    let mut b = Transport::lengths().over_tls(server(&server_config));
    settle(&mut a, &mut b, 1000);
    a.push_frame(frame(1, 60_000));
    settle(&mut a, &mut b, 1000);
    let Framing::Lengths(incoming) = &b.framing else {
        panic!()
    };
    assert_eq!((incoming.capacity(), a.plain.capacity()), (0, 0));
}
