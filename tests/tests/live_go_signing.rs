//! Signed work between our daemon and a Go node, both ways, over a TCP link.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use receptor_tests::live::{Builder, Node, PATIENCE, Scratch, Submitted, free_port, go_node, until, wait_for_routes};
use serde_json::{Value, json};

const PKCS1: &str = include_str!("../../core/host/src/adapter/signing/keys/private-pkcs1.pem");
const PKCS8: &str = include_str!("../../core/host/src/adapter/signing/keys/private-pkcs8.pem");
const PUBLIC: &str = include_str!("../../core/host/src/adapter/signing/keys/public.pem");
/// Another pair's.
const OTHER: &str = include_str!("../../core/host/src/adapter/signing/keys/other.pem");

/// A Go node that returns is heard of with its next advertisement only, and its streams take half a minute to be given up.
const LIMIT: Duration = Duration::from_secs(240);

struct Mesh {
    nodes: Vec<Node>,
    /// TCP ports of their control services.
    tcp: Vec<u16>,
    scratch: Scratch,
}

/// `ours` and `go`, each of which signs, verifies and offers `signed` and `slow` to those who sign, and `cat` to all.
fn mesh() -> Option<Mesh> {
    let go = go_node()?;
    let scratch = Scratch::new();
    let public = scratch.write("public.pem", PUBLIC).display().to_string();
    let (link, tcp) = (free_port(), vec![free_port(), free_port()]);
    let mut nodes = Vec::new();
    for (n, (id, key)) in [("ours", PKCS1), ("go", PKCS8)].into_iter().enumerate() {
        let private = scratch.write(&format!("{id}.pem"), key).display().to_string();
        let listen = format!("127.0.0.1:{}", tcp[n]);
        let mut builder = Builder::new(&scratch, id)
            .work()
            .with("control-service", "tcplisten", &listen)
            .entity("work-signing", &[("privatekey", &private), ("tokenexpiration", "1m")])
            .entity("work-verification", &[("publickey", &public)]);
        for (name, script) in [("signed", "cat"), ("slow", "cat; exec sleep 1000")] {
            let params = format!("-c \"{script}\"");
            let parameters = [
                ("worktype", name),
                ("command", "sh"),
                ("params", &params),
                ("verifysignature", "true"),
            ];
            builder = builder.entity("work-command", &parameters);
        }
        nodes.push(match id {
            "go" => builder.binary(go).peer(link, 1.0).start(),
            _ => builder.listen(link, 1.0).start(),
        });
    }
    wait_for_routes(&nodes);
    Some(Mesh { nodes, tcp, scratch })
}

fn submit(from: &Node, to: &str, work_type: &str, sign: bool, stdin: &[u8]) -> Result<Submitted, String> {
    let sign = if sign { "true" } else { "false" };
    let request =
        json!({ "command": "work", "subcommand": "submit", "node": to, "worktype": work_type, "signwork": sign });
    from.control().submit(&request.to_string(), stdin)
}

fn wait_for(node: &Node, unit: &str, state: &str) -> Value {
    node.control()
        .wait_for_unit(unit, LIMIT, |status| status["StateName"] == state)
}

fn release(submitter: &Node, executor: &Node, unit: &str) {
    let answer = submitter.control().json(&format!("work release {unit}"));
    assert!(answer.is_ok(), "{answer:?}");
    for node in [submitter, executor] {
        until(&format!("{} forgets unit {unit}", node.id), LIMIT, || {
            match node.unit_directories().iter().find(|path| path.ends_with(unit)) {
                Some(path) => Err(format!("{} is still there", path.display())),
                None => Ok(()),
            }
        });
    }
}

