//! TLS configs beside the programs of others: a Go node, OpenSSL, the Python client.
//!
//! | | run |
//! |---|---|
//! | ours – Go, both with certificates | `connect` and remote work both ways; the certificate of another node on either side |
//! | OpenSSL, TLS 1.2 and 1.3 | `s_client` at our control service's TCP socket, `s_server` behind our `tcp-client` |
//! | OpenSSL, TLS 1.2 and 1.3, on links | `s_client` at our `tcp-listener`, our `tcp-peer` at `s_server`; the wrong certificate of either |
//! | the Python client | status, ping and work over TCP with TLS and a client certificate |

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use receptor_tests::live::{
    Authority, Builder, Identity, Node, PATIENCE, Scratch, UNIT_LIMIT, free_port, go_node, python_client, skipped,
    until, wait_for_routes,
};
use serde_json::Value;

/// A daemon with a `tls-server` that asks for certificates and a `tls-client`, both with this certificate.
fn with_tls(builder: Builder, ca: &Authority, own: &Identity) -> Builder {
    builder
        .entity(
            "tls-server",
            &[
                ("name", "server"),
                ("cert", &own.cert),
                ("key", &own.key),
                ("clientcas", &ca.cert),
                ("requireclientcert", "true"),
                ("skipreceptornamescheck", "true"),
            ],
        )
        .entity(
            "tls-client",
            &[
                ("name", "client"),
                ("cert", &own.cert),
                ("key", &own.key),
                ("rootcas", &ca.cert),
                ("skipreceptornamescheck", "true"),
            ],
        )
        .with("control-service", "tls", "server")
}

/// Ours and a Go node, which show certificates that name these nodes.
fn beside_go(scratch: &Scratch, shown: [&str; 2]) -> Option<[Node; 2]> {
    let go = go_node()?;
    let ca = Authority::new(scratch.path(), "ca");
    let port = free_port();
    let ours = Builder::new(scratch, "ours").work().listen(port, 1.0);
    let theirs = Builder::new(scratch, "go").binary(go).work().peer(port, 1.0);
    let nodes = [
        with_tls(ours, &ca, &ca.issue("ours", &[shown[0]])).start(),
        with_tls(theirs, &ca, &ca.issue("go", &[shown[1]])).start(),
    ];
    wait_for_routes(&nodes);
    Some(nodes)
}

fn submit(at: &Node, to: &Node) -> Result<String, String> {
    let command = format!(
        r#"{{"command":"work","subcommand":"submit","node":"{}","worktype":"upper","tlsclient":"client","secret_x":"y"}}"#,
        to.id
    );
    at.control()
        .submit(&command, b"over tls")
        .map(|submitted| submitted.unit)
}

#[test]
fn go_nodes_and_ours_prove_to_each_other_who_they_are() {
    let scratch = Scratch::new();
    let Some(nodes) = beside_go(&scratch, ["ours", "go"]) else {
        return;
    };
    for (from, to) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
        let mut session = from.control();
        let connect = format!("connect {} control client", to.id);
        assert_eq!(session.command(&connect).unwrap(), "Connecting");
        assert_eq!(session.line().unwrap(), format!("Receptor Control, node {}", to.id));
        assert_eq!(session.json("status").unwrap()["NodeID"], to.id.as_str());

        let unit = submit(from, to).unwrap();
        let mut control = from.control();
        control.wait_for_unit(&unit, UNIT_LIMIT, |status| status["StateName"] == "Succeeded");
        assert_eq!(from.control().results(&unit, 0).unwrap(), b"OVER TLS");

        // Without a config nobody gets in, and the dialler says so itself.
        let refused = from.control().command(&format!("connect {} control", to.id)).unwrap();
        assert!(
            refused.contains("CRYPTO_ERROR") && refused.contains("insecure connection to secure service"),
            "{refused}"
        );
    }
}

