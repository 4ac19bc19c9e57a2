//! `reload` of real daemons (`control.md` §5.4, `config.md` §8).

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::thread;

use receptor_tests::live::{
    Authority, Builder, Node, PATIENCE, Place, Receptorctl, Scratch, Socket, free_port, noise, routes, skipped,
    tls_client, until, wait_for_routes,
};

/// Bytes that run through the link while it is reloaded; `RECEPTOR_RELOAD_MIB` gives another number of MiB.
fn length() -> usize {
    let mib = std::env::var("RECEPTOR_RELOAD_MIB").map_or(48, |mib| mib.parse().expect("a number of MiB"));
    mib << 20
}

fn edit(node: &Node, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(node.config()).expect("the file can be read");
    fs::write(node.config(), change(text)).expect("the file can be written");
}

fn reload(node: &Node) -> String {
    node.control().command("reload").expect("it answers")
}

const SUCCESS: &str = "{\"Success\":true}";

#[test]
fn a_stream_runs_on_while_everything_around_it_changes() {
    let scratch = Scratch::new();
    let (target, server, link) = (free_port(), free_port(), free_port());
    let (target_text, server_text) = (format!("127.0.0.1:{target}"), server.to_string());
    let near = Builder::new(&scratch, "near").work().listen(link, 1.0).entity(
        "tcp-server",
        &[
            ("bindaddr", "127.0.0.1"),
            ("port", &server_text),
            ("remotenode", "far"),
            ("remoteservice", "echo"),
        ],
    );
    let near = near.start();
    let far = Builder::new(&scratch, "far").work().peer(link, 1.0);
    let mut far = far
        .entity("tcp-client", &[("service", "echo"), ("address", &target_text)])
        .start();
    wait_for_routes([&near, &far]);

    let listener = Place::Tcp(target).listen();
    let echo = thread::spawn(move || {
        let socket = listener.accept();
        std::io::copy(&mut &socket, &mut &socket).expect("it echoes");
        socket.finish();
    });
    let client = Arc::new(Place::Tcp(server).connect());
    let sent = noise(7, length());
    let (expected, writer) = (sent.clone(), Arc::clone(&client));
    let writing = thread::spawn(move || {
        let mut socket: &Socket = &writer;
        socket.write_all(&sent).expect("it is taken");
        writer.finish();
    });

    let mut received = vec![0; expected.len()];
    let rounds = 12;
    let (mut reader, step): (&Socket, _) = (&client, expected.len() / rounds);
    let spare = free_port();
    for round in 0..rounds {
        let part = round * step..(round + 1) * step;
        reader.read_exact(&mut received[part]).expect("nothing is lost");
        let is_even = round % 2 == 0;
        for node in [&near, &far] {
            edit(node, |text| match round % 4 {
                0 => text.replace("\"info\"", "\"debug\""),
                1 => text.replace("\"debug\"", "\"info\""),
                _ => text,
            });
            edit(node, |text| {
                let (extra, _) = text.split_once("# extra").unwrap_or((&text, ""));
                let extra = extra.trim_end();
                if is_even {
                    format!(
                        "{extra}\n# extra\n- tcp-peer: {{address: '127.0.0.1:{spare}'}}\n\
                         - work-command: {{worktype: extra{round}, command: cat}}\n"
                    )
                } else {
                    format!("{extra}\n# extra\n")
                }
            });
            assert_eq!(reload(node), SUCCESS, "round {round}");
        }
    }
    reader
        .read_exact(&mut received[rounds * step..])
        .expect("nothing is lost");
    assert_eq!(reader.read(&mut [0]).expect("its end comes"), 0);
    writing.join().expect("all was sent");
    echo.join().expect("all was echoed");
    assert!(received == expected, "bytes differ");
    for node in [&near, &far] {
        let log = node.log();
        assert_eq!(log.matches("connection established with").count(), 1, "{log}");
        assert!(!log.contains("is gone"), "{log}");
    }
    far.assert_alive();
}

#[test]
fn backends_come_and_go_and_work_types_are_told_to_the_mesh() {
    let scratch = Scratch::new();
    let (first, second) = (free_port(), free_port());
    let hub = Builder::new(&scratch, "hub").listen(first, 1.0).start();
    let edge = Builder::new(&scratch, "edge").peer(first, 1.0).start();
    let late = Builder::new(&scratch, "late").peer(second, 1.0).start();
    wait_for_routes([&hub, &edge]);

    edit(&hub, |text| {
        format!(
            "{text}\n- tcp-listener: {{bindaddr: 127.0.0.1, port: {second}}}\n\
             - work-command: {{worktype: fresh, command: cat}}\n"
        )
    });
    assert_eq!(reload(&hub), SUCCESS);
    wait_for_routes([&hub, &edge, &late]);
    until("the new work type is known", PATIENCE, || {
        let status = edge.status();
        let adverts = status["Advertisements"].to_string();
        adverts.contains("\"fresh\"").then_some(()).ok_or(adverts)
    });
    let unit = edge.submit("hub", "fresh", b"hello");
    assert_eq!(edge.control().results(&unit.unit, 0).expect("it has output"), b"hello");

    edit(&hub, |text| {
        text.replace(
            &format!("- tcp-listener: {{bindaddr: 127.0.0.1, port: {second}}}\n"),
            "",
        )
    });
    assert_eq!(reload(&hub), SUCCESS);
    hub.wait_for_log(&["closed", "changed in the configuration"]);
    assert!(Place::Tcp(second).try_connect().is_err(), "the listener is closed");
    assert!(routes(&hub.status()).contains_key("edge"));
    assert_eq!(hub.log().matches("connection established with edge").count(), 1);
}

