//! The tools from end to end, without anybody else's opinion; OpenSSL and Go nodes have theirs in the live tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";

struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, tool: &Tool, input: &str) -> (Result<()>, String) {
        let (mut input, mut output) = (input.as_bytes(), Vec::new());
        let mut terminal = Terminal {
            input: &mut input,
            output: &mut output,
        };
        let result = run(tool, NOW.parse().unwrap(), &mut terminal);
        (result, String::from_utf8(output).unwrap())
    }

    fn init(&self) {
        let tool = Tool::Init(Init {
            common_name: "My CA é".into(),
            bits: 0,
            validity: Validity::default(),
            out_cert: self.path("ca.crt"),
            out_key: self.path("ca.key"),
        });
        assert_eq!(self.run(&tool, "").0, Ok(()));
    }

    fn request(&self, name: &str, names: Names) {
        let tool = Tool::MakeRequest(MakeRequest {
            common_name: name.into(),
            names,
            key: RequestKey::New {
                bits: 2048,
                out_key: self.path(&format!("{name}.key")),
            },
            out_request: self.path(&format!("{name}.csr")),
        });
        assert_eq!(self.run(&tool, "").0, Ok(()));
    }

    fn sign(&self, name: &str) -> SignRequest {
        SignRequest {
            request: self.path(&format!("{name}.csr")),
            ca_cert: self.path("ca.crt"),
            ca_key: self.path("ca.key"),
            validity: Validity::default(),
            out_cert: self.path(&format!("{name}.crt")),
            is_verified: true,
        }
    }

    fn der(&self, file: &str) -> Vec<u8> {
        pem::read_one(&self.path(file), &[pem::CERTIFICATE], "certificate")
            .unwrap()
            .into_contents()
    }
}

fn names(dns: &[&str], ips: &[&str], nodes: &[&str]) -> Names {
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Names {
        dns: texts(dns),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        nodes: texts(nodes),
    }
}

/// Extensions: type, critical, value.
fn extensions(certificate: &X509Certificate<'_>) -> Vec<(String, bool, Vec<u8>)> {
    certificate
        .extensions()
        .iter()
        .map(|e| (e.oid.to_id_string(), e.critical, e.value.to_vec()))
        .collect()
}

#[test]
fn from_nothing_to_a_certificate() {
    let desk = Desk::new();
    desk.init();
    let der = desk.der("ca.crt");
    let (_, ca) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(ca.subject().as_raw(), ca.issuer().as_raw());
    assert_eq!(ca.tbs_certificate.serial.to_string(), "1772366400");
    let valid = ca.validity();
    assert_eq!(
        valid.not_after.timestamp() - valid.not_before.timestamp(),
        3653 * 86_400
    );
    let found = extensions(&ca);
    let kinds: Vec<_> = found
        .iter()
        .map(|(oid, critical, _)| (oid.as_str(), *critical))
        .collect();
    assert_eq!(
        kinds,
        [
            ("2.5.29.15", true),
            ("2.5.29.37", false),
            ("2.5.29.19", true),
            ("2.5.29.14", false)
        ]
    );
    assert_eq!(found[0].2, [3, 2, 2, 0x84]);
    assert_eq!(found[2].2, [0x30, 3, 1, 1, 0xff]);

    let long = "n".repeat(200);
    desk.request("foo", names(&["localhost"], &["127.0.0.1"], &["foo", &long]));
    assert_eq!(desk.run(&Tool::SignRequest(desk.sign("foo")), "").0, Ok(()));
    let der = desk.der("foo.crt");
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(cert.issuer().as_raw(), ca.subject().as_raw());
    assert_eq!(cert.subject().as_raw(), der::name("foo"));
    let found = extensions(&cert);
    let kinds: Vec<_> = found
        .iter()
        .map(|(oid, critical, _)| (oid.as_str(), *critical))
        .collect();
    assert_eq!(
        kinds,
        [
            ("2.5.29.15", true),
            ("2.5.29.37", false),
            ("2.5.29.35", false),
            ("2.5.29.17", false)
        ]
    );
    assert_eq!(found[0].2, [3, 2, 7, 0x80]);
    assert_eq!(found[2].2[4..], extensions(&ca)[3].2[2..], "the authority's key ID");
    assert_eq!(
        names::read(&found[3].2).unwrap(),
        names(&["localhost"], &["127.0.0.1"], &["foo", &long])
    );
    for file in ["ca.crt", "ca.key", "foo.csr", "foo.key", "foo.crt"] {
        let mode = fs::metadata(PathBuf::from(desk.path(file)))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let key = fs::read_to_string(desk.path("foo.key")).unwrap();
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{key}");
    assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 5);
}

#[test]
fn the_user_is_asked_and_sees_what_is_asked_for() {
    let desk = Desk::new();
    desk.init();
    desk.request(
        "foo",
        names(&["a.example"], &["::1"], &["foo", "e\u{1b}[2Jvil\u{202e}"]),
    );
    let mut sign = desk.sign("foo");
    sign.is_verified = false;
    let tool = Tool::SignRequest(sign);
    for (answer, accepted) in [
        ("no\n", false),
        ("", false),
        ("\n", false),
        ("yess\n", false),
        (" Y \n", true),
        ("YES", true),
    ] {
        let (result, output) = desk.run(&tool, answer);
        let expected = if accepted {
            Ok(())
        } else {
            Err(ToolError::new("user declined"))
        };
        assert_eq!(result, expected, "{answer:?}");
        assert_eq!(
            output,
            "Requested certificate:\n\
             \x20 Subject: CN=foo\n\
             \x20 Encryption Algorithm: RSA (2048 bits)\n\
             \x20 Signature Algorithm: SHA256-RSA\n\
             \x20 Names:\n\
             \x20   DNS Name: a.example\n\
             \x20   IP Address: ::1\n\
             \x20   Receptor Node ID: foo\n\
             \x20   Receptor Node ID: e\\u{1b}[2Jvil\\u{202e}\n\
             Sign certificate (yes/no)? "
        );
        assert_eq!(fs::exists(desk.path("foo.crt")).unwrap(), accepted);
    }
}

