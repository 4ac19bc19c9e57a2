//! What a daemon must survive or say clearly when the machine lets it down: configuration that cannot be read, ports and
//! sockets in use, a data directory that cannot be made, full disks.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use receptor_tests::live::{
    Builder, Node, PATIENCE, Process, Scratch, UNIT_LIMIT, free_port, holds_for, routes, skipped, until,
};

fn listening(scratch: &Scratch) -> Node {
    Builder::new(scratch, "target").listen(free_port(), 1.0).work().start()
}

#[test]
fn configurations_that_cannot_be_read() {
    let scratch = Scratch::new();
    let missing = scratch.join("missing.yml").display().to_string();
    let directory = scratch.path().display().to_string();
    let broken = scratch.write("broken.yml", "- node: {id: x\n- [").display().to_string();
    let binary = scratch.write("binary.yml", [0xff; 4_000]).display().to_string();
    let unknown = scratch
        .write("unknown.yml", "- node: {id: x}\n- tcp-pear: {address: a:1}\n")
        .display()
        .to_string();
    for (file, words) in [
        (&missing, &["missing.yml", "no such file"][..]),
        (&directory, &["is a directory"]),
        (&broken, &[]),
        (&binary, &[]),
        (&unknown, &["tcp-pear"]),
    ] {
        let exited = Builder::new(&Scratch::new(), "unread").run_with_arguments(&["--config", file]);
        assert_eq!(exited.code, Some(1), "{exited:?}");
        assert!(exited.output.contains("Error: "), "{exited:?}");
        for word in words {
            assert!(exited.output.to_lowercase().contains(word), "{word} in {exited:?}");
        }
    }
}

#[test]
fn a_port_in_use() {
    let scratch = Scratch::new();
    let port = free_port();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it was free");
    let exited = Builder::new(&scratch, "late").listen(port, 1.0).run();
    assert_eq!(exited.code, Some(1), "{exited:?}");
    let error = exited
        .output
        .lines()
        .find(|line| line.contains("Error: "))
        .expect("an error line")
        .to_lowercase();
    assert!(
        error.contains("address already in use") && error.contains(&port.to_string()),
        "{exited:?}"
    );
}

#[test]
fn a_control_socket_in_use() {
    let scratch = Scratch::new();
    let mut first = listening(&scratch);
    let socket = first.socket().display().to_string();
    let second = Builder::new(&scratch, "second")
        .with("control-service", "filename", &socket)
        .local_only();
    let exited = second.run();
    assert_eq!(exited.code, Some(1), "{exited:?}");
    assert!(
        exited.output.contains("could not acquire lock on socket file"),
        "{exited:?}"
    );
    first.assert_alive();

    // What a killed daemon left behind is no obstacle.
    first.kill();
    assert!(first.socket().exists());
    first.start_again();
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "");
    let data = file.join("data").display().to_string();
    let mut node = Builder::new(&scratch, "nodata")
        .with("node", "datadir", &data)
        .local_only()
        .work()
        .spawn();
    // Either the daemon does not start, or it refuses work: in both cases it names the directory or the reason.
    until("it answers or ends", PATIENCE, || {
        if node.has_ended() {
            Ok(())
        } else {
            node.try_status().map(drop)
        }
    });
    let says_why = |text: &str| text.contains(&data) || text.to_lowercase().contains("not a directory");
    if node.has_ended() {
        let exited = node.wait_for_exit();
        assert_eq!(exited.code, Some(1), "{exited:?}");
        assert!(says_why(&exited.output), "{exited:?}");
    } else {
        let refused = node
            .control()
            .submit("work submit nodata cat", b"x")
            .expect_err("nowhere to keep it");
        assert!(says_why(&refused), "{refused}");
        node.assert_alive();
    }
}

/// A daemon whose data directory is a disk of its own with this many kilobytes, or `None` where that cannot be had.
fn with_small_disk(scratch: &Scratch, id: &str, kilobytes: u32) -> Option<Builder> {
    let disk = scratch.join(&format!("disk-{id}"));
    fs::create_dir(&disk).expect("a directory can be made");
    let script = format!(
        "mount -t tmpfs -o size={kilobytes}k tmpfs '{}' && exec \"$0\" \"$@\"",
        disk.display()
    );
    for namespaces in ["-m", "-rm"] {
        let through = ["unshare", namespaces, "sh", "-c", &script];
        let tried = Command::new(through[0])
            .args(&through[1..])
            .arg("true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if tried.is_ok_and(|status| status.success()) {
            let builder = Builder::new(scratch, id).through(&through).work();
            return Some(builder.with("node", "datadir", &disk.join("data").display().to_string()));
        }
    }
    skipped("a full disk: no small file system can be mounted here");
    None
}

fn no_space(text: &str) -> bool {
    text.to_lowercase().contains("no space left")
}