#[test]
fn a_reload_that_fails_says_why_and_changes_nothing() {
    let scratch = Scratch::new();
    let busy = free_port();
    let _taken = Place::Tcp(busy).listen();
    let node = Builder::new(&scratch, "node").listen(free_port(), 1.0).start();
    let good = fs::read_to_string(node.config()).expect("the file can be read");

    let answer = |bad: String, words: &[&str]| {
        edit(&node, |_| bad);
        let text = reload(&node);
        for word in words {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        assert!(text.contains("\"Success\":false"), "{text}");
        edit(&node, |_| good.clone());
        assert_eq!(reload(&node), SUCCESS);
    };
    let listener = format!("{good}\n- tcp-listener: {{bindaddr: 127.0.0.1, port: {busy}}}\n");
    answer(listener.clone(), &["ERRORCODE 4", "address already in use"]);
    answer(format!("{good}\n- nonsense\n"), &["ERRORCODE 4", "nonsense"]);
    let fixed = format!("{good}\n- tcp-client: {{service: x, address: 'localhost:1'}}\n");
    answer(fixed.clone(), &["ERRORCODE 3", "tcp-client", "Must restart receptor"]);

    let Some(client) = Receptorctl::new(&node.socket()) else {
        return skipped("the Python client");
    };
    assert_eq!(client.ok(&["reload"]).trim(), "Reload successful");
    edit(&node, |_| fixed);
    assert_eq!(client.run(&["reload"]).code, Some(3));
    edit(&node, |_| listener);
    assert_eq!(client.run(&["reload"]).code, Some(4));
}

/// The certificate that a listener shows, in DER.
fn shown(port: u16, ca: &str) -> Vec<u8> {
    let mut client = tls_client(&format!("127.0.0.1:{port}"), ca, None);
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock).expect("a handshake");
    }
    client.conn.peer_certificates().expect("certificates")[0].to_vec()
}

#[test]
fn certificates_that_are_written_anew_are_shown_to_newcomers_and_links_live_on() {
    let scratch = Scratch::new();
    let mesh = Authority::new(scratch.path(), "mesh");
    let identity = mesh.node("hub");
    let (port, address) = (free_port(), |port: u16| format!("127.0.0.1:{port}"));
    let hub = Builder::new(&scratch, "hub")
        .entity(
            "tls-server",
            &[("name", "s"), ("cert", &identity.cert), ("key", &identity.key)],
        )
        .entity(
            "tcp-listener",
            &[("bindaddr", "127.0.0.1"), ("port", &port.to_string()), ("tls", "s")],
        )
        .start();
    let peer = |id: &str| {
        let client = [("name", "c"), ("cert", ""), ("key", ""), ("rootcas", &*mesh.cert)];
        Builder::new(&scratch, id)
            .entity("tls-client", &client)
            .entity("tcp-peer", &[("address", &address(port)), ("tls", "c")])
    };
    let early = peer("early").start();
    wait_for_routes([&hub, &early]);
    let old = shown(port, &mesh.cert);
    assert_eq!(old, shown(port, &mesh.cert));

    // The key of one, the certificate of the other: half of a change is not used.
    let good = fs::read(&identity.key).expect("a key");
    fs::write(&identity.key, fs::read(&mesh.node("other").key).expect("a key")).expect("the file can be written");
    hub.wait_for_log(&["TLS files changed and cannot be used"]);
    assert_eq!(old, shown(port, &mesh.cert));
    fs::write(&identity.key, good).expect("the file can be written");
    hub.wait_for_log(&["TLS files were read again"]);

    mesh.node("hub");
    let new = until("the new certificate is shown", PATIENCE, || {
        let now = shown(port, &mesh.cert);
        if now == old {
            Err("the old one".to_owned())
        } else {
            Ok(now)
        }
    });
    let late = peer("late").start();
    wait_for_routes([&hub, &early, &late]);
    assert_eq!(new, shown(port, &mesh.cert));
    let log = hub.log();
    assert_eq!(log.matches("connection established with early").count(), 1, "{log}");
    assert!(!log.contains("connection to early is gone"), "{log}");
}

#[test]
fn a_file_of_sections_is_read_again_as_soon_as_it_is_written() {
    let scratch = Scratch::new();
    let (first, second) = (free_port(), free_port());
    let builder = Builder::new(&scratch, "hub");
    let (socket, data) = (scratch.join("hub.sock"), scratch.join("data"));
    let sections = format!(
        "node: {{id: hub, datadir: {}}}\nlog-level: {{level: info}}\ncontrol-services: [{{filename: {}}}]\n\
         tcp-listeners:\n- {{bindaddr: 127.0.0.1, port: {first}}}\n",
        data.display(),
        socket.display()
    );
    let hub = builder.start_with_sections(&sections);
    let edge = Builder::new(&scratch, "edge").peer(first, 1.0).start();
    let late = Builder::new(&scratch, "late").peer(second, 1.0).start();
    wait_for_routes([&hub, &edge]);
    edit(&hub, |text| format!("{text}nonsense: {{}}\n"));
    hub.wait_for_log(&["configuration not reloaded", "unknown section nonsense"]);
    edit(&hub, |_| {
        format!("{sections}- {{bindaddr: 127.0.0.1, port: {second}}}\n")
    });
    wait_for_routes([&hub, &edge, &late]);
    assert_eq!(hub.log().matches("connection established with edge").count(), 1);
}
