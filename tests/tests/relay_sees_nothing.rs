//! A relay carries what others say, and cannot read it: everything that a node on the way is given and gives, looked through.

use bytes::Bytes;
use receptor_core::node::io::{Layer, Role};
use receptor_core::stream::secure::{Secure, anonymous};
use receptor_core::time::Duration;
use receptor_tests::line::Line;

const QUESTION: &[u8] = b"what only the two ends may know";
const ANSWER: &[u8] = b"and what is answered to it";

/// The ends of a stream, which an adapter would run.
fn secures(line: &Line, stream: usize) -> [Secure; 2] {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = anonymous::COMMON_NAME;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("a certificate");
    let server = anonymous::server_config(certificate.der().to_vec(), key.serialize_der()).expect("a config");
    let client = anonymous::client_config().expect("a config");
    // The node wants it so: both of its ends are told to protect the stream, and which part is whose.
    let role = |end: usize| match &line.ends[end].layer {
        Some(Layer::Secure(security)) => security.role,
        other => panic!("not protected: {other:?}"),
    };
    assert_eq!([role(stream), role(stream + 1)], [Role::Client, Role::Server]);
    [
        Secure::client(client).expect("a client"),
        Secure::server(server).expect("a server"),
    ]
}

/// Carries records until nothing moves.
fn carry(line: &mut Line, stream: usize, secures: &mut [Secure; 2]) {
    for _ in 0..1_000 {
        for (end, secure) in (stream..).zip(&mut *secures) {
            while line.ends[end].credit >= 128 << 10
                && let Some(records) = secure.poll_transmit()
            {
                line.send(end, records);
            }
        }
        line.pass(Duration::from_millis(1));
        for (end, secure) in (stream..).zip(&mut *secures) {
            let inbox = std::mem::take(&mut line.ends[end].inbox);
            inbox.iter().for_each(|data| secure.handle_data(data));
        }
    }
}

fn read(secure: &mut Secure) -> Vec<u8> {
    std::iter::from_fn(|| secure.read()).collect::<Vec<Bytes>>().concat()
}

#[test]
fn a_relay_never_sees_payload() {
    let mut line = Line::new();
    line.is_keeping = true;
    line.seen = Some(Vec::new());
    let stream = line.dial();
    let mut secures = secures(&line, stream);
    carry(&mut line, stream, &mut secures);
    for (end, secure) in (stream..).zip(&secures) {
        assert!(!secure.is_handshaking());
        line.secured(end);
    }
    let (question, answer) = (QUESTION.repeat(2_000), ANSWER.repeat(2_000));
    assert_eq!(secures[0].write(&question), question.len());
    assert_eq!(secures[1].write(&answer), answer.len());
    carry(&mut line, stream, &mut secures);
    assert!(read(&mut secures[1]) == question && read(&mut secures[0]) == answer);

    // Datagrams are not encrypted: that is how we know that the relay was looked over the shoulder.
    assert_eq!(line.datagram(b"in the open"), [&b"in the open"[..]]);
    let seen = line.seen.take().expect("it was kept");
    let shows = |words: &[u8]| seen.windows(words.len()).any(|window| window == words);
    assert!(
        seen.len() > 2 * (question.len() + answer.len()),
        "only {} bytes",
        seen.len()
    );
    assert!(shows(b"in the open"));
    for secret in [QUESTION, ANSWER] {
        // Not even a part of it.
        for part in secret.windows(8) {
            assert!(!shows(part), "{:?}", String::from_utf8_lossy(part));
        }
    }
}
