//! Streams between services.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use crate::suite::adapter::{Error, Pace, Stream};
use crate::suite::{Bench, PATIENCE, chain};

/// The end of a question does not end the answer; over a hop.
pub fn both_halves_close_on_their_own(bench: &Bench) {
    let [near, _middle, far] = chain(bench);
    let served = super::serve_one(far.listen("echo", None).unwrap(), super::echo);
    let mut stream = near.dial("far", "echo").unwrap();
    assert_eq!(stream.peer.as_ref().map(|peer| peer.as_str()), Some("far"));
    stream.writer.write_all(b"question").unwrap();
    stream.writer.shutdown().unwrap();
    let refused = stream.writer.write(b"more", PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream.reader.read_to_end().unwrap(), b"noitseuq");
    assert_eq!(stream.reader.read(&mut [0; 8], PATIENCE).unwrap(), 0, "the end stays");
    served.join().unwrap();
}

/// Both directions at full speed do not hinder each other.
pub fn four_mebibytes_each_way_at_once(bench: &Bench) {
    const SIZE: usize = 4 << 20;
    let (near, far) = bench.pair();
    let mut listener = far.listen("both", None).unwrap();
    let dialled = near.dial("far", "both").unwrap();
    let accepted = listener.accept().unwrap();
    assert_eq!(accepted.peer.as_ref().map(|peer| peer.as_str()), Some("near"));
    thread::scope(|scope| {
        for (stream, sent, expected) in [(dialled, 1, 2), (accepted, 2, 1)] {
            let Stream {
                mut reader, mut writer, ..
            } = stream;
            // Halves live until both directions are through: dropping one early must not matter, and is tried apart.
            let sending = scope.spawn(move || {
                writer.write_all(&super::pattern(sent, SIZE)).unwrap();
                writer.shutdown().unwrap();
                writer
            });
            scope.spawn(move || {
                let all = reader.read_to_end().unwrap();
                assert_eq!(all.len(), SIZE);
                assert!(all == super::pattern(expected, SIZE));
                drop(sending.join().unwrap());
            });
        }
    });
}

/// Dropping a stream closes both directions: what was written before arrives, and the other side can write no more.
pub fn a_dropped_stream_is_closed(bench: &Bench) {
    let (near, far) = bench.pair();
    let mut listener = far.listen("drop", None).unwrap();
    let mut dialled = near.dial("far", "drop").unwrap();
    let data = super::pattern(7, 100_000);
    dialled.writer.write_all(&data).unwrap();
    drop(dialled);
    let mut accepted = listener.accept().unwrap();
    assert!(accepted.reader.read_to_end().unwrap() == data);
    // What is written may be taken until the word has come.
    let error = loop {
        if let Err(error) = accepted.writer.write(&[0; 4096], PATIENCE) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

/// The writer is held up after a bounded number of bytes, nobody else is, and every byte arrives in the end.
pub fn a_reader_that_does_not_read_holds_up_its_writer(bench: &Bench) {
    /// Far above the windows of pipes and of a fresh stream, far below what would be unbounded.
    const MOST: usize = 4 << 20;
    const FULL: Duration = Duration::from_millis(500);
    let (near, far) = bench.pair();
    let mut listener = far.listen("slow", None).unwrap();
    let Stream {
        mut writer,
        reader: _reader,
        ..
    } = near.dial("far", "slow").unwrap();
    let mut accepted = listener.accept().unwrap();
    let data = super::pattern(9, 2 * MOST);
    let mut sent = 0;
    loop {
        match writer.write(&data[sent..], FULL) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::TimedOut => break,
            Err(error) => panic!("{error}"),
        }
        assert!(sent <= MOST, "nobody reads, and yet {sent} bytes were taken");
    }
    let served = super::serve_one(far.listen("other", None).unwrap(), super::echo);
    let mut other = near.dial("far", "other").unwrap();
    other.writer.write_all(b"live").unwrap();
    other.writer.shutdown().unwrap();
    assert_eq!(other.reader.read_to_end().unwrap(), b"evil");
    served.join().unwrap();

    thread::scope(|scope| {
        let rest = &data[sent..];
        let sending = scope.spawn(move || {
            writer.write_all(rest).unwrap();
            writer.shutdown().unwrap();
            writer
        });
        assert!(accepted.reader.read_to_end().unwrap() == data);
        drop(sending.join().unwrap());
    });
}

/// Streams are independent and cheap.
pub fn many_at_once(bench: &Bench) {
    const COUNT: u8 = 50;
    let (near, far) = bench.pair();
    let mut listener = far.listen("many", None).unwrap();
    let mut dialled: Vec<_> = (0..COUNT).map(|_| near.dial("far", "many").unwrap()).collect();
    for (number, stream) in dialled.iter_mut().enumerate() {
        stream.writer.write_all(&super::pattern(number as u8, 10_000)).unwrap();
        stream.writer.shutdown().unwrap();
    }
    for _ in 0..COUNT {
        super::echo(listener.accept().unwrap());
    }
    // Newest first, so that the order of opening does not help.
    for (number, stream) in dialled.iter_mut().enumerate().rev() {
        let mut expected = super::pattern(number as u8, 10_000);
        expected.reverse();
        assert!(stream.reader.read_to_end().unwrap() == expected, "stream {number}");
    }
}

/// A service that is not there, and a node that is not there, are refusals.
pub fn nobody_listens(bench: &Bench) {
    let (near, _far) = bench.pair();
    assert!(matches!(near.dial("far", "nobody"), Err(Error::Refused(_))));
    assert!(matches!(near.dial("nowhere", "nobody"), Err(Error::Refused(_))));
}

/// Streams are encrypted from end to end: who forwards them, or listens, sees neither an application's bytes nor those of
/// control sessions.
pub fn nothing_on_the_way_shows_the_payload(bench: &Bench) {
    let (near, far, bridge) = super::links::attached(bench, Pace::Whole);
    bridge.record();
    let secret: Vec<u8> = (0..20_000).flat_map(|n| format!("secret {n} ").into_bytes()).collect();
    let served = super::serve_one(far.listen("echo", None).unwrap(), super::echo);
    let mut stream = near.dial("far", "echo").unwrap();
    stream.writer.write_all(&secret).unwrap();
    stream.writer.shutdown().unwrap();
    let mut answer = stream.reader.read_to_end().unwrap();
    served.join().unwrap();
    // The recording sees what is not encrypted: datagrams.
    let there = far.packet("there", None).unwrap();
    near.packet("", None)
        .unwrap()
        .send_to(b"in the open", "far", "there")
        .unwrap();
    there.recv_from(PATIENCE).unwrap();
    let seen = bridge.recorded();
    assert!(seen.len() > 2 * secret.len(), "only {} bytes were seen", seen.len());
    let shows = |word: &[u8]| seen.windows(word.len()).any(|window| window == word);
    assert!(shows(b"in the open"));
    assert!(!shows(b"secret") && !shows(b"terces"));
    answer.reverse();
    assert!(answer == secret);
}