#[test]
fn a_certificate_of_another_node_opens_nothing() {
    for (shown, liar) in [(["thief", "go"], 0), (["ours", "thief"], 1)] {
        let scratch = Scratch::new();
        let Some(nodes) = beside_go(&scratch, shown) else {
            return;
        };
        let (liar, honest) = (&nodes[liar], &nodes[1 - liar]);
        // Dialled, it is found out by the dialler.
        let refused = honest
            .control()
            .command(&format!("connect {} control client", liar.id))
            .unwrap();
        let expected = format!("x509: certificate is valid for Receptor node ID thief, not {}", liar.id);
        assert!(
            refused.starts_with("ERROR: ") && refused.contains(&expected),
            "{refused}"
        );
        // Dialling, it is let in by TLS 1.3 at first, and hears nothing.
        let mut session = liar.control();
        let connect = format!("connect {} control client", honest.id);
        let answer = session.command(&connect).unwrap();
        assert!(answer == "Connecting" || answer.contains("CRYPTO_ERROR"), "{answer}");
        let heard = session.rest().unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&heard).contains("Receptor Control"),
            "{heard:?}"
        );
        // No work either; where the client is not told at once, the unit is.
        for (at, to) in [(liar, honest), (honest, liar)] {
            let before = to.control().json("work list").unwrap().as_object().unwrap().len();
            let _ = submit(at, to);
            let failed = until("the unit has failed", UNIT_LIMIT, || {
                let units: Value = at.control().json("work list")?;
                let mut units = units.as_object().into_iter().flatten().map(|(_, unit)| unit.clone());
                let failed = units.find(|unit| unit["StateName"] == "Failed");
                failed.ok_or_else(|| format!("{units:?}"))
            });
            let detail = failed["Detail"].as_str().unwrap();
            assert!(detail.contains("TLS error connecting to remote service"), "{detail}");
            let after = to.control().json("work list").unwrap().as_object().unwrap().len();
            assert_eq!(after, before, "nothing came to {}", to.id);
        }
    }
}

fn openssl(arguments: &[&str]) -> Child {
    let command = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    command.unwrap_or_else(|error| panic!("openssl: {error}"))
}

fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        skipped("there is no openssl");
    }
    found
}

/// A daemon whose control service is on TCP with TLS.
fn control_on_tcp(scratch: &Scratch, ca: &Authority, min_tls13: bool) -> (Node, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let own = ca.node("ours");
    let builder = with_tls(Builder::new(scratch, "ours").work().local_only(), ca, &own);
    let builder = builder
        .with("tls-server", "mintls13", if min_tls13 { "true" } else { "false" })
        .with("control-service", "tcplisten", &address)
        .with("control-service", "tcptls", "server");
    (builder.start(), address)
}

#[test]
fn openssl_talks_to_our_control_service() {
    if !has_openssl() {
        return;
    }
    let scratch = Scratch::new();
    let ca = Authority::new(scratch.path(), "ca");
    let stranger = Authority::new(scratch.path(), "stranger").issue("client", &[]);
    let client = ca.issue("client", &[]);
    let run = |address: &str, version: &str, shown: Option<&Identity>| {
        let mut arguments = vec![
            "s_client",
            "-connect",
            address,
            "-CAfile",
            &ca.cert,
            "-verify_return_error",
        ];
        arguments.extend(["-verify_hostname", "localhost", "-quiet", version]);
        if let Some(Identity { cert, key }) = shown {
            arguments.extend(["-cert", cert, "-key", key]);
        }
        let mut child = openssl(&arguments);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"status\n").unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut greeting, mut status) = (String::new(), String::new());
        stdout.read_line(&mut greeting).unwrap();
        stdout.read_line(&mut status).unwrap();
        // It waits for the server's end, not for that of its input. Where it was refused it has ended, or is about to.
        if greeting.is_empty() {
            child.wait().unwrap();
        } else {
            child.kill().unwrap();
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        (greeting, status, said)
    };
    let (node, address) = control_on_tcp(&scratch, &ca, false);
    for version in ["-tls1_2", "-tls1_3"] {
        let (greeting, status, said) = run(&address, version, Some(&client));
        assert_eq!(greeting, "Receptor Control, node ours\n", "{version}: {said}");
        assert!(status.starts_with("{\"Advertisements\""), "{status}");
        for (shown, alert) in [(None, "certificate required"), (Some(&stranger), "unknown ca")] {
            let (greeting, _, said) = run(&address, version, shown);
            assert_eq!(greeting, "", "{version}");
            let alert = if version == "-tls1_2" && shown.is_none() {
                "alert"
            } else {
                alert
            };
            assert!(said.contains(alert), "{version}, {alert}: {said}");
        }
    }
    node.wait_for_log(&["TLS handshake with 127.0.0.1:", "peer sent no certificates"]);
    drop(node);
    let (_node, address) = control_on_tcp(&scratch, &ca, true);
    let (greeting, _, said) = run(&address, "-tls1_2", Some(&client));
    assert_eq!(greeting, "", "{said}");
    assert!(said.contains("alert protocol version"), "{said}");
    assert_eq!(
        run(&address, "-tls1_3", Some(&client)).0,
        "Receptor Control, node ours\n"
    );
}

