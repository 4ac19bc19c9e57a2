//! What is wrong with settings, in the classic words; keys of all kinds.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls::time_provider::DefaultTimeProvider;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};

use super::super::{ClientSettings, Configs, Pem, ServerSettings, text};
use super::authority::*;
use crate::id::NodeId;

fn wrong_server(change: impl FnOnce(&mut ServerSettings)) -> String {
    let ca = Authority::new("ca");
    let mut settings = server(&ca.issue(&leaf("server")));
    change(&mut settings);
    let error = server_configs(settings).expect_err("an error");
    error
        .strip_prefix(text::SERVER_PREFIX)
        .expect("the classic prefix")
        .to_string()
}

fn wrong_client(change: impl FnOnce(&mut ClientSettings)) -> String {
    let ca = Authority::new("ca");
    let mut settings = client_with(&ca, &ca.issue(&leaf("client")));
    change(&mut settings);
    let error = client_configs(settings).expect_err("an error");
    error
        .strip_prefix(text::CLIENT_PREFIX)
        .expect("the classic prefix")
        .to_string()
}

fn garbage() -> Pem {
    Pem::new("garbage", "no PEM at all")
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named_as_by_go() {
    let other = Authority::new("ca").issue(&leaf("server"));
    assert_eq!(wrong_server(|s| s.cert = garbage()), text::NO_CERTIFICATE);
    assert_eq!(wrong_server(|s| s.key = garbage()), text::NO_KEY);
    assert_eq!(wrong_server(|s| s.cert = s.key.clone()), text::NOT_A_CERTIFICATE);
    assert_eq!(wrong_server(|s| s.key = other.key.clone()), text::OTHER_KEY);
    assert_eq!(
        wrong_server(|s| s.key = s.cert.clone()),
        "no private key that is not encrypted in own.crt"
    );
    assert_eq!(wrong_client(|c| c.cert = Some(garbage())), text::NO_CERTIFICATE);
    assert_eq!(wrong_client(|c| c.key = Some(other.key)), text::OTHER_KEY);
    assert_eq!(wrong_client(|c| c.key = None), text::ONE_OF_TWO);
    assert_eq!(wrong_client(|c| c.cert = None), text::ONE_OF_TWO);
    let cut = |pem: &Pem| Pem::new("own.key", &pem.bytes[..pem.bytes.len() / 2]);
    assert!(wrong_server(|s| s.key = cut(&s.key)).starts_with("private key in own.key: "));
    assert_eq!(wrong_server(|s| s.cert = cut(&s.cert)), text::NO_CERTIFICATE);
    assert_eq!(
        wrong_server(|s| s.pinned_client_certs = ["zz".into()].into()),
        text::PIN_DIGITS
    );
    assert_eq!(
        wrong_client(|c| c.pinned_server_certs = ["00".into()].into()),
        text::PIN_LENGTH
    );
}

#[test]
fn a_certificate_whose_bytes_are_wrong_is_an_error() {
    let broken = |identity: &Identity| {
        let mut der = identity.der.clone();
        der.truncate(der.len() - 1);
        let key = identity.key.clone();
        let body = rcgen_pem("CERTIFICATE", &der);
        (Pem::new("own.crt", body), key)
    };
    let ca = Authority::new("ca");
    let (cert, key) = broken(&ca.issue(&leaf("server")));
    let error = server_configs(ServerSettings::new("s", cert, key)).unwrap_err();
    assert!(
        error.starts_with("error preparing tls server config: certificate in own.crt: "),
        "{error}"
    );
}

#[test]
fn the_own_certificate_names_this_node() {
    let ca = Authority::new("ca");
    let other = ca.issue(&Leaf {
        nodes: ["a", "b"].into(),
        ..leaf("")
    });
    let expected =
        "nodeID=server not found in certificate name(s); names found=[a b]; cfg section=s; server cert=own.crt";
    let change = |s: &mut ServerSettings| (s.cert, s.key) = (other.cert.clone(), other.key.clone());
    assert_eq!(wrong_server(change), expected);
    let expected =
        "nodeID=client not found in certificate name(s); names found=[a b]; cfg section=c; server cert=own.crt";
    let change = |c: &mut ClientSettings| (c.cert, c.key) = (Some(other.cert.clone()), Some(other.key.clone()));
    assert_eq!(wrong_client(change), expected);
    let nameless = ca.issue(&Leaf {
        nodes: Vec::new(),
        ..leaf("")
    });
    let error = wrong_server(|s| (s.cert, s.key) = (nameless.cert, nameless.key));
    assert!(error.contains("names found=[]"), "{error}");
    let skipping = ServerSettings {
        skip_receptor_names_check: true,
        ..server(&other)
    };
    assert!(server_configs(skipping).is_ok());
}

#[test]
fn what_has_no_effect_or_a_strange_one_is_warned_about() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf("server"));
    let pins = || Vec::from(["00".repeat(32)]);
    let warnings = |settings| server_configs(settings).unwrap().warnings()[1..].join("\n");
    assert_eq!(warnings(server(&own)), "");
    let pinned = ServerSettings {
        pinned_client_certs: pins(),
        ..server(&own)
    };
    assert!(warnings(pinned).contains("TLS config s: pinnedclientcert has no effect"));
    let nobody = ServerSettings {
        client_cas: Some(garbage()),
        ..server(&own)
    };
    assert!(warnings(nobody).contains("no usable certificate in garbage: every peer will be refused"));
    let critical = ca.issue(&Leaf {
        alt_name: Some((
            b"\x30\x17\xa0\x15\x06\x09\x2b\x06\x01\x04\x01\x92\x08\x13\x01\xa0\x08\x0c\x06server".to_vec(),
            true,
        )),
        ..leaf("")
    });
    assert!(warnings(server(&critical)).contains("marked as critical"));
    let careless = ClientSettings {
        insecure_skip_verify: true,
        pinned_server_certs: pins(),
        ..client(&ca)
    };
    let configs = client_configs(careless).unwrap();
    let said = configs.warnings().join("\n");
    assert!(said.contains("nothing of a server's certificate is verified"));
    assert!(said.contains("pinnedservercert has no effect"));
}

