//! One control connection: the same bytes in two slicings give the same requests, raw bytes and answers.

use bytes::Bytes;
use receptor_core::control::{INPUT_MAX, Origin, PingReply, RawInput, ReloadCode, ReloadError, Reply};
use receptor_core::control::{Request, Session, WorkRequest};

/// What a connection came to.
#[derive(Default, PartialEq, Debug)]
struct Transcript {
    requests: Vec<Request>,
    raw: Vec<u8>,
    raw_end: Option<RawInput>,
    output: Vec<u8>,
    credit: usize,
    closed: bool,
}

/// The first bytes decide how the rest is sliced and how requests are answered.
pub fn control(input: &[u8]) {
    let Some((&[slicing, replies], stream)) = input.split_first_chunk() else {
        return;
    };
    let whole = run(stream, replies, |_| stream.len().max(1));
    assert_eq!(
        run(stream, replies, |i| 1 + (usize::from(slicing) * (i + 1)) % 97),
        whole
    );
    let answers = String::from_utf8_lossy(&whole.output);
    assert!(answers.starts_with("Receptor Control, node fuzz\n"));
    assert_eq!(whole.credit, stream.len(), "credit is what was sent");
    assert!(whole.closed, "a connection ends when its input does");
}

fn run(mut stream: &[u8], replies: u8, size: impl Fn(usize) -> usize) -> Transcript {
    let origin = if replies & 1 == 0 {
        Origin::Local
    } else {
        Origin::Network
    };
    let mut session = Session::new(&"fuzz".into(), origin);
    let mut transcript = Transcript::default();
    let mut slices = 0;
    while !stream.is_empty() {
        let (slice, rest) = stream.split_at(size(slices).min(stream.len()));
        (stream, slices) = (rest, slices + 1);
        session.handle_data(Bytes::copy_from_slice(slice));
        pump(&mut session, &mut transcript, replies);
        assert!(session.wants_input() || session.wants_close() || slice.len() >= INPUT_MAX);
    }
    session.handle_eof();
    pump(&mut session, &mut transcript, replies);
    transcript.closed = session.wants_close();
    transcript
}

/// Serves the session until it wants nothing.
fn pump(session: &mut Session, transcript: &mut Transcript, replies: u8) {
    loop {
        let mut progress = false;
        if let Some(request) = session.poll_request() {
            progress = true;
            let reply = reply(&request, replies);
            let results = matches!(reply, Reply::ResultsStart { .. });
            session.reply(reply).expect("a fitting reply");
            if results {
                session
                    .send_raw(Bytes::from_static(b"output"))
                    .expect("results take raw output");
                session.finish_raw().expect("results can end");
            }
            transcript.requests.push(request);
        }
        while let Some(raw) = session.poll_raw() {
            progress = true;
            match raw {
                RawInput::Data(data) => {
                    assert!(!data.is_empty());
                    transcript.raw.extend_from_slice(&data);
                }
                end => {
                    assert!(transcript.raw_end.replace(end).is_none(), "input ends once");
                    end_raw(session, replies);
                }
            }
        }
        while let Some(bytes) = session.poll_transmit(1 + usize::from(replies)) {
            progress = true;
            assert!((1..=1 + usize::from(replies)).contains(&bytes.len()));
            transcript.output.extend_from_slice(&bytes);
        }
        transcript.credit += session.take_credit();
        if !progress {
            return;
        }
    }
}

/// The stdin of a submission is complete, or the client of a bridge has gone.
fn end_raw(session: &mut Session, replies: u8) {
    let unit = "abcdefgh".into();
    let done = if replies & 4 == 0 {
        Reply::SubmitDone { unit, started: true }
    } else {
        Reply::Error("disk\r\nfull".into())
    };
    if session.reply(done).is_err() {
        session.finish_raw().expect("a bridge can end");
    }
}

fn reply(request: &Request, replies: u8) -> Reply {
    if replies & 2 != 0 {
        return Reply::Error("no\nway\n".into());
    }
    let unit = || "abcdefgh".to_owned();
    let pending = replies & 4 != 0;
    match request {
        Request::Status { .. } => Reply::Error("not here".into()),
        Request::Ping { target } => Reply::Ping(PingReply::Success {
            from: target.clone(),
            nanos: i64::from(replies) * 1_000_000,
        }),
        Request::Traceroute { .. } => Reply::Traceroute(Vec::new()),
        Request::Connect(_) => Reply::Connecting,
        Request::Reload => Reply::Reload(Err(ReloadError {
            text: "no".into(),
            code: ReloadCode::Failed,
        })),
        Request::Work(work) => match work {
            WorkRequest::Submit(_) => Reply::SubmitReady { unit: unit() },
            WorkRequest::List { .. } => Reply::UnitList(Default::default()),
            WorkRequest::Status { .. } => Reply::Error("unknown work unit".into()),
            WorkRequest::Cancel { .. } => Reply::Cancelled { unit: unit(), pending },
            WorkRequest::Release { .. } => Reply::Released { unit: unit(), pending },
            WorkRequest::Adopt(_) => Reply::Adopted {
                unit: unit(),
                fresh: pending,
            },
            WorkRequest::Results { .. } => Reply::ResultsStart { unit: unit() },
            WorkRequest::Upgrade { version, .. } => Reply::Upgraded { version: *version },
        },
    }
}