#[test]
fn a_disk_that_is_full_for_input_and_output() {
    let scratch = Scratch::new();
    let Some(builder) = with_small_disk(&scratch, "full", 4_096) else {
        return;
    };
    let mut node = builder.local_only().start();
    let kept = node.submit("full", "cat", b"kept").unit;
    let status = node
        .control()
        .wait_for_unit(&kept, UNIT_LIMIT, |status| status["State"] == 2);
    assert_eq!(status["StdoutSize"], 4, "{status}");

    // Input.
    let refused = node
        .control()
        .submit("work submit full cat", &vec![b'x'; 16 << 20])
        .expect_err("a full disk");
    assert!(no_space(&refused), "{refused}");
    node.assert_alive();
    let list = node.control().json("work list").expect("a list");
    for unit in list
        .as_object()
        .expect("an object")
        .keys()
        .filter(|unit| **unit != kept)
    {
        // The record has no room either, until the input is given up.
        let status = node
            .control()
            .wait_for_unit(unit, UNIT_LIMIT, |status| status["State"].as_u64() > Some(1));
        assert_eq!(status["State"], 3, "{status}");
        assert!(no_space(status["Detail"].as_str().expect("text")), "{status}");
        node.control()
            .json(&format!("work release {unit}"))
            .expect("it can be released");
    }

    // Output: the command is held up, and can be cancelled; the record of that waits for room.
    let spare = node.submit("full", "shell 'head -c 100000 /dev/zero'", b"").unit;
    node.control()
        .wait_for_unit(&spare, UNIT_LIMIT, |status| status["State"] == 2);
    let unit = node.submit("full", "shell 'exec head -c 16000000 /dev/zero'", b"").unit;
    node.control().wait_for_unit(&unit, UNIT_LIMIT, |status| {
        status["StdoutSize"].as_u64() > Some(3_000_000)
    });
    holds_for("a unit with half its output runs", Duration::from_secs(1), || {
        let status = node.control().json(&format!("work status {unit}"))?;
        if status["State"] == 1 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let mut cancelling = node.control();
    cancelling
        .send(format!("work cancel {unit}\n").as_bytes())
        .expect("it is read");
    until("the command is gone", UNIT_LIMIT, || {
        let processes = scratch.processes();
        let of_unit = |process: &&Process| process.command_line.starts_with("head -c 16000000");
        processes
            .iter()
            .find(of_unit)
            .map_or(Ok(()), |process| Err(format!("{process:?}")))
    });
    node.control()
        .json(&format!("work release {spare}"))
        .expect("it can be released");
    assert_eq!(
        cancelling.line().expect("an answer"),
        format!("{{\"cancelled\":\"{unit}\"}}")
    );
    let status = node
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["State"].as_u64() > Some(1));
    assert_eq!(status["StateName"], "Canceled", "{status}");
    node.assert_alive();
    node.control()
        .json(&format!("work release {unit}"))
        .expect("it can be released");

    // There is space again.
    let unit = node.submit("full", "cat", &vec![b'y'; 1 << 20]).unit;
    assert_eq!(
        node.control().results(&unit, 0).expect("results of a known unit").len(),
        1 << 20
    );
    assert_eq!(
        node.control().results(&kept, 0).expect("results of a known unit"),
        b"kept"
    );
    node.assert_alive();
}

#[test]
fn a_disk_that_is_full_at_the_submitter() {
    let scratch = Scratch::new();
    let Some(builder) = with_small_disk(&scratch, "full", 4_096) else {
        return;
    };
    let executor = listening(&scratch);
    let mut node = builder.peer(executor.port(), 1.0).start();
    until("there is a route", PATIENCE, || {
        let status = node.try_status()?;
        if routes(&status).contains_key("target") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let filler = node.submit("full", "shell 'head -c 3000000 /dev/zero'", b"").unit;
    node.control()
        .wait_for_unit(&filler, UNIT_LIMIT, |status| status["State"] == 2);
    let unit = node.submit("target", "shell 'head -c 2000000 /dev/zero'", b"").unit;
    until("the executor has finished", UNIT_LIMIT, || {
        let list = executor.control().json("work list")?;
        let mut units = list.as_object().into_iter().flatten();
        if units.any(|(_, status)| status["State"] == 2) {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    // Whatever it says about the unit, it is not complete while its output is not there.
    let incomplete = |node: &Node| {
        let status = node.control().json(&format!("work status {unit}"))?;
        if status["State"] == 2 {
            Err(status.to_string())
        } else {
            Ok(())
        }
    };
    holds_for("an incomplete unit has not succeeded", Duration::from_secs(2), || {
        incomplete(&node)
    });
    node.assert_alive();

    // With space again it completes, unless it was given up with the reason.
    node.control()
        .json(&format!("work release {filler}"))
        .expect("it can be released");
    let status = node
        .control()
        .wait_for_unit(&unit, UNIT_LIMIT, |status| status["State"].as_u64() > Some(1));
    if status["State"] == 2 {
        assert_eq!(
            node.control().results(&unit, 0).expect("results of a known unit").len(),
            2_000_000
        );
    } else {
        assert!(no_space(status["Detail"].as_str().expect("text")), "{status}");
    }
    node.assert_alive();
}
