//! The certificate tools beside OpenSSL and Go's: each accepts what the others make, and Go nodes build a mesh on ours.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use receptor_tests::live::{Builder, PATIENCE, Scratch, free_port, go_node, receptor, skipped, until, wait_for_routes};

/// Runs a program in the scratch directory; what it printed, if it succeeded.
fn run(scratch: &Scratch, program: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let child = Command::new(program)
        .args(arguments)
        .current_dir(scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("{}: {error}", program.display()))?;
    // A program that does not read is none of our business.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match status.code() {
        Some(0) => Ok(text(&stdout) + &text(&stderr)),
        code => Err(format!("{code:?}: {}{}", text(&stdout), text(&stderr))),
    }
}

fn ours(scratch: &Scratch, arguments: &[&str]) -> String {
    run(scratch, receptor(), arguments, "").unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn go(scratch: &Scratch, arguments: &[&str]) -> Option<String> {
    let output = run(scratch, go_node()?, arguments, "");
    Some(output.unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
}

/// OpenSSL's command, or `None` with a line on the terminal if there is none.
fn openssl(scratch: &Scratch, arguments: &[&str]) -> Option<String> {
    if run(scratch, Path::new("openssl"), &["version"], "").is_err() {
        skipped("there is no openssl");
        return None;
    }
    let output = run(scratch, Path::new("openssl"), arguments, "");
    Some(output.unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
}

/// An authority, made by one or the other.
fn authority(scratch: &Scratch, tool: impl Fn(&[&str])) {
    tool(&[
        "--cert-init",
        "commonname=Mesh CA",
        "bits=2048",
        "outcert=ca.crt",
        "outkey=ca.key",
    ]);
    assert!(scratch.join("ca.key").exists());
}

fn request(tool: impl Fn(&[&str]), node: &str) {
    tool(&[
        "--cert-makereq",
        "bits=2048",
        &format!("commonname={node}"),
        "dnsname=localhost",
        "ipaddress=127.0.0.1",
        &format!("nodeid={node}"),
        &format!("outreq={node}.csr"),
        &format!("outkey={node}.key"),
    ]);
}

fn sign(tool: impl Fn(&[&str]), node: &str) {
    tool(&[
        "--cert-signreq",
        &format!("req={node}.csr"),
        "cacert=ca.crt",
        "cakey=ca.key",
        &format!("outcert={node}.crt"),
        "verify=true",
    ]);
}

#[test]
fn openssl_accepts_and_shows_them() {
    let scratch = Scratch::new();
    let tool = |arguments: &[&str]| drop(ours(&scratch, arguments));
    authority(&scratch, tool);
    let long = "n".repeat(150);
    for node in ["foo", &long] {
        request(tool, node);
        sign(tool, node);
        let (csr, crt, key) = (format!("{node}.csr"), format!("{node}.crt"), format!("{node}.key"));
        let Some(verified) = openssl(&scratch, &["req", "-in", &csr, "-verify", "-noout"]) else {
            return;
        };
        assert!(verified.contains("verify OK"), "{verified}");
        for purpose in ["sslclient", "sslserver"] {
            let chain = ["verify", "-purpose", purpose, "-CAfile", "ca.crt", &crt];
            assert_eq!(openssl(&scratch, &chain).unwrap(), format!("{crt}: OK\n"));
        }
        let text = openssl(&scratch, &["x509", "-in", &crt, "-noout", "-text"]).unwrap();
        for part in [
            "Issuer: CN = Mesh CA",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "TLS Web Client Authentication, TLS Web Server Authentication",
            "X509v3 Authority Key Identifier",
            &format!("DNS:localhost, IP Address:127.0.0.1, othername: 1.3.6.1.4.1.2312.19.1::{node}"),
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("Subject Key Identifier") && !text.contains("Basic Constraints"));
        let checked = openssl(&scratch, &["rsa", "-in", &key, "-check", "-noout"]).unwrap();
        assert!(checked.contains("RSA key ok"), "{checked}");
        // A certificate belongs to its key.
        let of_key = openssl(&scratch, &["rsa", "-in", &key, "-pubout"]).unwrap();
        let of_cert = openssl(&scratch, &["x509", "-in", &crt, "-noout", "-pubkey"]).unwrap();
        assert!(of_key.contains(of_cert.trim()), "{of_key}{of_cert}");
    }
}

/// Subjects with several parts, keys in PKCS#8, other digests, more names than we know.
#[test]
fn requests_of_openssl_are_signed() {
    let scratch = Scratch::new();
    let tool = |arguments: &[&str]| drop(ours(&scratch, arguments));
    authority(&scratch, tool);
    let subject = "/C=DE/O=Ex, Inc+OU=a/CN=b/emailAddress=a@b.example";
    let names =
        "subjectAltName=DNS:a.example,email:x@y.example,URI:http://a/,otherName:1.3.6.1.4.1.2312.19.1;UTF8:node b";
    let made = openssl(
        &scratch,
        &[
            "req", "-new", "-sha512", "-newkey", "rsa:3072", "-nodes", "-keyout", "b.key", "-subj", subject, "-addext",
            names, "-out", "b.csr",
        ],
    );
    if made.is_none() {
        return;
    }
    let arguments = [
        "--cert-signreq",
        "req=b.csr",
        "cacert=ca.crt",
        "cakey=ca.key",
        "outcert=b.crt",
    ];
    let shown = run(&scratch, receptor(), &arguments, "Yes\n").unwrap();
    assert_eq!(
        shown,
        "Requested certificate:\n  Subject: 1.2.840.113549.1.9.1=a@b.example,CN=b,OU=a+O=Ex\\, Inc,C=DE\n  \
         Encryption Algorithm: RSA (3072 bits)\n  Signature Algorithm: SHA512-RSA\n  Names:\n    DNS Name: a.example\n    \
         Receptor Node ID: node b\nSign certificate (yes/no)? "
    );
    let text = openssl(&scratch, &["x509", "-in", "b.crt", "-noout", "-text"]).unwrap();
    for part in [
        "Subject: C = DE, OU = a + O = \"Ex, Inc\", CN = b, emailAddress = a@b.example",
        "Signature Algorithm: sha512WithRSAEncryption",
        "DNS:a.example, email:x@y.example, URI:http://a/, othername: 1.3.6.1.4.1.2312.19.1::node b",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let chain = openssl(&scratch, &["verify", "-CAfile", "ca.crt", "b.crt"]).unwrap();
    assert_eq!(chain, "b.crt: OK\n");
    // A PKCS#8 key, as OpenSSL writes it, makes a request.
    ours(
        &scratch,
        &[
            "--cert-makereq",
            "commonname=b",
            "inkey=b.key",
            "nodeid=b",
            "outreq=again.csr",
        ],
    );
    assert!(
        openssl(&scratch, &["req", "-in", "again.csr", "-verify", "-noout"])
            .unwrap()
            .contains("verify OK")
    );
    // Who does not agree gets nothing; exit code 1 and the classic words.
    fs::remove_file(scratch.join("b.crt")).unwrap();
    let error = run(&scratch, receptor(), &arguments, "no\n").unwrap_err();
    assert!(
        error.starts_with("Some(1): Requested") && error.ends_with("? Error: user declined\n"),
        "{error}"
    );
    assert!(!scratch.join("b.crt").exists());
}

/// Requests of one, signed by the other, with an authority of the third kind each time.
#[test]
fn go_and_ours_take_each_others_files() {
    for (authority_is_go, request_is_go, sign_is_go) in [
        (true, true, false),
        (true, false, true),
        (false, true, true),
        (false, true, false),
        (true, false, false),
    ] {
        let scratch = Scratch::new();
        if go_node().is_none() {
            return;
        }
        let tool = |is_go: bool| {
            let scratch = scratch.clone();
            move |arguments: &[&str]| {
                if is_go {
                    go(&scratch, arguments);
                } else {
                    ours(&scratch, arguments);
                }
            }
        };
        authority(&scratch, tool(authority_is_go));
        request(tool(request_is_go), "foo");
        sign(tool(sign_is_go), "foo");
        if let Some(chain) = openssl(&scratch, &["verify", "-CAfile", "ca.crt", "foo.crt"]) {
            assert_eq!(chain, "foo.crt: OK\n");
            let text = openssl(&scratch, &["x509", "-in", "foo.crt", "-noout", "-text"]).unwrap();
            let names = "DNS:localhost, IP Address:127.0.0.1, othername: 1.3.6.1.4.1.2312.19.1::foo";
            assert!(text.contains(names), "{text}");
        }
    }
}

/// In the log at the start, and in what `check` finds.
#[test]
fn the_end_of_a_certificate_is_announced() {
    let scratch = Scratch::new();
    let tool = |arguments: &[&str]| drop(ours(&scratch, arguments));
    authority(&scratch, tool);
    request(tool, "node");
    let soon = ["-u", "-d", "+5 days", "+%Y-%m-%dT%H:%M:%SZ"];
    let soon = run(&scratch, Path::new("date"), &soon, "").unwrap();
    ours(
        &scratch,
        &[
            "--cert-signreq",
            "req=node.csr",
            "cacert=ca.crt",
            "cakey=ca.key",
            "outcert=node.crt",
            "verify=true",
            &format!("notafter={}", soon.trim()),
        ],
    );
    let file = |name: &str| scratch.join(name).display().to_string();
    let node = Builder::new(&scratch, "node")
        .local_only()
        .entity(
            "tls-server",
            &[("name", "s"), ("cert", &file("node.crt")), ("key", &file("node.key"))],
        )
        .start();
    let expected = format!("certificate {}: CN=node, node node: expires in ", file("node.crt"));
    until("the log has it", PATIENCE, || {
        let log = node.log();
        let has_it = log
            .lines()
            .any(|line| line.starts_with("WARNING ") && line.contains(&expected));
        if has_it { Ok(()) } else { Err(log) }
    });
    // The node is running, and so its own sockets are no obstacle.
    let config = node.config().display().to_string();
    let found = ours(&scratch, &["check", "--config", &config]);
    assert!(found.contains(&format!("WARNING {expected}")), "{found}");
    let found = ours(&scratch, &["check", "--json", "--offline", "-c", &config]);
    assert!(
        found.lines().all(|line| line.starts_with(r#"{"severity":""#)),
        "{found}"
    );
    fs::remove_file(scratch.join("node.key")).unwrap();
    let error = run(&scratch, receptor(), &["check", "-c", &config], "").unwrap_err();
    assert!(
        error.starts_with("Some(1): ") && error.contains("\nERROR   tls-server s: "),
        "{error}"
    );
}

/// Two Go nodes, with our certificates on their link and on a stream between them: both check chain and node IDs.
#[test]
fn go_nodes_build_a_mesh_on_our_certificates() {
    let scratch = Scratch::new();
    let Some(binary) = go_node() else { return };
    let tool = |arguments: &[&str]| drop(ours(&scratch, arguments));
    authority(&scratch, tool);
    for node in ["left", "right"] {
        request(tool, node);
        sign(tool, node);
    }
    let port = free_port();
    let builder = |node: &str| {
        let file = |name: &str| scratch.join(name).display().to_string();
        let (cert, key, ca) = (
            file(&format!("{node}.crt")),
            file(&format!("{node}.key")),
            file("ca.crt"),
        );
        Builder::new(&scratch, node)
            .binary(binary)
            .entity(
                "tls-server",
                &[
                    ("name", "server"),
                    ("cert", &cert),
                    ("key", &key),
                    ("clientcas", &ca),
                    ("requireclientcert", "true"),
                ],
            )
            .entity(
                "tls-client",
                &[("name", "client"), ("cert", &cert), ("key", &key), ("rootcas", &ca)],
            )
            .with("control-service", "tls", "server")
    };
    let left = builder("left")
        .listen(port, 1.0)
        .with("tcp-listener", "tls", "server")
        .start();
    let right = builder("right")
        .peer(port, 1.0)
        .with("tcp-peer", "tls", "client")
        .start();
    let nodes = [left, right];
    wait_for_routes(&nodes);
    for (from, to) in [(&nodes[0], "right"), (&nodes[1], "left")] {
        let mut control = from.control();
        assert_eq!(
            control.command(&format!("connect {to} control client")).unwrap(),
            "Connecting"
        );
        assert_eq!(control.line().unwrap(), format!("Receptor Control, node {to}"));
    }
    // Without the certificate nobody gets in.
    let refused = nodes[0].control().command("connect right control").unwrap();
    assert!(refused.starts_with("ERROR: ") || refused == "Connecting", "{refused}");
    assert!(refused.contains("CRYPTO_ERROR"), "{refused}");
}