#[test]
fn signed_work_runs_both_ways_and_unsigned_work_does_not() {
    let Some(mesh) = mesh() else { return };
    let stdin = vec![b'x'; 100_000];
    for (from, to) in [(0, 1), (1, 0)] {
        let (submitter, executor) = (&mesh.nodes[from], &mesh.nodes[to]);
        let submitted = submit(submitter, &executor.id, "signed", true, &stdin).expect("signed work is taken");
        assert_eq!(submitted.result, "Job Started");
        wait_for(submitter, &submitted.unit, "Succeeded");
        let output = submitter.control().results(&submitted.unit, 0).expect("results");
        assert!(output == stdin, "{} bytes", output.len());
        release(submitter, executor, &submitted.unit);

        let text = submit(submitter, &executor.id, "signed", false, b"x").expect_err("unsigned");
        assert!(
            text.contains("could not verify signature: signature is empty"),
            "{text}"
        );
        let text = submit(submitter, &executor.id, "cat", true, b"x").expect_err("signed for nothing");
        assert!(text.contains("work type did not expect a signature"), "{text}");
        // The key of another pair; both read it at each use.
        let name = format!("{}.pem", submitter.id);
        let key = std::fs::read_to_string(mesh.scratch.join(&name)).unwrap();
        mesh.scratch.write(&name, OTHER);
        let text = submit(submitter, &executor.id, "signed", true, b"x").expect_err("the wrong key");
        assert!(
            text.contains("could not verify signature: crypto/rsa: verification error"),
            "{text}"
        );
        mesh.scratch.write(&name, key);
        let submitted = submit(submitter, &executor.id, "signed", true, b"x").expect("the right key again");
        wait_for(submitter, &submitted.unit, "Succeeded");
    }
    // Whoever looks can see which work is to be signed.
    for (node, other) in [(0, "go"), (1, "ours")] {
        until("the other's work types", PATIENCE, || {
            let status = mesh.nodes[node].status();
            let adverts = status["Advertisements"].as_array().expect("a list");
            let types = adverts.iter().filter(|advert| advert["NodeID"] == other);
            let is_there = |advert: &Value| {
                let list = advert["WorkCommands"].as_array().into_iter().flatten();
                let secure: Vec<_> = list
                    .filter(|t| t["Secure"] == true)
                    .map(|t| t["WorkType"].clone())
                    .collect();
                secure.len() == 2 && secure.contains(&json!("signed"))
            };
            match types.into_iter().any(is_there) {
                true => Ok(()),
                false => Err(status["Advertisements"].to_string()),
            }
        });
    }
}

#[test]
fn requests_are_signed_anew_after_a_restart() {
    let Some(mut mesh) = mesh() else { return };
    for (from, to) in [(0, 1), (1, 0)] {
        let executor = mesh.nodes[to].id.clone();
        let mut units = Vec::new();
        for _ in 0..2 {
            let submitted = submit(&mesh.nodes[from], &executor, "slow", true, b"begun").expect("signed work is taken");
            mesh.nodes[from]
                .control()
                .wait_for_unit(&submitted.unit, LIMIT, |status| status["StdoutSize"] == 5);
            units.push(submitted.unit);
        }
        mesh.nodes[from].kill();
        mesh.nodes[from].start_again();
        wait_for_routes(&mesh.nodes);
        let (submitter, executor) = (&mesh.nodes[from], &mesh.nodes[to]);
        let [cancelled, released] = &units[..] else {
            unreachable!("two were submitted")
        };
        submitter
            .control()
            .json(&format!("work cancel {cancelled}"))
            .expect("it can be cancelled");
        wait_for(submitter, cancelled, "Canceled");
        for unit in [released, cancelled] {
            release(submitter, executor, unit);
        }
    }
}

/// The first answer of a node's control service over TCP to a submission to itself with this token.
fn ask(port: u16, node: &str, work_type: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the control service listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).expect("a greeting");
    let request = json!({
        "command": "work", "subcommand": "submit", "node": node, "worktype": work_type, "signature": token,
    });
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    line.clear();
    reader.read_line(&mut line).expect("an answer");
    line
}

