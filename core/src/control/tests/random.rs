//! Any bytes in any slicing: no panic, one answer per line, and the slicing changes nothing.

use super::*;
use proptest::prelude::*;

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[ -~]{0,40}".prop_map(String::into_bytes),
        "(status|ping|traceroute|connect|reload|work (submit|list|status|cancel|release|results))( [ab]?){0,4}\r?"
            .prop_map(String::into_bytes),
        r#"\{"command":("status"|"ping"|"connect"|"work"|1|null)(,"(target|node|service|subcommand|unitid|worktype|startpos|version|requested_fields)":("a"|"list"|"submit"|"results"|"upgrade"|-1\.5|\[\]|\["a"\]|null)){0,4}\}?"#
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn every_line_gets_exactly_one_answer(lines in prop::collection::vec(line(), 0..8), size in 1usize..20) {
        let input = lines.join(&b'\n');
        // Lines as the service counts them: the pieces may hold line feeds of their own.
        let expected = input.split(|&b| b == b'\n').filter(|line| line.iter().any(|&b| b != b'\r')).count();
        let run = |size: usize| {
            let mut script = Script::new(refuse);
            script.send(&input, size);
            script.end();
            prop_assert!(script.session.wants_close());
            Ok((script.requests, script.output))
        };
        let (requests, output) = run(size)?;
        let output = String::from_utf8(output).unwrap();
        prop_assert_eq!(output.lines().count(), expected + 1);
        prop_assert!(output.lines().skip(1).all(|line| line.starts_with("ERROR: ")));
        let (same_requests, same_output) = run(usize::MAX)?;
        prop_assert_eq!(requests, same_requests);
        prop_assert_eq!(output.as_bytes(), &*same_output);
    }

    #[test]
    fn surplus_bytes_reach_the_next_mode(
        before in prop::collection::vec("[a-z]{1,5}", 0..3),
        mode in 0usize..3,
        surplus in prop::collection::vec(any::<u8>(), 0..200),
        size in 1usize..50,
    ) {
        let (command, reply) = [
            ("work submit b echo", Reply::SubmitReady { unit: "abc".into() }),
            ("connect b control ", Reply::Connecting),
            (r#"{"command":"work","subcommand":"upgrade","version":1}"#, Reply::Upgraded { version: 1 }),
        ][mode].clone();
        let mut input = Vec::new();
        for name in &before {
            input.extend_from_slice(name.as_bytes());
            input.push(b'\n');
        }
        input.extend_from_slice(command.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(&surplus);
        let mut script = Script::new(move |request| match request {
            Request::Connect(_) | Request::Work(_) => reply.clone(),
            _ => Reply::Error("refused".into()),
        });
        script.send(&input, size);
        script.end();
        prop_assert_eq!(script.raw, surplus);
        prop_assert_eq!(script.raw_end, Some(RawInput::End));
    }

    /// Whatever the caller does, and in whatever order: no panic.
    #[test]
    fn no_order_of_calls_panics(calls in prop::collection::vec((0u8..12, line()), 0..40)) {
        let mut session = Session::new(&"hub".into(), Origin::Local);
        let unit = || String::from("abc");
        for (call, mut data) in calls {
            match call {
                0..=2 => {
                    data.push(b'\n');
                    session.handle_data(data.into());
                }
                3 => drop(session.poll_request()),
                4 => drop(session.poll_raw()),
                5 => drop(session.poll_transmit(usize::MAX)),
                6 => drop(session.reply(Reply::Connecting)),
                7 => drop(session.reply(Reply::SubmitReady { unit: unit() })),
                8 => drop(session.reply(Reply::ResultsStart { unit: unit() })),
                9 => drop(session.reply(Reply::Error("x".into()))),
                10 => drop(session.send_raw(data.into())),
                _ if data.len() % 7 == 0 => session.handle_eof(),
                _ => drop(session.finish_raw()),
            }
            prop_assert!(!(session.wants_close() && session.wants_input()));
        }
    }
}
