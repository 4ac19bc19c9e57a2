//! TLS configs: on mesh streams, on the sockets of control services and of proxies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use receptor_core::config::{BackendKind, ControlService, ControlTcp, RemoteService, Service};
use receptor_core::id::{NodeId, ServiceName};
use receptor_host::adapter::Tls;
use receptor_host::tls_files::{TlsClient, TlsFiles, TlsServer};
use serde_json::Value;

use crate::live::{Authority, Identity, free_port, tls_accept, tls_client};
use crate::suite::adapter::{Error, Node, StartError, Stream};
use crate::suite::{Bench, PATIENCE, Setup, until_reachable};

/// The TLS configs of a node: `strict` wants certificates of this authority, `open` wants none; `out` shows the own one.
fn files(ca: &Authority, own: &Identity) -> TlsFiles {
    let open = TlsServer {
        name: "open".into(),
        cert: own.cert.clone(),
        key: own.key.clone(),
        skip_receptor_names_check: true,
        ..TlsServer::default()
    };
    let strict = TlsServer {
        name: "strict".into(),
        require_client_cert: true,
        client_cas: ca.cert.clone(),
        ..open.clone()
    };
    let out = TlsClient {
        name: "out".into(),
        cert: own.cert.clone(),
        key: own.key.clone(),
        root_cas: ca.cert.clone(),
        skip_receptor_names_check: true,
        ..TlsClient::default()
    };
    TlsFiles {
        servers: vec![open, strict],
        clients: vec![out],
        ..TlsFiles::default()
    }
}

fn configs(files: &TlsFiles) -> Arc<Tls> {
    Arc::new(Tls::new(files.load(&NodeId::new("any")).expect("good files")))
}

fn with_tls(mut setup: Setup, files: &TlsFiles) -> Setup {
    setup.options.tls = configs(files);
    setup
}

/// Two nodes with certificates of one authority; `far` shows that of the node `shown`.
fn pair(bench: &Bench, ca: &Authority, shown: &str) -> [Box<dyn Node>; 2] {
    let port = free_port();
    let near = with_tls(Setup::new("near").listen(port), &files(ca, &ca.node("near")));
    let far = with_tls(Setup::new("far").peer(port), &files(ca, &ca.node(shown)));
    let (near, far) = (bench.near(&near), bench.far(&far));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
    [near, far]
}

