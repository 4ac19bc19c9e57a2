//! Checks of configurations whose parts are good and bad.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread;

use bytes::BytesMut;
use receptor_core::config::ListenerTransport;
use receptor_core::id::NodeId;
use receptor_core::link::transport::Transport;
use receptor_core::wire::classic::RoutingUpdate;
use receptor_host::adapter::{Accepting, Tls};
use receptor_host::tls_files::{TlsFiles, TlsServer};
use tempfile::TempDir;

use super::*;
use crate::certificates::{self, Init, MakeRequest, Names, RequestKey, SignRequest, Terminal, Tool, Validity};

const NOW: &str = "2026-03-01T12:00:00Z";

/// A directory with certificates of two authorities; `{dir}` in texts is its path.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn tool(&self, tool: &Tool) {
        let mut terminal = Terminal {
            input: &mut &b""[..],
            output: &mut std::io::sink(),
        };
        certificates::run(tool, NOW.parse().unwrap(), &mut terminal).unwrap();
    }

    fn authority(&self, name: &str) {
        self.tool(&Tool::Init(Init {
            common_name: name.into(),
            bits: 2048,
            validity: Validity::default(),
            out_cert: self.path(&format!("{name}.crt")),
            out_key: self.path(&format!("{name}.key")),
        }));
    }

    /// `node.crt`, which names `node` and ends at the given time.
    fn certificate(&self, authority: &str, end: &str) {
        self.tool(&Tool::MakeRequest(MakeRequest {
            common_name: "node".into(),
            names: Names {
                nodes: vec!["node".into()],
                ips: vec!["127.0.0.1".parse().unwrap()],
                ..Names::default()
            },
            key: RequestKey::New {
                bits: 2048,
                out_key: self.path("node.key"),
            },
            out_request: self.path("node.csr"),
        }));
        self.tool(&Tool::SignRequest(SignRequest {
            request: self.path("node.csr"),
            ca_cert: self.path(&format!("{authority}.crt")),
            ca_key: self.path(&format!("{authority}.key")),
            validity: Validity {
                not_before: Some("2020-01-01T00:00:00Z".parse().unwrap()),
                not_after: Some(end.parse().unwrap()),
            },
            out_cert: self.path("node.crt"),
            is_verified: true,
        }));
    }

    /// What is found; `{dir}` in place of the directory.
    fn check(&self, yaml: &str, offline: bool) -> Vec<String> {
        let file = self.path("receptor.conf");
        let dir = self.0.path().to_str().unwrap();
        fs::write(&file, yaml.replace("{dir}", dir)).unwrap();
        let host = Host {
            name: "host.example".into(),
            temp_dir: "/var/tmp".into(),
            proxies: Default::default(),
        };
        let options = Options { json: false, offline };
        let findings = check(&["--config".into(), file], &host, options, NOW.parse().unwrap());
        findings
            .iter()
            .map(|finding| finding.to_string().replace(dir, "{dir}"))
            .collect()
    }
}

fn without_ok(findings: Vec<String>) -> Vec<String> {
    findings.into_iter().filter(|line| !line.starts_with("OK")).collect()
}

const TLS: &str = "
- node: {id: node, datadir: '{dir}/data'}
- local-only
- tls-server: {name: s, cert: '{dir}/node.crt', key: '{dir}/node.key', clientcas: '{dir}/ca.crt', requireclientcert: true}
- tls-client: {name: c, cert: '{dir}/node.crt', key: '{dir}/node.key', rootcas: '{dir}/ca.crt'}
";

