use super::*;
use crate::wire::WireError;
use crate::wire::vectors::vector;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

const UNIT: &str = "fooAb12Cd34";

/// Pushes a stream in slices of `step` bytes and joins data that belongs together.
fn decode(stream: &[u8], step: usize) -> Result<Vec<Received>, WireError> {
    let mut decoder = Decoder::default();
    let mut all: Vec<Received> = Vec::new();
    for slice in stream.chunks(step) {
        decoder.push(Bytes::copy_from_slice(slice));
        while let Some(received) = decoder.next()? {
            join(&mut all, received);
        }
    }
    if decoder.is_between_messages() {
        Ok(all)
    } else {
        Err(WireError::Malformed("cut short"))
    }
}

fn join(all: &mut Vec<Received>, new: Received) {
    if let Some(last) = all.last_mut()
        && last.channel == new.channel
    {
        match (&mut last.message, &new.message) {
            (
                Message::Output { offset, data },
                Message::Output {
                    offset: next,
                    data: more,
                },
            )
            | (
                Message::Stdin { offset, data },
                Message::Stdin {
                    offset: next,
                    data: more,
                },
            ) if *offset + data.len() as u64 == *next && !data.is_empty() => {
                *data = [&data[..], &more[..]].concat().into();
                return;
            }
            _ => {}
        }
    }
    all.push(new);
}

fn encoded(channel: u32, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(channel, &mut out).unwrap();
    out
}

/// Each message with its vector; channel 7, but 0 for ping and pong.
fn golden() -> Vec<(Message, Vec<u8>)> {
    let unit = || String::from(UNIT);
    let submit = Submit {
        unit: unit(),
        work_type: "cat".into(),
        params: vec![("params".into(), "-n".into())],
        signature: String::new(),
    };
    let status = Status {
        state: 1,
        detail: "Running: PID 4711".into(),
        stdout_size: 300,
        ..Status::default()
    };
    let killed = End {
        state: 3,
        detail: "signal: killed".into(),
        total: 300,
        checksum: 0x0123_4567_89ab_cdef,
        exit_code: None,
        signal: Some(9),
    };
    let exited = End {
        state: 3,
        detail: "exit status 1".into(),
        total: 0,
        checksum: crate::id::NameHash::of("").0,
        exit_code: Some(1),
        signal: None,
    };
    vec![
        (Message::Submit(submit), vector!("work/submit")),
        (
            Message::Stdin {
                offset: 65_536,
                data: Bytes::from_static(b"hello"),
            },
            vector!("work/stdin"),
        ),
        (Message::StdinEnd { total: 65_541 }, vector!("work/stdin-end")),
        (
            Message::Attach {
                unit: unit(),
                offset: 1 << 20,
                signature: "a.b.c".into(),
            },
            vector!("work/attach"),
        ),
        (
            Message::Cancel {
                unit: unit(),
                signature: String::new(),
            },
            vector!("work/cancel"),
        ),
        (
            Message::Release {
                unit: unit(),
                force: true,
                signature: String::new(),
            },
            vector!("work/release"),
        ),
        (Message::Detach, vector!("work/detach")),
        (
            Message::Accepted {
                unit: unit(),
                stdin_offset: 0,
                fresh: true,
            },
            vector!("work/accepted"),
        ),
        (
            Message::Refused {
                text: "unknown work type cat".into(),
            },
            vector!("work/refused"),
        ),
        (Message::Started, vector!("work/started")),
        (Message::Status(status), vector!("work/status")),
        (
            Message::Output {
                offset: 295,
                data: Bytes::from_static(b"world"),
            },
            vector!("work/output"),
        ),
        (
            Message::Output {
                offset: 300,
                data: Bytes::new(),
            },
            vector!("work/output-empty"),
        ),
        (Message::End(killed), vector!("work/end")),
        (Message::End(exited), vector!("work/end-exit")),
        (Message::Done, vector!("work/done")),
        (
            Message::Failed {
                text: "unknown work unit fooAb12Cd34".into(),
            },
            vector!("work/failed"),
        ),
        (
            Message::About {
                work_type: "cat".into(),
                params: "-n".into(),
            },
            vector!("work/about"),
        ),
        (Message::Credit { bytes: 1 << 20 }, vector!("work/credit")),
        (Message::Ping { token: 99 }, vector!("work/ping")),
        (Message::Pong { token: 99 }, vector!("work/pong")),
    ]
}