fn refusal(dialled: Result<Stream, Error>) -> String {
    match dialled {
        Err(Error::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Both ends show certificates with the names of their nodes, and bytes go both ways.
pub fn streams_prove_who_is_at_both_ends(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let [near, far] = pair(bench, &ca, "far");
    let listener = near.listen_tls("echo", "strict").unwrap();
    let echoing = super::serve_one(listener, super::echo);
    let mut stream = far.dial_tls("near", "echo", "out").unwrap();
    let question = super::pattern(1, 1 << 20);
    stream.writer.write_all(&question).unwrap();
    stream.writer.shutdown().unwrap();
    let mut answer = stream.reader.read_to_end().unwrap();
    answer.reverse();
    assert!(answer == question);
    echoing.join().unwrap();

    // Who is dialled proves it as well.
    let _listener = far.listen_tls("open", "open").unwrap();
    drop(near.dial_tls("far", "open", "out").unwrap());
    let text = refusal(near.dial("far", "open"));
    assert!(text.contains("insecure connection to secure service"), "{text}");
    let _anonymous = far.listen("anon", None).unwrap();
    let text = refusal(near.dial_tls("far", "anon", "out"));
    assert!(text.contains("x509: certificate signed by unknown authority"), "{text}");
}

/// With the certificate of another node there is no stream, no control session and no work, in either direction.
pub fn a_certificate_of_one_node_is_not_good_for_another(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let port = free_port();
    let mut near = with_tls(bench.worker("near").listen(port), &files(&ca, &ca.node("near")));
    near.config.control_services[0].tls = Some("strict".into());
    let mut far = with_tls(bench.worker("far").peer(port), &files(&ca, &ca.node("thief")));
    far.config.control_services[0].tls = Some("open".into());
    let (near, far) = (bench.near(&near), bench.far(&far));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");

    // As a server: `far` shows that it is `thief`.
    let text = refusal(near.dial_tls("far", "control", "out"));
    let expected = "x509: certificate is valid for Receptor node ID thief, not far";
    assert!(text.ends_with(expected), "{text}");
    let text = bench.control("near").command("connect far control out").unwrap();
    assert!(text.starts_with("ERROR: ") && text.ends_with(expected), "{text}");

    // As a client: it learns only after its own handshake that it was refused.
    let mut session = far.dial_tls("near", "control", "out").unwrap();
    session.reader.read_to_end().unwrap_err();
    let mut control = bench.control("far");
    assert_eq!(control.command("connect near control out").unwrap(), "Connecting");
    assert_eq!(control.rest().unwrap_or_default(), b"", "no greeting");

    for (at, to, reason) in [("far", "near", "(remote): "), ("near", "far", expected)] {
        let command =
            format!(r#"{{"command":"work","subcommand":"submit","node":"{to}","worktype":"cat","tlsclient":"out"}}"#);
        let refused = bench.control(at).submit(&command, b"x").expect_err(&command);
        assert!(
            refused.contains("TLS error connecting to remote service: "),
            "{refused}"
        );
        assert!(refused.contains(reason), "{refused}");
    }
    // Only what each of them was asked for itself, and nothing of that ran.
    for at in ["near", "far"] {
        let units: Value = bench.control(at).json("work list").unwrap();
        let units = units.as_object().unwrap().values();
        let states: Vec<_> = units.map(|unit| (&unit["StateName"], &unit["WorkType"])).collect();
        assert!(
            matches!(states[..], [(state, kind)] if state == "Failed" && kind == "remote"),
            "at {at}: {states:?}"
        );
    }
    assert!(near.status().is_ok() && far.status().is_ok());
}

fn tcp_control(bench: &Bench, tls: Option<&str>, files: &TlsFiles) -> (Box<dyn Node>, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut setup = with_tls(Setup::new("near").backend(BackendKind::LocalOnly), files);
    setup.config.control_services.push(ControlService {
        tcp: Some(ControlTcp {
            bind: address.clone(),
            tls: tls.map(str::to_owned),
        }),
        ..ControlService::default()
    });
    (bench.near(&setup), address)
}

/// A control service on TCP, plain and with TLS; clients end their half below TLS.
pub fn control_over_tcp(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let files = files(&ca, &ca.node("near"));
    let (_node, address) = tcp_control(bench, None, &files);
    let client = TcpStream::connect(&address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (&client).write_all(b"status\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    (&client).read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("Receptor Control, node near\n{\"Advertisements\""),
        "{answer}"
    );
    drop(_node);

    for (config, identity) in [("open", None), ("strict", Some(ca.issue("anyone", &[])))] {
        let (_node, address) = tcp_control(bench, Some(config), &files);
        let mut client = BufReader::new(tls_client(&address, &ca.cert, identity.as_ref()));
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert_eq!(line, "Receptor Control, node near\n");
        client.get_mut().write_all(b"status\n").unwrap();
        client.get_ref().sock.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with('{') && answer.ends_with("}\n"), "{answer}");
        // Who speaks no TLS, or shows nothing where something is wanted, gets no session.
        let plain = TcpStream::connect(&address).unwrap();
        plain.set_read_timeout(Some(PATIENCE)).unwrap();
        (&plain).write_all(b"status\n").unwrap();
        let mut told = Vec::new();
        let _ = (&plain).read_to_end(&mut told);
        assert!(!String::from_utf8_lossy(&told).contains("Receptor"), "{told:?}");
    }
    let (_node, address) = tcp_control(bench, Some("strict"), &files);
    let mut bare = tls_client(&address, &ca.cert, None);
    assert!(bare.read_to_end(&mut Vec::new()).is_err());
}

/// TLS between a client and a `tcp-server`, on the mesh, and between a `tcp-client` and its target: three times its own.
pub fn local_sockets_of_proxies(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (link, port) = (free_port(), free_port());
    let near = with_tls(Setup::new("near").listen(link), &files(&ca, &ca.node("near"))).service(Service::TcpServer {
        bind: format!("127.0.0.1:{port}"),
        remote: RemoteService {
            node: "far".into(),
            service: "proxy".into(),
        },
        tls_server: Some("strict".into()),
        tls_client: Some("out".into()),
    });
    let client_of = |name: &str, port: u16| Service::TcpClient {
        service: ServiceName::new(name).unwrap(),
        address: format!("localhost:{port}"),
        tls_server: Some("strict".into()),
        tls_client: Some("out".into()),
    };
    let far = with_tls(Setup::new("far").peer(link), &files(&ca, &ca.node("far")));
    let far = far.service(client_of("proxy", target.local_addr().unwrap().port()));
    let (near, far) = (bench.near(&near), bench.far(&far));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");

    let server = ca.issue("server", &[]);
    let echoing = std::thread::spawn(move || {
        let mut peer = tls_accept(&target, &server);
        let mut question = Vec::new();
        peer.read_to_end(&mut question).unwrap();
        question.reverse();
        peer.write_all(&question).unwrap();
        peer.conn.send_close_notify();
        peer.flush().unwrap();
        target
    });
    let mut client = tls_client(&format!("127.0.0.1:{port}"), &ca.cert, Some(&ca.issue("client", &[])));
    let question = super::pattern(3, 3 << 20);
    client.write_all(&question).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer.reverse();
    assert!(answer == question);
    let target = echoing.join().unwrap();

    // A target with the certificate of another authority is nobody to connect to.
    let stranger = Authority::new(bench.scratch.path(), "stranger").issue("server", &[]);
    let refusing = std::thread::spawn(move || {
        let mut peer = tls_accept(&target, &stranger);
        peer.read_to_end(&mut Vec::new()).unwrap_err()
    });
    let mut client = tls_client(&format!("127.0.0.1:{port}"), &ca.cert, Some(&ca.issue("client2", &[])));
    client.write_all(b"question").unwrap();
    assert!(client.read_to_end(&mut Vec::new()).is_err());
    let told = refusing.join().unwrap().to_string();
    assert!(told.contains("UnknownCA"), "{told}");
}

/// What has begun keeps its config, what begins has the new one.
pub fn configs_are_replaced_while_streams_run(bench: &Bench) {
    let (old, new) = (
        Authority::new(bench.scratch.path(), "old"),
        Authority::new(bench.scratch.path(), "new"),
    );
    let tls = configs(&files(&old, &old.node("near")));
    let mut setup = Setup::new("near").backend(BackendKind::LocalOnly);
    setup.options.tls = Arc::clone(&tls);
    let node = bench.near(&setup);
    let mut listener = node.listen_tls("echo", "strict").unwrap();
    let mut stream = node.dial_tls("near", "echo", "out").unwrap();
    let mut accepted = listener.accept().unwrap();
    tls.replace(files(&new, &new.node("near")).load(&NodeId::new("near")).unwrap());
    stream.writer.write_all(b"before").unwrap();
    let mut heard = [0; 6];
    accepted.reader.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"before");
    let mut after = node.dial_tls("near", "echo", "out").unwrap();
    let mut accepted = listener.accept().unwrap();
    after.writer.write_all(b"behind").unwrap();
    accepted.reader.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"behind");
    // An outsider with a certificate of the old authority is out; the names of the configs are the same.
    tls.replace(files(&new, &old.node("near2")).load(&NodeId::new("near")).unwrap());
    let text = refusal(node.dial_tls("near", "echo", "out"));
    assert!(text.contains("x509: certificate signed by unknown authority"), "{text}");
}

/// Who begins a handshake and says no more keeps no session from others, and is let go.
pub fn a_slow_handshake_holds_up_nobody(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let (_node, address) = tcp_control(bench, Some("open"), &files(&ca, &ca.node("near")));
    let slow: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut client = BufReader::new(tls_client(&address, &ca.cert, None));
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    assert_eq!(line, "Receptor Control, node near\n");
    // The oldest had to make room; others are given up after ten seconds.
    for socket in [&slow[0], &slow[299]] {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut socket: &TcpStream = socket;
        assert!(matches!(socket.read(&mut [0; 100]), Ok(0) | Err(_)));
    }
}

/// At the start and later, in the classic words.
pub fn unknown_names_are_errors(bench: &Bench) {
    let ca = Authority::new(bench.scratch.path(), "ca");
    let files = files(&ca, &ca.node("near"));
    let socket = bench.socket("near");
    let setup = || {
        with_tls(
            Setup::new("near").backend(BackendKind::LocalOnly).control(&socket),
            &files,
        )
    };
    let mut wrong = setup();
    wrong.config.control_services[0].tls = Some("nosuch".into());
    let expected = StartError::Config("unknown TLS config nosuch".into());
    assert_eq!(bench.try_near(&wrong).map(drop).unwrap_err(), expected);
    let node = bench.near(&setup());
    assert_eq!(
        refusal(node.dial_tls("near", "control", "nosuch")),
        "unknown TLS config nosuch"
    );
    match node.listen_tls("any", "nosuch") {
        Err(Error::Refused(text)) => assert_eq!(text, "unknown TLS config nosuch"),
        other => panic!("{}", other.is_ok()),
    }
    let mut control = bench.control("near");
    for command in [
        "connect near control nosuch",
        r#"{"command":"work","subcommand":"submit","node":"other","worktype":"cat","tlsclient":"nosuch"}"#,
    ] {
        assert_eq!(control.json(command).unwrap_err(), "unknown TLS config nosuch");
    }
}