#[test]
fn a_good_configuration_has_nothing_but_good_findings() {
    let desk = Desk::new();
    desk.authority("ca");
    desk.certificate("ca", "2026-06-01T00:00:00Z");
    let yaml = format!(
        "{TLS}
- control-service: {{filename: '{{dir}}/node.sock', tls: s}}
- tcp-listener: {{bindaddr: 127.0.0.1, port: 0}}
- work-command: {{worktype: cat, command: cat}}
"
    );
    let findings = desk.check(&yaml, false);
    assert_eq!(without_ok(findings.clone()), [""; 0]);
    for line in [
        "OK      configuration: node node",
        "OK      tls-server s: certificate, key and name fit",
        "OK      tls-server s: {dir}/node.crt is signed by {dir}/ca.crt",
        "OK      tls-client c: {dir}/node.crt is signed by {dir}/ca.crt",
        "OK      certificate {dir}/node.crt: CN=node, node node: valid until 2026-06-01T00:00:00Z",
        "OK      certificate {dir}/ca.crt: CN=ca: valid until 2036-03-01T12:00:00Z",
        "OK      data directory {dir}/data/node: can be made in {dir}",
        "OK      control-service {dir}/node.sock: can be made (mode 0600)",
        "OK      tcp-listener 127.0.0.1:0: can be listened on",
    ] {
        assert!(findings.iter().any(|found| found == line), "{line}: {findings:#?}");
    }
    assert_eq!(
        fs::read_dir(desk.0.path()).unwrap().count(),
        6,
        "nothing is left behind"
    );
}

#[test]
fn certificates_are_judged_by_date_authority_name_and_key() {
    let desk = Desk::new();
    desk.authority("ca");
    desk.authority("other");
    desk.certificate("ca", "2026-03-11T00:00:00Z");
    assert_eq!(
        without_ok(desk.check(TLS, true)),
        ["WARNING certificate {dir}/node.crt: CN=node, node node: expires in 9 days, at 2026-03-11T00:00:00Z"]
    );
    let found = without_ok(desk.check(&TLS.replace("ca.crt", "other.crt"), true));
    assert_eq!(
        found[..2],
        [
            "WARNING tls-server s: peers that trust {dir}/other.crt will not take {dir}/node.crt: UnknownIssuer",
            "WARNING tls-client c: peers that trust {dir}/other.crt will not take {dir}/node.crt: UnknownIssuer"
        ]
    );
    let found = without_ok(desk.check(&TLS.replace("node.key", "other.key"), true));
    assert_eq!(
        found[0],
        "ERROR   tls-server s: error preparing tls server config: tls: private key does not match public key"
    );
    let found = without_ok(desk.check(&TLS.replace("id: node", "id: elsewhere"), true));
    assert!(
        found[0].starts_with("ERROR   tls-server s: ")
            && found[0].contains("nodeID=elsewhere not found in certificate name(s)"),
        "{found:?}"
    );
    fs::set_permissions(desk.path("node.key"), Permissions::from_mode(0o644)).unwrap();
    let found = without_ok(desk.check(TLS, true));
    assert_eq!(
        found[0],
        "WARNING tls-server s: others may read or change {dir}/node.key (mode 0644); 0600 is safe"
    );
    desk.certificate("ca", "2026-02-01T00:00:00Z");
    fs::set_permissions(desk.path("node.key"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        without_ok(desk.check(TLS, true)),
        ["ERROR   certificate {dir}/node.crt: CN=node, node node: expired at 2026-02-01T00:00:00Z"]
    );
}

#[test]
fn files_directories_and_names() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "").unwrap();
    let found = without_ok(desk.check(
        "
- node: {id: 'a:b', datadir: '{dir}/file/data', firewallrules: [{action: accept}, {action: drop, tonode: x}]}
- local-only
- control-service: {filename: '{dir}/nowhere/a.sock', permissions: 0666}
- unix-socket-server: {filename: '{dir}/b.sock', permissions: 660, remotenode: x, remoteservice: y, tls: missing}
- unix-socket-client: {service: z, filename: '{dir}/c.sock'}
- work-command: {worktype: w, command: no-such-program-anywhere}
- tls-client: {name: c, cert: '', key: '', insecureskipverify: true}
",
        true,
    ));
    assert_eq!(
        found,
        [
            "WARNING node: node ID a:b: classic nodes do not find a name with : in client certificates",
            "WARNING firewall: rule 0 always matches, so those behind it have no effect",
            "WARNING tls-client c: TLS config c: insecureskipverify: nothing of a server's certificate is verified",
            "ERROR   unix-socket-server {dir}/b.sock: unknown TLS config missing",
            "ERROR   data directory {dir}/file/data/a:b: {dir}/file: not a directory",
            "ERROR   control-service {dir}/nowhere/a.sock: {dir}/nowhere: no such file or directory",
            "WARNING control-service {dir}/nowhere/a.sock: everybody on this machine may connect (mode 0666)",
            "WARNING unix-socket-server {dir}/b.sock: permissions 660 is mode 1224: octal numbers begin with 0, such as 0660",
            "WARNING unix-socket-client {dir}/c.sock: nobody listens there: no such file or directory",
            "WARNING work-command w: no-such-program-anywhere: no such program can be executed",
        ]
    );
}