#[test]
fn the_last_config_of_a_name_counts_and_the_default_can_be_replaced() {
    let ca = Authority::new("ca");
    let (one, two) = (ca.issue(&leaf("server")), ca.issue(&leaf("server")));
    let servers = [server(&one), server(&two)];
    let clients = [ClientSettings {
        name: "default".into(),
        ..client(&ca)
    }];
    let clock = Arc::new(DefaultTimeProvider);
    let configs = Configs::new(&NodeId::new("server"), &servers, &clients, None, clock).unwrap();
    assert_eq!(configs.server_names().collect::<Vec<_>>(), ["s"]);
    assert_eq!(configs.client_names().collect::<Vec<_>>(), ["default"]);
    let (config, name) = configs.link_client("default", "localhost", &[]).unwrap();
    handshake(config, name, configs.link_server("s", &[]).unwrap()).works();
}

#[test]
fn alpn_is_what_the_caller_says() {
    let ca = Authority::new("ca");
    let configs = server_configs(server(&ca.issue(&leaf("server")))).unwrap();
    assert_eq!(configs.link_server("s", &[]).unwrap().alpn_protocols, [[0; 0]; 0]);
    let alpn: &[&[u8]] = &[b"h2", b"http/1.1"];
    assert_eq!(configs.link_server("s", alpn).unwrap().alpn_protocols, alpn);
    let configs = client_configs(client(&ca)).unwrap();
    assert_eq!(configs.link_client("c", "h", alpn).unwrap().0.alpn_protocols, alpn);
}

#[test]
fn debug_output_shows_no_key() {
    let ca = Authority::new("ca");
    let settings = server(&ca.issue(&leaf("server")));
    let shown = alloc::format!("{settings:?}");
    assert!(
        shown.contains("Pem(\"own.key\", ") && !shown.contains("BEGIN"),
        "{shown}"
    );
}

fn rcgen_pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = alloc::format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize] as char;
                text.push(if place <= group.len() { digit } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &alloc::format!("-----END {label}-----\n")
}

/// What is in a PKCS#8 key: a PKCS#1 or SEC1 key.
fn inner(pkcs8: &[u8]) -> Vec<u8> {
    let (_, whole) = Any::from_der(pkcs8).unwrap();
    let mut rest = whole.data;
    loop {
        let (next, value) = Any::from_der(rest).unwrap();
        if value.tag() == Tag::OctetString {
            return value.data.to_vec();
        }
        rest = next;
    }
}

#[test]
fn keys_of_all_kinds_and_encodings_are_read() {
    let ca = Authority::new("ca");
    let check = |key: &KeyPair, pem: String| {
        let own = ca.issue_with(&leaf("server"), key);
        let settings = ServerSettings {
            key: Pem::new("own.key", pem),
            ..server(&own)
        };
        let configs = server_configs(settings).unwrap_or_else(|error| panic!("{:?}: {error}", key.algorithm()));
        let (config, name) = client_configs(client(&ca))
            .unwrap()
            .link_client("c", "localhost", &[])
            .unwrap();
        handshake(config, name, configs.link_server("s", &[]).unwrap()).works();
    };
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    check(&rsa, rsa.serialize_pem());
    check(&rsa, rcgen_pem("RSA PRIVATE KEY", &inner(&rsa.serialize_der())));
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
    ] {
        let ec = KeyPair::generate_for(algorithm).unwrap();
        check(&ec, ec.serialize_pem());
        check(&ec, rcgen_pem("EC PRIVATE KEY", &inner(&ec.serialize_der())));
    }
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    check(&ed, ed.serialize_pem());
}