fn channel_of(message: &Message) -> u32 {
    if matches!(message, Message::Ping { .. } | Message::Pong { .. }) {
        0
    } else {
        7
    }
}

#[test]
fn golden_vectors_in_both_directions_and_any_slicing() {
    for (message, bytes) in golden() {
        let channel = channel_of(&message);
        assert_eq!(encoded(channel, &message), bytes, "{message:?}");
        for step in 1..=bytes.len() {
            assert_eq!(
                decode(&bytes, step),
                Ok(vec![Received {
                    channel,
                    message: message.clone()
                }])
            );
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    for (message, bytes) in golden() {
        for len in 1..bytes.len() {
            assert!(decode(&bytes[..len], len).is_err(), "{message:?} cut to {len}");
            // The same with a body that ends early inside an intact header. Data may have any length from 8 on.
            let Some(body_len) = len.checked_sub(HEADER_LEN) else {
                continue;
            };
            let is_data = matches!(message, Message::Stdin { .. } | Message::Output { .. });
            if !is_data || body_len < 8 {
                let mut stream = bytes[..len].to_vec();
                stream[6..10].copy_from_slice(&(body_len as u32).to_le_bytes());
                assert!(decode(&stream, len).is_err(), "{message:?} with a body of {body_len}");
            }
        }
    }
}

#[test]
fn the_future_is_skipped() {
    let mut stream = vector!("work/unknown");
    stream.extend(vector!("work/stdin-end-longer"));
    let unknown = Received {
        channel: 3,
        message: Message::Unknown { kind: 0x7a, version: 9 },
    };
    let known = Received {
        channel: 7,
        message: Message::StdinEnd { total: 5 },
    };
    assert_eq!(decode(&stream, 3), Ok(vec![unknown.clone(), known]));
    assert!(unknown.message.encode(0, &mut Vec::new()).is_err());
    // Data in a layout that is not known is skipped as well.
    let mut newer = vector!("work/stdin");
    newer[1] = 2;
    assert_eq!(
        decode(&newer, 1).unwrap()[0].message,
        Message::Unknown { kind: 2, version: 2 }
    );
}

#[test]
fn data_is_handed_on_as_it_comes_without_copying() {
    let message = Message::Output {
        offset: 10,
        data: vec![7; 100].into(),
    };
    let stream = Bytes::from(encoded(1, &message));
    let mut decoder = Decoder::default();
    decoder.push(stream.slice(..58));
    let Some(Received {
        message: Message::Output { offset: 10, data },
        ..
    }) = decoder.next().unwrap()
    else {
        panic!("expected output");
    };
    assert_eq!(data.len(), 40);
    assert_eq!(data.as_ptr(), stream[18..].as_ptr());
    assert_eq!(decoder.next(), Ok(None));
    decoder.push(stream.slice(58..));
    let Some(Received {
        message: Message::Output { offset: 50, data },
        ..
    }) = decoder.next().unwrap()
    else {
        panic!("expected output");
    };
    assert_eq!(data.len(), 60);
    assert!(decoder.is_between_messages());
}

#[test]
fn oversized_messages_end_the_stream_for_good() {
    let mut stream = vector!("work/ping");
    stream[6..10].copy_from_slice(&(MAX_BODY as u32 + 1).to_le_bytes());
    let mut decoder = Decoder::default();
    decoder.push(stream.into());
    let expected = Err(WireError::TooLong {
        what: "work message",
        limit: MAX_BODY,
        got: MAX_BODY + 1,
    });
    assert_eq!(decoder.next(), expected);
    decoder.push(vector!("work/ping").into());
    assert_eq!(decoder.next(), expected);
}

#[test]
fn limits_hold_when_writing_and_nothing_is_appended() {
    let mut out = Vec::new();
    let long_unit = Message::Cancel {
        unit: "x".repeat(256),
        signature: String::new(),
    };
    let long_text = Message::Refused {
        text: "x".repeat(MAX_BODY),
    };
    let long_data = Message::Output {
        offset: 0,
        data: vec![0; MAX_DATA + 1].into(),
    };
    let params = vec![(String::new(), String::new()); 1025];
    let many_params = Message::Submit(Submit {
        params,
        ..Submit::default()
    });
    for message in [long_unit, long_text, long_data, many_params] {
        assert!(message.encode(0, &mut out).is_err());
    }
    assert!(out.is_empty());
    let largest = Message::Output {
        offset: 0,
        data: vec![0; MAX_DATA].into(),
    };
    let stream = encoded(1, &largest);
    assert_eq!(
        decode(&stream, stream.len()),
        Ok(vec![Received {
            channel: 1,
            message: largest
        }])
    );
}

#[test]
fn offsets_must_not_overflow() {
    let stream = encoded(
        1,
        &Message::Output {
            offset: u64::MAX,
            data: Bytes::from_static(b"x"),
        },
    );
    assert_eq!(
        decode(&stream, 5),
        Err(WireError::Malformed("work message: offset beyond 64 bits"))
    );
}

#[test]
fn heads_make_the_same_bytes_as_whole_messages() {
    let data = Bytes::from_static(b"hello");
    let stdin = [&stdin_head(7, 65_536, 5)[..], &data].concat();
    assert_eq!(stdin, vector!("work/stdin"));
    let output = [&output_head(7, 295, 5)[..], b"world"].concat();
    assert_eq!(output, vector!("work/output"));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 é]{0,20}"
}

fn data() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 1..60).prop_map(Bytes::from)
}

