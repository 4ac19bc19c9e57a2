//! What follows a reply: lines, stdin, raw bytes, the end (`control.md` §2, §5.3, §6.1, §6.5).

use super::*;

fn answer(request: &Request) -> Reply {
    let unit = || "abc".into();
    match request {
        Request::Ping { target } => Reply::Ping(PingReply::Failure(target.clone())),
        Request::Connect(connect) if connect.node == "nowhere" => Reply::Error("no route to node".into()),
        Request::Connect(_) => Reply::Connecting,
        Request::Work(WorkRequest::Submit(submit)) if submit.work_type == "x" => {
            Reply::Error("unknown work type x".into())
        }
        Request::Work(WorkRequest::Submit(_)) => Reply::SubmitReady { unit: unit() },
        Request::Work(WorkRequest::Results { .. }) => Reply::ResultsStart { unit: unit() },
        Request::Work(WorkRequest::Upgrade { version: 1, time: None }) => Reply::Upgraded { version: 1 },
        Request::Work(WorkRequest::Upgrade { version, .. }) => {
            Reply::Error(alloc::format!("work session version {version} is not supported"))
        }
        _ => Reply::Error("refused".into()),
    }
}

const SIZES: [usize; 4] = [usize::MAX, 1, 2, 7];

#[test]
fn commands_run_in_order_and_errors_do_not_end_the_session() {
    let input = b"\n\r\nping a\r\nbogus\n{\"command\":1}\nping b\nping c";
    let (requests, output) = transcript(input, answer);
    let pinged = requests.iter().map(|r| {
        if let Request::Ping { target } = r {
            &**target
        } else {
            ""
        }
    });
    assert_eq!(pinged.collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        output,
        "{\"Success\":false,\"Error\":\"a\"}\nERROR: Unknown command, bogus\nERROR: command must be a string\n\
         {\"Success\":false,\"Error\":\"b\"}\n{\"Success\":false,\"Error\":\"c\"}\n"
    );
}

#[test]
fn an_empty_session_is_greeted_and_closed() {
    assert_eq!(transcript(b"", answer), (Vec::new(), String::new()));
    assert_eq!(transcript(b"\r\n\n\r", answer), (Vec::new(), String::new()));
}

#[test]
fn the_next_command_waits_for_the_reply_and_the_end_for_the_last_answer() {
    let mut session = Session::new(&"hub".into(), Origin::Local);
    session.handle_data(Bytes::from_static(b"ping a\nping b"));
    session.handle_eof();
    assert_eq!(session.poll_request(), Some(Request::Ping { target: "a".into() }));
    assert_eq!(session.poll_request(), None);
    session.reply(Reply::Error("x".into())).unwrap();
    assert_eq!(session.poll_request(), Some(Request::Ping { target: "b".into() }));
    while session.poll_transmit(usize::MAX).is_some() {}
    assert!(!session.wants_close());
    session.reply(Reply::Error("x".into())).unwrap();
    assert!(!session.wants_close(), "the answer is not transmitted yet");
    assert_eq!(session.pending_output(), "ERROR: x\n".len());
    while session.poll_transmit(usize::MAX).is_some() {}
    assert!(session.wants_close());
    assert_eq!(session.pending_output(), 0);
}

#[test]
fn a_failed_connection_executes_no_half_line() {
    let mut session = Session::new(&"hub".into(), Origin::Network);
    session.handle_data(Bytes::from_static(b"work release abc"));
    session.handle_input_error("cut".into());
    assert_eq!(session.poll_request(), None);
    while session.poll_transmit(usize::MAX).is_some() {}
    assert!(session.wants_close());
}