#[test]
fn what_cannot_be_signed_is_refused_and_nothing_is_written() {
    let desk = Desk::new();
    desk.init();
    desk.request("none", Names::default());
    desk.request("foo", names(&[], &[], &["foo"]));
    let error = |sign: SignRequest| {
        let text = desk.run(&Tool::SignRequest(sign), "yes").0.unwrap_err().to_string();
        text.replace(desk.dir.path().to_str().unwrap(), "DIR")
    };
    assert_eq!(error(desk.sign("none")), "cannot sign: no names found in certificate");
    let mut other_key = desk.sign("foo");
    other_key.ca_key = desk.path("foo.key");
    assert_eq!(
        error(other_key),
        "the private key in DIR/foo.key does not belong to the certificate in DIR/ca.crt"
    );
    let mut swapped = desk.sign("foo");
    swapped.request = desk.path("ca.crt");
    assert_eq!(error(swapped), "no certificate requests in file DIR/ca.crt");
    let mut missing = desk.sign("foo");
    missing.ca_cert = desk.path("nobody.crt");
    assert_eq!(error(missing), "open DIR/nobody.crt: no such file or directory");
    let mut over = desk.sign("foo");
    over.out_cert = desk.path("ca.key");
    assert_eq!(error(over), "DIR/ca.key would be written over, but was read");
    let mut never = desk.sign("foo");
    never.validity.not_after = Some("2020-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(
        error(never),
        "the certificate would be valid from 2026-03-01T12:00:00Z to 2020-01-01T00:00:00Z, that is never"
    );
    assert_eq!(desk.run(&Tool::SignRequest(desk.sign("foo")), "").0, Ok(()));
    let mut leaf = desk.sign("foo");
    (leaf.ca_cert, leaf.ca_key, leaf.out_cert) = (desk.path("foo.crt"), desk.path("foo.key"), desk.path("x"));
    assert_eq!(
        error(leaf),
        "the certificate in DIR/foo.crt is not that of an authority"
    );
    assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 7);
}

/// A request that somebody else changed on its way.
#[test]
fn a_changed_request_is_not_signed() {
    let desk = Desk::new();
    desk.init();
    desk.request("foo", names(&[], &[], &["foo"]));
    let block = pem::read_one(&desk.path("foo.csr"), &[pem::REQUEST], "certificate request").unwrap();
    let mut der = block.into_contents();
    let at = der.windows(3).rposition(|window| window == b"foo").unwrap();
    der[at..at + 3].copy_from_slice(b"bar");
    fs::write(desk.path("foo.csr"), pem::write(pem::REQUEST, &der)).unwrap();
    let (result, _) = desk.run(&Tool::SignRequest(desk.sign("foo")), "");
    assert_eq!(
        result.unwrap_err().to_string(),
        "the signature of the request is wrong, or its key has less than 2048 bits"
    );
    for end in 0..der.len() {
        fs::write(desk.path("foo.csr"), pem::write(pem::REQUEST, &der[..end])).unwrap();
        assert!(desk.run(&Tool::SignRequest(desk.sign("foo")), "").0.is_err());
    }
}

#[test]
fn an_existing_key_is_used_and_kept() {
    let desk = Desk::new();
    desk.request("foo", Names::default());
    let before = fs::read(desk.path("foo.key")).unwrap();
    let again = |key: &str, out: &str| {
        let tool = Tool::MakeRequest(MakeRequest {
            common_name: "again".into(),
            names: Names::default(),
            key: RequestKey::Existing(desk.path(key)),
            out_request: desk.path(out),
        });
        desk.run(&tool, "").0
    };
    assert_eq!(again("foo.key", "again.csr"), Ok(()));
    assert!(again("foo.key", "foo.key").is_err());
    assert_eq!(fs::read(desk.path("foo.key")).unwrap(), before);
    fs::write(desk.path("bad.key"), pem::write(pem::RSA_KEY, b"junk")).unwrap();
    let error = again("bad.key", "bad.csr").unwrap_err().to_string();
    assert!(error.contains("keys are RSA, with 2048 to 8192 bits"), "{error}");
}

#[test]
fn sizes_of_keys_are_those_of_the_library() {
    let desk = Desk::new();
    for bits in [-1, 512, 1024, 2047, 2049, 16_384] {
        let tool = Tool::Init(Init {
            common_name: "x".into(),
            bits,
            validity: Validity::default(),
            out_cert: desk.path("c"),
            out_key: desk.path("k"),
        });
        assert_eq!(
            desk.run(&tool, "").0.unwrap_err().to_string(),
            format!("bits must be 2048, 3072, 4096 or 8192, not {bits}")
        );
    }
    assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 0);
}