fn any_message() -> impl Strategy<Value = Message> {
    let params = proptest::collection::vec((text(), text()), 0..4);
    let code = || proptest::option::of(any::<i32>());
    prop_oneof![
        (text(), text(), params, text()).prop_map(|(unit, work_type, params, signature)| {
            Message::Submit(Submit {
                unit,
                work_type,
                params,
                signature,
            })
        }),
        (any::<u32>(), data()).prop_map(|(offset, data)| Message::Stdin {
            offset: offset.into(),
            data
        }),
        (any::<u32>(), data()).prop_map(|(offset, data)| Message::Output {
            offset: offset.into(),
            data
        }),
        (text(), any::<u64>(), text()).prop_map(|(unit, offset, signature)| Message::Attach {
            unit,
            offset,
            signature
        }),
        (text(), any::<u64>(), any::<bool>()).prop_map(|(unit, stdin_offset, fresh)| Message::Accepted {
            unit,
            stdin_offset,
            fresh
        }),
        text().prop_map(|text| Message::Refused { text }),
        Just(Message::Started),
        (any::<u8>(), text(), any::<u64>(), code(), code()).prop_map(
            |(state, detail, stdout_size, exit_code, signal)| {
                Message::Status(Status {
                    state,
                    detail,
                    stdout_size,
                    exit_code,
                    signal,
                })
            }
        ),
        (any::<u8>(), text(), any::<u64>(), any::<u64>(), code(), code()).prop_map(
            |(state, detail, total, checksum, exit_code, signal)| {
                Message::End(End {
                    state,
                    detail,
                    total,
                    checksum,
                    exit_code,
                    signal,
                })
            }
        ),
        any::<u64>().prop_map(|bytes| Message::Credit { bytes }),
        any::<u64>().prop_map(|token| Message::Ping { token }),
    ]
}

proptest! {
    #[test]
    fn sessions_round_trip_in_any_slicing(
        messages in proptest::collection::vec((any::<u32>(), any_message()), 0..8),
        step in 1usize..70,
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (channel, message) in messages {
            message.encode(channel, &mut stream).unwrap();
            join(&mut expected, Received { channel, message });
        }
        prop_assert_eq!(decode(&stream, step).unwrap(), expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        kind in 0u8..0x44, mut stream in proptest::collection::vec(any::<u8>(), 0..120), step in 1usize..40,
    ) {
        if stream.len() > 9 {
            let len = (stream.len() - 10) as u8;
            stream[..10].copy_from_slice(&[kind, 1, 7, 0, 0, 0, len, 0, 0, 0]);
        }
        let _ = decode(&stream, step);
    }
}