#[test]
fn submit_takes_everything_after_its_line_as_stdin() {
    for size in SIZES {
        let mut script = Script::new(answer);
        script.send(b"work submit b x\nwork submit b echo\r\nping a\n\r\n\0\xff{", size);
        assert_eq!(
            script.answers(),
            "ERROR: unknown work type x\nWork unit created with ID abc. Send stdin data and EOF.\n"
        );
        assert_eq!(script.raw, b"ping a\n\r\n\0\xff{");
        assert_eq!(script.raw_end, None);
        assert!(script.session.send_raw(Bytes::from_static(b"x")).is_err());
        script.end();
        assert_eq!(script.raw_end, Some(RawInput::End));
        assert!(!script.session.wants_close());
        script
            .session
            .reply(Reply::SubmitDone {
                unit: "abc".into(),
                started: true,
            })
            .unwrap();
        script.drain();
        assert!(
            script
                .answers()
                .ends_with("EOF.\n{\"result\":\"Job Started\",\"unitid\":\"abc\"}\n")
        );
        assert!(script.session.wants_close());
    }
}

#[test]
fn a_submission_may_end_in_three_ways() {
    let submitted = Reply::SubmitDone {
        unit: "abc".into(),
        started: false,
    };
    for (end, reply, expected) in [
        (None, submitted, "{\"result\":\"Job Submitted\",\"unitid\":\"abc\"}\n"),
        (None, Reply::Error("no such program".into()), "ERROR: no such program\n"),
        (Some("cut"), Reply::Error("cut".into()), "ERROR: cut\n"),
    ] {
        let mut script = Script::new(answer);
        // At the end of input an unfinished line is executed: a submission with empty stdin.
        script.send(b"work submit b echo", 4);
        match end {
            None => script.session.handle_eof(),
            Some(error) => {
                script.send(b"\ndata", 4);
                script.session.handle_input_error(error.into());
            }
        }
        script.drain();
        assert_eq!(
            script.raw_end,
            Some(end.map_or(RawInput::End, |e| RawInput::Failed(e.into())))
        );
        script.session.reply(reply).unwrap();
        script.drain();
        assert!(script.answers().ends_with(expected), "{}", script.answers());
        assert!(script.session.wants_close());
    }
}

#[test]
fn an_early_end_of_a_submission_drains_the_rest() {
    let mut script = Script::new(answer);
    script.send(b"work submit b echo\nsome", usize::MAX);
    script
        .session
        .reply(Reply::Error("no space left on device".into()))
        .unwrap();
    for _ in 0..100 {
        assert!(script.session.wants_input());
        script.send(b"ping a\n", 3);
    }
    assert!(
        !script.session.wants_close(),
        "so that the client gets to read the error"
    );
    script.end();
    assert!(script.session.wants_close());
    assert_eq!(script.raw, b"some");
    assert_eq!(script.requests.len(), 1);
    assert!(script.answers().ends_with("ERROR: no space left on device\n"));
}

#[test]
fn connect_bridges_with_half_close() {
    for size in SIZES {
        let mut script = Script::new(answer);
        script.send(b"connect nowhere s\nconnect b s \nstatus\n\r\x00", size);
        assert_eq!(script.answers(), "ERROR: no route to node\nConnecting\n");
        assert_eq!(script.raw, b"status\n\r\x00");
        script
            .session
            .send_raw(Bytes::from_static(b"Receptor Control, node b\n"))
            .unwrap();
        script.drain();
        script.end();
        assert_eq!(script.raw_end, Some(RawInput::End));
        assert!(!script.session.wants_input());
        script.session.send_raw(Bytes::from_static(b"{}\n")).unwrap();
        script.drain();
        assert!(!script.session.wants_close(), "the other direction keeps flowing");
        script.session.finish_raw().unwrap();
        assert!(script.session.wants_close());
        assert!(script.session.send_raw(Bytes::from_static(b"late")).is_err());
        assert!(
            script
                .answers()
                .ends_with("\nConnecting\nReceptor Control, node b\n{}\n")
        );
    }
}

#[test]
fn the_end_of_the_stream_ends_a_bridge_after_its_bytes() {
    let mut script = Script::new(answer);
    script.send(b"connect b s\n", usize::MAX);
    script.session.send_raw(Bytes::from_static(b"last")).unwrap();
    script.session.finish_raw().unwrap();
    assert!(!script.session.wants_close());
    assert!(!script.session.wants_input());
    script.session.handle_data(Bytes::from_static(b"ignored"));
    script.drain();
    assert!(script.session.wants_close());
    assert_eq!(script.raw, b"");
    assert!(script.answers().ends_with("Connecting\nlast"));
}