#[test]
fn addresses_are_tried() {
    let desk = Desk::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = format!(
        "
- node: {{id: a, datadir: '{{dir}}'}}
- tcp-listener: {{bindaddr: 127.0.0.1, port: {port}}}
- tcp-server: {{bindaddr: 127.0.0.1, port: {0}, remotenode: a, remoteservice: b}}
- tcp-server: {{bindaddr: 127.0.0.1, port: {0}, remotenode: a, remoteservice: c}}
- tcp-peer: {{address: '127.0.0.1:{port}'}}
- tcp-peer: {{address: '127.0.0.1:{0}'}}
- tcp-peer: {{address: 'no-such-host.invalid:1'}}
",
        free.port()
    );
    let offline = without_ok(desk.check(&yaml, true));
    assert_eq!(
        offline,
        [
            format!("ERROR   tcp-listener 127.0.0.1:{port}: listen tcp 127.0.0.1:{port}: bind: address already in use"),
            format!("ERROR   tcp-server {free}: another listener of this configuration has it"),
        ]
    );
    let online = desk.check(&yaml, false);
    let says = |line: &str| {
        assert!(
            online.iter().any(|found| found.starts_with(line)),
            "{line}: {online:#?}"
        )
    };
    says(&format!(
        "WARNING tcp-peer 127.0.0.1:{port}: 127.0.0.1:{port} accepts connections, but no node has introduced itself there"
    ));
    says(&format!("WARNING tcp-peer {free}: {free}: connection refused"));
    says("WARNING tcp-peer no-such-host.invalid:1: dial tcp: lookup no-such-host.invalid: ");
}

/// A node of this name that listens, with these layers, and says no more than hello.
fn greeter(name: &'static str, layers: impl Fn() -> Transport + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let hello = RoutingUpdate {
        node_id: name.into(),
        forwarding_node: name.into(),
        ..RoutingUpdate::default()
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            greet(stream.unwrap(), layers(), BytesMut::from(&hello.emit()[..]));
        }
    });
    port
}

fn greet(mut stream: TcpStream, mut transport: Transport, hello: BytesMut) {
    let (mut hello, mut buffer) = (Some(hello), [0; 4096]);
    loop {
        if !transport.is_handshaking()
            && let Some(hello) = hello.take()
        {
            transport.push_frame(hello);
        }
        while let Some(bytes) = transport.poll_transmit() {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(1..) if transport.end().is_some() => return,
            Ok(count @ 1..) => transport.handle_bytes(&buffer[..count]),
            _ => return,
        }
    }
}

#[test]
fn peers_are_asked_who_they_are() {
    let desk = Desk::new();
    let (plain, web) = (
        greeter("b", Transport::lengths),
        greeter("b", || Transport::web_socket_server("/mesh")),
    );
    let found = |id: &str, peer: &str| {
        let found = desk.check(&format!("- node: {{id: {id}, datadir: '{{dir}}'}}\n{peer}\n"), false);
        found.last().unwrap().clone()
    };
    let address = format!("127.0.0.1:{plain}");
    let peer = format!("- tcp-peer: {{address: '{address}'}}");
    assert_eq!(
        found("a", &peer),
        format!("OK      tcp-peer {address}: {address} is node b")
    );
    assert_eq!(
        found("b", &peer),
        format!("ERROR   tcp-peer {address}: {address} is node b, as this one is called")
    );
    let peer = format!("- tcp-peer: {{address: '{address}', allowedpeers: [c]}}");
    assert_eq!(
        found("a", &peer),
        format!("ERROR   tcp-peer {address}: {address} is node b, which is not among its allowedpeers")
    );
    let url = format!("ws://127.0.0.1:{web}/mesh");
    let peer = format!("- ws-peer: {{address: '{url}'}}");
    assert_eq!(
        found("a", &peer),
        format!("OK      ws-peer {url}: 127.0.0.1:{web} is node b")
    );
    let url = format!("ws://127.0.0.1:{web}/elsewhere");
    let peer = format!("- ws-peer: {{address: '{url}'}}");
    let refused = format!("WARNING ws-peer {url}: 127.0.0.1:{web}: websocket: bad handshake");
    assert!(found("a", &peer).starts_with(&refused), "{}", found("a", &peer));
}