#[test]
fn both_judge_every_token_alike() {
    let Some(mesh) = mesh() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let key = EncodingKey::from_rsa_pem(PKCS1.as_bytes()).unwrap();
    let other = EncodingKey::from_rsa_pem(OTHER.as_bytes()).unwrap();
    let shared = EncodingKey::from_secret(PUBLIC.as_bytes());
    let signed = |algorithm, claims: &Value, key: &EncodingKey| encode(&Header::new(algorithm), claims, key).unwrap();
    let encoded = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    for (node, port) in mesh.nodes.iter().zip(&mesh.tcp) {
        let id = node.id.as_str();
        let good = json!({ "aud": [id], "exp": now + 300 });
        let rs512 = |claims: &Value| signed(Algorithm::RS512, claims, &key);
        let none = format!(
            "{}.{}.",
            encoded(&json!({ "alg": "none", "typ": "JWT" })),
            encoded(&good)
        );
        let created = "Work unit created with ID ";
        let cases = [
            ("good", rs512(&good), created),
            ("RS256", signed(Algorithm::RS256, &good, &key), created),
            ("RS384", signed(Algorithm::RS384, &good, &key), created),
            ("PS256", signed(Algorithm::PS256, &good, &key), created),
            ("PS512", signed(Algorithm::PS512, &good, &key), created),
            ("no exp", rs512(&json!({ "aud": [id] })), created),
            ("aud as text", rs512(&json!({ "aud": id, "exp": now + 300 })), created),
            (
                "several",
                rs512(&json!({ "aud": ["x", id], "exp": now + 300 })),
                created,
            ),
            (
                "unsigned",
                String::new(),
                "ERROR: could not verify signature: signature is empty\n",
            ),
            (
                "other key",
                signed(Algorithm::RS512, &good, &other),
                "ERROR: could not verify signature: crypto/rsa: verification error\n",
            ),
            (
                "HS256",
                signed(Algorithm::HS256, &good, &shared),
                "ERROR: could not verify signature: key is of invalid type",
            ),
            ("none", none, "ERROR: could not verify signature: "),
            (
                "junk",
                "junk".to_owned(),
                "ERROR: could not verify signature: token contains an invalid number of segments\n",
            ),
            (
                "expired",
                rs512(&json!({ "aud": [id], "exp": now - 300 })),
                "ERROR: could not verify signature: token is expired by 5m",
            ),
            (
                "not yet",
                rs512(&json!({ "aud": [id], "nbf": now + 600 })),
                "ERROR: could not verify signature: token is not valid yet\n",
            ),
            (
                "from the future",
                rs512(&json!({ "aud": [id], "iat": now + 600 })),
                "ERROR: could not verify signature: token used before issued\n",
            ),
            (
                "other node",
                rs512(&json!({ "aud": ["x"], "exp": now + 300 })),
                "ERROR: token audience did not match node ID\n",
            ),
            (
                "no audience",
                rs512(&json!({ "exp": now + 300 })),
                "ERROR: token audience did not match node ID\n",
            ),
        ];
        for (name, token, expected) in cases {
            let answer = ask(*port, id, "signed", &token);
            assert!(answer.starts_with(expected), "{id}, {name}: {answer}");
        }
        let answer = ask(*port, id, "cat", &rs512(&good));
        assert_eq!(answer, "ERROR: work type did not expect a signature\n", "{id}");
    }
    // A clock that is a little late is forgiven by ours, and not by Go.
    let late = |id: &str| {
        encode(
            &Header::new(Algorithm::RS512),
            &json!({ "aud": [id], "exp": now - 30 }),
            &key,
        )
        .unwrap()
    };
    let answer = ask(mesh.tcp[0], "ours", "signed", &late("ours"));
    assert!(answer.starts_with("Work unit created"), "{answer}");
    let answer = ask(mesh.tcp[1], "go", "signed", &late("go"));
    assert!(answer.contains("token is expired by "), "{answer}");
}
