//! Every row of the table in `wire.md` §3.4, against bytes written by hand.

use super::*;
use crate::link::transport::websocket::MAX_MESSAGE;

/// A request, as lines.
fn request(path: &str, lines: &[&str]) -> String {
    let mut all = alloc::format!("GET {path} HTTP/1.1\r\n");
    let usual = [
        "Host: hub:80",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let name = |line: &str| line.split(':').next().unwrap().to_ascii_lowercase();
    for line in usual {
        if !lines.iter().any(|own| name(own) == name(line)) {
            all += &alloc::format!("{line}\r\n");
        }
    }
    for line in lines.iter().filter(|line| line.contains(": ")) {
        all += &alloc::format!("{line}\r\n");
    }
    all + "\r\n"
}

/// What a listener at `served` answers, and why it refused.
fn answer(served: &str, request: &str) -> (String, Option<String>) {
    let mut b = Transport::web_socket_server(served);
    b.handle_bytes(request.as_bytes());
    let status = text(&mut b).lines().next().unwrap_or_default().to_string();
    (status, b.end().map(|end| alloc::format!("{end}")))
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols";

#[test]
fn the_request_of_the_dialler() {
    let header = ("X-Route".into(), " a:b ".into());
    let mut a = Transport::web_socket_client(&url("wss://hub:8443/mesh?x=1"), Some(&header)).unwrap();
    let request = text(&mut a);
    for line in [
        "GET /mesh?x=1 HTTP/1.1",
        "Host: hub:8443",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Origin: https://hub:8443",
        "x-route: a:b",
    ] {
        assert!(request.lines().any(|is| is == line), "{line}: {request}");
    }
    assert!(request.contains("\r\nuser-agent: receptor/"), "{request}");
    for absent in ["Extensions", "Protocol"] {
        assert!(!request.contains(absent), "{absent}: {request}");
    }
    for (name, value) in [
        ("Host", "x"),
        ("", "x"),
        ("a b", "x"),
        ("Upgrade", "x"),
        ("a", "x\r\ny: z"),
    ] {
        let header = (name.to_string(), value.to_string());
        let refused = Transport::web_socket_client(&url("ws://hub"), Some(&header));
        assert_eq!(refused.unwrap_err(), TransportError::Header(name.into()), "{name}");
    }
}

#[test]
fn paths_are_served_as_configured() {
    for (served, asked, is_served) in [
        ("/", "/", true),
        ("/", "/any/thing?x", true),
        ("/mesh", "/mesh?x=y", true),
        ("/mesh", "/mesh/", false),
        ("/mesh", "/", false),
        ("/mesh/", "/mesh/a", true),
        ("/mesh/", "/meshes", false),
    ] {
        let (status, error) = answer(served, &request(asked, &[]));
        let expected = if is_served { SWITCHING } else { "HTTP/1.1 404 Not Found" };
        assert_eq!(status, expected, "{served} {asked}");
        assert_eq!(error.is_none(), is_served);
    }
}

#[test]
fn another_origin_than_the_host_is_refused() {
    for (origin, is_own) in [
        ("Origin: http://hub:80", true),
        ("Origin: https://HUB:80", true),
        ("Origin: http://hub:80/path", true),
        ("origin", true),
        ("Origin: http://hub", false),
        ("Origin: http://hub:81", false),
        ("Origin: http://evil", false),
        ("Origin: null", false),
    ] {
        let (status, error) = answer("/", &request("/", &[origin]));
        let expected = if is_own { SWITCHING } else { "HTTP/1.1 403 Forbidden" };
        assert_eq!(status, expected, "{origin}: {error:?}");
    }
}

#[test]
fn what_is_no_upgrade_is_a_bad_request() {
    for (lines, method) in [
        (&["upgrade"][..], "GET"),
        (&["connection"], "GET"),
        (&["Connection: close"], "GET"),
        (&["Sec-WebSocket-Version: 12"], "GET"),
        (&["sec-websocket-key"], "GET"),
        (&["Sec-WebSocket-Key: short"], "GET"),
        (&[], "POST"),
    ] {
        let request = request("/", lines).replacen("GET", method, 1);
        let (status, error) = answer("/", &request);
        assert_eq!(status, "HTTP/1.1 400 Bad Request", "{request}");
        assert!(error.unwrap().starts_with("websocket: bad handshake: refused with 400"));
    }
    for nonsense in ["\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "\0\0\r\n\r\n"] {
        assert_eq!(answer("/", nonsense).0, "HTTP/1.1 400 Bad Request", "{nonsense:?}");
    }
    let (status, error) = answer("/", &"x".repeat(HEAD_MAX + 1));
    assert_eq!(
        (status.as_str(), error.as_deref()),
        ("", Some("handshake longer than 32768 bytes"))
    );
}

#[test]
fn neither_protocols_nor_extensions_are_agreed_on() {
    let mut b = Transport::web_socket_server("/");
    let offers = [
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    b.handle_bytes(request("/", &offers).as_bytes());
    let answer = text(&mut b);
    assert!(answer.starts_with(SWITCHING), "{answer}");
    // RFC 6455 §1.3.
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("sec-websocket-protocol"),
        "{answer}"
    );
    assert!(
        !answer.to_ascii_lowercase().contains("sec-websocket-extensions"),
        "{answer}"
    );
}

#[test]
fn answers_the_dialler_does_not_take() {
    let good = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: KEY"];
    let with = |status: &str, lines: &[&str]| {
        let mut a = Transport::web_socket_client(&url("ws://hub"), None).unwrap();
        let request = text(&mut a);
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = tungstenite::handshake::derive_accept_key(key.unwrap().as_bytes());
        let mut answer = alloc::format!("HTTP/1.1 {status}\r\n");
        for line in lines {
            answer += &alloc::format!("{}\r\n", line.replace("KEY", &accept));
        }
        answer += "\r\n";
        a.handle_bytes(answer.as_bytes());
        a
    };
    assert!(!with("101 Switching Protocols", &good).is_handshaking());
    assert_eq!(
        failure(&with("404 Not Found", &good)),
        "websocket: bad handshake: 404 Not Found"
    );
    for without in 0..3 {
        let mut lines = good.to_vec();
        lines.remove(without);
        failure(&with("101 OK", &lines));
    }
    for more in ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Extensions: b"] {
        failure(&with("101 OK", &[&good[..], &[more]].concat()));
    }
    failure(&with("101 OK", &[good[0], good[1], "Sec-WebSocket-Accept: wrong"]));
}

/// A listener that is through with the handshake.
fn open() -> Transport {
    let mut b = Transport::web_socket_server("/");
    b.handle_bytes(request("/", &[]).as_bytes());
    assert!(text(&mut b).starts_with(SWITCHING));
    b
}

/// A frame as a client sends it, masked with nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        len @ 0..=125 => vec![0x80 | len as u8],
        len @ 126..=65_535 => [&[0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

#[test]
fn text_and_binary_whole_and_in_fragments() {
    let stream = [
        masked(0x82, b"binary"),
        masked(0x81, b"text"),
        masked(0x82, b""),
        masked(0x02, b"in "),
        // A control frame may stand between fragments.
        masked(0x89, b"are you there"),
        masked(0x00, b"three "),
        masked(0x80, b"parts"),
    ]
    .concat();
    for slice in 1..stream.len() {
        let mut b = open();
        let mut frames = Vec::new();
        for part in stream.chunks(slice) {
            b.handle_bytes(part);
            frames.extend(core::iter::from_fn(|| b.poll_frame()));
        }
        assert_eq!(frames, [&b"binary"[..], b"text", b"in three parts"]);
        let pong = b.poll_transmit().unwrap();
        assert_eq!(pong, [&[0x8a, 13][..], b"are you there"].concat());
        assert_eq!(b.end(), None);
    }
}

#[test]
fn one_binary_message_per_frame_masked_by_the_dialler_only() {
    let mut b = open();
    b.push_frame(frame(5, 200));
    let sent = b.poll_transmit().unwrap();
    assert_eq!((&sent[..4], sent.len()), (&[0x82, 126, 0, 200][..], 204));
    let mut a = Transport::web_socket_client(&url("ws://hub"), None).unwrap();
    let mut b = Transport::web_socket_server("/");
    settle(&mut a, &mut b, usize::MAX);
    a.push_frame(frame(5, 200));
    let sent = a.poll_transmit().unwrap();
    assert_eq!((sent[0], sent[1], sent.len()), (0x82, 0x80 | 126, 208));
}

#[test]
fn faults_end_the_link_with_a_reason() {
    for (bytes, word) in [
        (masked(0x82 | 0x40, b"compressed"), "reserved"),
        (masked(0x83, b"unknown kind"), "invalid opcode"),
        (masked(0x80, b"no beginning"), "continue"),
        (masked(0x09, b"ping in parts"), "fragmented"),
        (masked(0x89, &[0; 126]), "too big"),
        (vec![0x82, 1, b'x'], "masked"),
        (masked(0x81, &[0xff]), "utf-8"),
        ([&[0x82, 0x80 | 127][..], &[0x7f; 8], &[0; 4]].concat(), "too long"),
    ] {
        let mut b = open();
        b.handle_bytes(&masked(0x82, b"before"));
        b.handle_bytes(&bytes);
        assert_eq!(b.poll_frame().unwrap(), b"before"[..]);
        assert!(
            failure(&b).to_ascii_lowercase().contains(word),
            "{word}: {}",
            failure(&b)
        );
    }
}

#[test]
fn fragments_without_end_are_too_much() {
    let mut b = open();
    let part = masked(0x00, &[7; 4096]);
    b.handle_bytes(&masked(0x02, &[7; 4096]));
    for _ in 0..MAX_MESSAGE / 4096 - 1 {
        b.handle_bytes(&part);
        assert_eq!(b.end(), None);
    }
    b.handle_bytes(&part);
    assert!(failure(&b).contains("too long"), "{}", failure(&b));
}

#[test]
fn a_close_frame_is_a_normal_end() {
    for close in [&b""[..], b"\x03\xe8bye", b"\x03\xe9"] {
        let mut b = open();
        b.handle_bytes(&[masked(0x82, b"last"), masked(0x88, close)].concat());
        assert_eq!(b.poll_frame().unwrap(), b"last"[..]);
        assert_eq!(b.end(), Some(&End::Closed));
        let reply = b.poll_transmit().unwrap();
        assert_eq!(reply[0], 0x88);
        b.finish();
        assert!(b.poll_transmit().is_none());
    }
}

#[test]
fn the_end_of_the_connection_is_a_normal_end_too() {
    let mut b = open();
    b.handle_eof();
    assert_eq!(b.end(), Some(&End::Closed));
}

#[test]
fn our_end_is_said_with_a_close_frame() {
    let mut b = open();
    b.push_frame(frame(1, 1));
    b.finish();
    assert_eq!(b.poll_transmit().unwrap(), [0x82, 1, 1, 0x88, 0][..]);
    b.push_frame(frame(1, 1));
    b.finish();
    assert!(b.poll_transmit().is_none());
    // What the peer had sent before it heard of that still counts.
    b.handle_bytes(&[masked(0x82, b"late"), masked(0x88, b"")].concat());
    assert_eq!(b.poll_frame().unwrap(), b"late"[..]);
    assert_eq!(b.end(), Some(&End::Closed));
}

#[test]
fn pings_do_not_pile_up_answers() {
    let mut b = open();
    let pings: Vec<u8> = (0..10_000).flat_map(|_| masked(0x89, b"x")).collect();
    b.handle_bytes(&pings);
    let answered: usize = core::iter::from_fn(|| b.poll_transmit()).map(|bytes| bytes.len()).sum();
    assert!(answered <= pings.len(), "{answered}");
}
