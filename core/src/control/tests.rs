//! Transcripts: each is run with its input whole, one byte at a time, and (in `random`) in any other slicing.

mod answers;
mod modes;
mod random;
mod requests;

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::*;
use crate::id::NodeId;

const GREETING: &str = "Receptor Control, node hub\n";

/// A client and the owner of its session, who answers by `answer` and ends with a half-close unless told otherwise.
struct Script<A> {
    session: Session,
    answer: A,
    /// Largest piece taken for transmission.
    window: usize,
    credit: usize,
    requests: Vec<Request>,
    output: Vec<u8>,
    raw: Vec<u8>,
    raw_end: Option<RawInput>,
}

impl<A: FnMut(&Request) -> Reply> Script<A> {
    fn new(answer: A) -> Self {
        let session = Session::new(&NodeId::new("hub"), Origin::Local);
        Self {
            session,
            answer,
            window: usize::MAX,
            credit: 0,
            requests: Vec::new(),
            output: Vec::new(),
            raw: Vec::new(),
            raw_end: None,
        }
    }

    /// Sends `input` in slices of `size` bytes.
    fn send(&mut self, input: &[u8], size: usize) {
        self.window = size;
        for slice in input.chunks(size) {
            self.session.handle_data(Bytes::copy_from_slice(slice));
            self.drain();
        }
    }

    fn end(&mut self) {
        self.session.handle_eof();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            if let Some(request) = self.session.poll_request() {
                let reply = (self.answer)(&request);
                assert_eq!(self.session.poll_request(), None, "one at a time");
                self.session.reply(reply).unwrap();
                self.requests.push(request);
            } else if let Some(raw) = self.session.poll_raw() {
                match raw {
                    RawInput::Data(data) => self.raw.extend_from_slice(&data),
                    end => assert_eq!(self.raw_end.replace(end), None, "one end"),
                }
            } else if let Some(bytes) = self.session.poll_transmit(self.window) {
                assert!((1..=self.window).contains(&bytes.len()));
                self.output.extend_from_slice(&bytes);
            } else {
                self.credit += self.session.take_credit();
                return;
            }
        }
    }

    /// What was transmitted after the greeting.
    fn answers(&self) -> &str {
        core::str::from_utf8(&self.output)
            .unwrap()
            .strip_prefix(GREETING)
            .expect("the greeting comes first")
    }
}

/// The requests and the output (without greeting) of a whole session, which must not depend on the slicing.
fn transcript(input: &[u8], answer: impl FnMut(&Request) -> Reply + Clone) -> (Vec<Request>, String) {
    let run = |size: usize| {
        let mut script = Script::new(answer.clone());
        script.send(input, size.max(1));
        assert_eq!(script.credit, input.len(), "everything was used up");
        script.end();
        assert!(
            script.session.wants_close(),
            "over after the client's end: {:?}",
            String::from_utf8_lossy(input)
        );
        let answers = script.answers().into();
        (script.requests, answers)
    };
    let whole = run(input.len());
    assert_eq!(run(1), whole, "one byte at a time");
    assert_eq!(run(3), whole, "in threes");
    whole
}

fn refuse(_: &Request) -> Reply {
    Reply::Error("refused".into())
}

/// The only request in `line`.
fn request(line: &str) -> Request {
    let (mut requests, output) = transcript(line.as_bytes(), refuse);
    assert_eq!(output, "ERROR: refused\n", "{line}");
    assert_eq!(requests.len(), 1, "{line}");
    requests.remove(0)
}

/// The text of the error that `line` gets without becoming a request.
fn error(line: &str) -> String {
    let (requests, output) = transcript(line.as_bytes(), refuse);
    assert_eq!(requests, [], "{line}");
    let text = output.strip_prefix("ERROR: ").and_then(|text| text.strip_suffix('\n'));
    let text = text.unwrap_or_else(|| panic!("{line}: {output}"));
    assert!(!text.contains('\n'), "one line: {output}");
    text.into()
}