#[test]
fn results_are_raw_and_end_by_closing() {
    for size in SIZES {
        let mut script = Script::new(answer);
        script.send(b"work results abc 0\nping a\n", size);
        assert!(script.session.wants_input(), "to notice a lost client");
        script.session.send_raw(Bytes::from_static(b"\x00out")).unwrap();
        script.end();
        assert!(
            !script.session.wants_close(),
            "a client may half-close after the header"
        );
        script.session.send_raw(Bytes::from_static(b"put")).unwrap();
        script.session.finish_raw().unwrap();
        script.drain();
        assert_eq!(script.answers(), "Streaming results for work unit abc\n\0output");
        assert!(script.session.wants_close());
        assert_eq!(script.requests.len(), 1, "input after the command is not read");
    }
}

#[test]
fn an_upgrade_hands_the_connection_over() {
    for size in SIZES {
        let mut script = Script::new(answer);
        script.send(
            b"{\"command\":\"work\",\"subcommand\":\"upgrade\",\"version\":2}\n",
            size,
        );
        script.send(
            b"{\"command\":\"work\",\"subcommand\":\"upgrade\",\"version\":1}\n\x01\x02\n",
            size,
        );
        assert_eq!(
            script.answers(),
            "ERROR: work session version 2 is not supported\n{\"upgraded\":1}\n"
        );
        assert_eq!(script.raw, b"\x01\x02\n");
        script.session.send_raw(Bytes::from_static(b"\x03")).unwrap();
        script.end();
        assert_eq!(script.raw_end, Some(RawInput::End));
        script.session.finish_raw().unwrap();
        script.drain();
        assert!(script.answers().ends_with("\n\x03"));
        assert!(script.session.wants_close());
    }
}

#[test]
fn an_endless_line_gets_a_clear_error_and_is_not_kept() {
    let mut script = Script::new(answer);
    let chunk = alloc::vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        assert!(script.session.wants_input());
        script.send(&chunk, usize::MAX);
    }
    assert_eq!(script.answers(), "ERROR: command line exceeds 4194304 bytes\n");
    assert!(!script.session.wants_close(), "the client is still writing its line");
    script.send(b"x\nping a\n", usize::MAX);
    assert!(script.session.wants_close());
    assert_eq!(script.requests, []);
}

#[test]
fn draining_is_bounded() {
    let mut script = Script::new(answer);
    let chunk = Bytes::from(alloc::vec![b'x'; 4 * 1024 * 1024]);
    let mut sent = 0;
    while script.session.wants_input() {
        script.session.handle_data(chunk.clone());
        sent += 1;
        assert!(sent < 30);
    }
    script.drain();
    assert!(script.session.wants_close());
}

#[test]
fn pipelined_commands_are_held_back_by_a_slow_reader() {
    let mut session = Session::new(&"hub".into(), Origin::Local);
    let mut accepted = 0;
    while session.wants_input() {
        session.handle_data(Bytes::from_static(b"bogus\n"));
        accepted += 1;
        assert!(accepted < 1_000_000);
    }
    assert!(session.pending_output() < OUTPUT_MAX + 100);
    let mut answers = 0;
    while let Some(line) = session.poll_transmit(usize::MAX) {
        answers += line.iter().filter(|&&b| b == b'\n').count();
    }
    assert_eq!(answers, accepted + 1, "nothing is lost");
    assert!(session.wants_input());
}

#[test]
fn early_input_is_bounded() {
    for size in [1000, INPUT_MAX] {
        let mut session = Session::new(&"hub".into(), Origin::Local);
        session.handle_data(Bytes::from_static(b"ping a\n"));
        let mut chunks = 0;
        while session.wants_input() {
            session.handle_data(alloc::vec![b'x'; size].into());
            chunks += 1;
            assert!(chunks < 1000);
        }
        assert_eq!(session.take_credit(), "ping a\n".len());
        assert_eq!(session.take_credit(), 0);
        assert!(session.poll_request().is_some());
        session.reply(Reply::Error("x".into())).unwrap();
        assert_eq!(session.take_credit(), chunks * size);
        assert!(session.wants_input(), "taken as a line when its turn comes");
    }
}