#[test]
fn our_proxy_talks_to_openssl() {
    if !has_openssl() {
        return;
    }
    let scratch = Scratch::new();
    let ca = Authority::new(scratch.path(), "ca");
    let server = ca.issue("server", &[]);
    for (version, log) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (target, port) = (free_port(), free_port());
        let accept = format!("127.0.0.1:{target}");
        let mut child = openssl(&[
            "s_server",
            "-accept",
            &accept,
            "-cert",
            &server.cert,
            "-key",
            &server.key,
            "-CAfile",
            &ca.cert,
            "-Verify",
            "1",
            "-verify_return_error",
            "-rev",
            version,
        ]);
        let builder = with_tls(
            Builder::new(&scratch, &format!("n{target}")).local_only(),
            &ca,
            &ca.issue("n", &["n"]),
        );
        let node = builder
            .entity(
                "tcp-client",
                &[
                    ("service", "openssl"),
                    ("address", &format!("localhost:{target}")),
                    ("tlsclient", "client"),
                ],
            )
            .entity(
                "tcp-server",
                &[
                    ("port", &port.to_string()),
                    ("bindaddr", "127.0.0.1"),
                    ("remotenode", "localhost"),
                    ("remoteservice", "openssl"),
                ],
            )
            .start();
        let answer = until("s_server answers", PATIENCE, || {
            let client = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
            client
                .set_read_timeout(Some(PATIENCE))
                .map_err(|error| error.to_string())?;
            (&client).write_all(b"stressed\n").map_err(|error| error.to_string())?;
            let mut line = String::new();
            let read = BufReader::new(&client).read_line(&mut line);
            let _ = client.shutdown(Shutdown::Both);
            match read {
                Ok(0) => Err("closed".to_owned()),
                Ok(_) => Ok(line),
                Err(error) => Err(error.to_string()),
            }
        });
        assert_eq!(answer, "desserts\n", "{log}");
        drop(node);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// What a program prints until there is `word` in it, or it ends.
fn printed_until(child: &mut Child, word: &str) -> String {
    let mut stdout = child.stdout.take().unwrap();
    let mut printed = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&printed).into_owned();
        if text.contains(word) {
            return text;
        }
        match stdout.read(&mut buffer) {
            Ok(count) if count > 0 => printed.extend_from_slice(&buffer[..count]),
            _ => return text,
        }
    }
}