#[test]
fn what_is_wrong_with_a_certificate_of_a_peer_is_told() {
    let desk = Desk::new();
    desk.authority("ca");
    desk.authority("other");
    desk.certificate("ca", "2036-01-01T00:00:00Z");
    let server = |client_cas: &str| {
        let files = TlsFiles {
            servers: vec![TlsServer {
                name: "s".into(),
                cert: desk.path("node.crt"),
                key: desk.path("node.key"),
                client_cas: client_cas.into(),
                ..TlsServer::default()
            }],
            ..TlsFiles::default()
        };
        let tls = Tls::new(files.load(&NodeId::new("node")).unwrap());
        let transport = ListenerTransport::Tcp { tls: Some("s".into()) };
        let accepting = Accepting::new(transport, Arc::new(tls)).unwrap();
        move || accepting.layers().unwrap()
    };
    let found = |port: u16, ca: &str, host: &str| {
        let yaml = format!(
            "
- node: {{id: a, datadir: '{{dir}}'}}
- tls-client: {{name: c, cert: '', key: '', rootcas: '{{dir}}/{ca}.crt'}}
- tcp-peer: {{address: '{host}:{port}', tls: c}}
"
        );
        // The address stands in it twice; what is before the first and after the last is of interest.
        let found = desk.check(&yaml, false).last().unwrap().clone();
        let parts: Vec<&str> = found.split(&*format!("127.0.0.1:{port}")).collect();
        match &*parts {
            [first, .., last] => format!("{first}{last}"),
            _ => found,
        }
    };
    let node = greeter("node", server(""));
    assert_eq!(
        found(node, "ca", "127.0.0.1"),
        "OK      tcp-peer  is node node, as its certificate says"
    );
    let unknown = found(node, "other", "127.0.0.1");
    assert!(
        unknown.starts_with("ERROR   tcp-peer : tls: ") && unknown.contains("unknown authority"),
        "{unknown}"
    );
    let elsewhere = found(node, "ca", "localhost");
    assert!(elsewhere.contains("ERROR   tcp-peer localhost"), "{elsewhere}");
    let impostor = greeter("impostor", server(""));
    assert_eq!(
        found(impostor, "ca", "127.0.0.1"),
        "ERROR   tcp-peer  is node impostor; its certificate is one of node"
    );
    // It wants a certificate, and there is none to show: that is heard only after the handshake.
    let strict = greeter("node", server(&desk.path("ca.crt")));
    let refused = found(strict, "ca", "127.0.0.1");
    assert!(refused.starts_with("ERROR   tcp-peer : tls: "), "{refused}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_the_one_finding() {
    let desk = Desk::new();
    let found = desk.check("- nod", true);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("ERROR   configuration: error loading config file: {dir}/receptor.conf:1: "),
        "{found:?}"
    );
    assert_eq!(
        without_ok(desk.check("- node: {id: a, datadir: '{dir}'}", true)),
        ["ERROR   configuration: no listener, no peer and no local-only: the program would end at once"]
    );
    assert_eq!(
        desk.check("- version", true),
        ["OK      configuration: there is no node in it"]
    );
}

#[test]
fn a_finding_is_one_line_in_either_form() {
    let finding = Finding::warning("a\nb", "c\u{1b}[2J\"");
    assert_eq!(finding.to_string(), "WARNING a\\nb: c\\u{1b}[2J\"");
    assert_eq!(
        finding.to_json(),
        r#"{"severity":"warning","subject":"a\nb","text":"c\u001b[2J\""}"#
    );
}