/// Ends a program and gives what it complained about.
fn complaints(mut child: Child) -> String {
    child.kill().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

/// A node's first word over a link.
const HELLO: &str = r#"{"NodeID":"ours""#;

#[test]
fn openssl_dials_our_links() {
    if !has_openssl() {
        return;
    }
    let scratch = Scratch::new();
    let ca = Authority::new(scratch.path(), "ca");
    let right = ca.issue("client", &[]);
    let stranger = Authority::new(scratch.path(), "stranger").issue("client", &[]);
    for version in ["-tls1_2", "-tls1_3"] {
        for (shown, reason) in [
            (Some(&right), None),
            (None, Some("peer sent no certificates")),
            (Some(&stranger), Some("x509: certificate signed by unknown authority")),
        ] {
            // A node of its own for each: it complains once a second only.
            let port = free_port().to_string();
            let address = format!("127.0.0.1:{port}");
            let listener = [("bindaddr", "127.0.0.1"), ("port", &*port), ("tls", "server")];
            let place = Scratch::new();
            let node = with_tls(Builder::new(&place, "ours"), &ca, &ca.node("ours"))
                .entity("tcp-listener", &listener)
                .start();
            let mut arguments = vec![
                "s_client",
                "-connect",
                &address,
                "-CAfile",
                &ca.cert,
                "-verify_return_error",
            ];
            arguments.extend(["-verify_hostname", "localhost", "-quiet", version]);
            if let Some(Identity { cert, key }) = shown {
                arguments.extend(["-cert", cert, "-key", key]);
            }
            let mut child = openssl(&arguments);
            let printed = printed_until(&mut child, HELLO);
            let said = complaints(child);
            assert_eq!(printed.contains(HELLO), reason.is_none(), "{version}: {printed}{said}");
            if let Some(reason) = reason {
                assert!(said.contains("alert"), "{version}: {said}");
                node.wait_for_log(&["connection from 127.0.0.1:", "refused: tls: ", reason]);
            }
        }
    }
}

#[test]
fn our_links_dial_openssl() {
    if !has_openssl() {
        return;
    }
    let scratch = Scratch::new();
    let (ca, other) = (
        Authority::new(scratch.path(), "ca"),
        Authority::new(scratch.path(), "other"),
    );
    for version in ["-tls1_2", "-tls1_3"] {
        // Whom the server has its certificate from, and whom it believes.
        for (server, believes) in [(&ca, &ca), (&other, &ca), (&ca, &other)] {
            let identity = server.issue("server", &["theirs"]);
            let accept = format!("127.0.0.1:{}", free_port());
            let mut arguments = vec![
                "s_server",
                "-accept",
                &accept,
                "-cert",
                &identity.cert,
                "-key",
                &identity.key,
            ];
            arguments.extend([
                "-CAfile",
                &believes.cert,
                "-Verify",
                "1",
                "-verify_return_error",
                "-quiet",
                version,
            ]);
            let mut child = openssl(&arguments);
            let node = with_tls(Builder::new(&scratch, "ours"), &ca, &ca.node("ours"))
                .entity("tcp-peer", &[("address", &accept), ("tls", "client")])
                .start();
            let is_right = std::ptr::eq(server, &ca) && std::ptr::eq(believes, &ca);
            if is_right {
                let printed = printed_until(&mut child, HELLO);
                assert!(printed.contains(HELLO), "{version}: {printed}");
                child_ends(child);
                continue;
            }
            if std::ptr::eq(server, &other) {
                let reason = "tls: x509: certificate signed by unknown authority";
                node.wait_for_log(&["Backend connection failed (will retry): dial ", &accept, reason]);
            } else {
                // Under TLS 1.3 it hears after its own handshake that its certificate is not believed.
                node.wait_for_log(&[&accept, "tls: unknown ca"]);
            }
            child_ends(child);
        }
    }
}

fn child_ends(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_python_client_speaks_tls_over_tcp() {
    let Some(bin) = python_client() else { return };
    let scratch = Scratch::new();
    let ca = Authority::new(scratch.path(), "ca");
    let client = ca.issue("client", &[]);
    let (node, address) = control_on_tcp(&scratch, &ca, false);
    let run = |identity: Option<&Identity>, arguments: &[&str]| {
        let mut command = Command::new(bin.join("receptorctl"));
        command.args(["--socket", &format!("tls://{address}"), "--rootcas", &ca.cert]);
        if let Some(Identity { cert, key }) = identity {
            command.args(["--cert", cert, "--key", key]);
        }
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (ok, status, said) = run(Some(&client), &["status"]);
    assert!(ok && status.contains("Node ID: ours"), "{status}{said}");
    let (ok, answer, said) = run(Some(&client), &["ping", "ours", "--count", "1"]);
    assert!(ok && answer.contains("Reply from ours"), "{answer}{said}");
    let submit = [
        "work",
        "submit",
        "upper",
        "--node",
        "ours",
        "--payload-literal",
        "half-closed",
        "-f",
        "--rm",
    ];
    let (ok, output, said) = run(Some(&client), &submit);
    assert!(ok && output.contains("HALF-CLOSED"), "{output}{said}");
    let (ok, _, said) = run(None, &["status"]);
    assert!(!ok, "{said}");
    node.wait_for_log(&["TLS handshake with 127.0.0.1:", "peer sent no certificates"]);
}
