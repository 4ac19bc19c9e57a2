//! Who gets through to whom.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;

use super::super::{ClientSettings, Configs, Peer, ServerSettings, Suites};
use super::authority::*;
use crate::id::NodeId;

/// Below the mesh: the client dials `host`.
fn link(client: ClientSettings, server: ServerSettings, host: &str) -> Outcome {
    let (client, server) = (client_configs(client).unwrap(), server_configs(server).unwrap());
    let (config, name) = client.link_client("c", host, &[]).unwrap();
    handshake(config, name, server.link_server("s", &[]).unwrap())
}

const ALPN: &[&[u8]] = &[b"netceptor"];

/// Above it: the client dials the node `wanted` and is the node `source` to the server.
fn stream(client: ClientSettings, server: ServerSettings, wanted: &str, source: Peer) -> Outcome {
    let (client, server) = (client_configs(client).unwrap(), server_configs(server).unwrap());
    let peer = Peer::Node(wanted.into());
    let config = client.stream_client("c", peer, Suites::Library, ALPN).unwrap();
    let name = ServerName::try_from("netceptor").unwrap();
    handshake(
        config,
        name,
        server.stream_server("s", source, Suites::Fastest, ALPN).unwrap(),
    )
}

fn hash(node: &str) -> Peer {
    Peer::Hash(NodeId::new(node).hash())
}

fn named(node: &str) -> Peer {
    Peer::Node(node.into())
}

/// Both kinds of connection in both versions of TLS, as far as there are such.
fn everywhere(client: &ClientSettings, server: &ServerSettings, judge: impl Fn(&Outcome)) {
    for min_tls13 in [false, true] {
        let client = ClientSettings {
            min_tls13,
            ..client.clone()
        };
        judge(&link(client, server.clone(), "localhost"));
    }
    // One that has nothing newer.
    let (config, name) = client_configs(client.clone())
        .unwrap()
        .old_link_client("c", "localhost")
        .unwrap();
    let listening = server_configs(server.clone()).unwrap().link_server("s", &[]).unwrap();
    judge(&handshake(config, name, listening));
    judge(&stream(client.clone(), server.clone(), "server", named("client")));
}

#[test]
fn a_server_is_known_by_its_chain_and_its_name() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&leaf("server"));
    everywhere(&client(&ca), &server(&identity), Outcome::works);
    let other = Authority::new("other");
    everywhere(&client(&other), &server(&identity), |outcome| {
        outcome.client_refuses("x509: certificate signed by unknown authority");
    });
    link(client(&ca), server(&identity), "example.org").client_refuses("not valid for name \"example.org\"");
    link(client(&ca), server(&identity), "127.0.0.1").client_refuses("not valid for name \"127.0.0.1\"");
    let wanted = stream(client(&ca), server(&identity), "other", named("client"));
    wanted.client_refuses("x509: certificate is valid for Receptor node ID server, not other");
    // As users type it.
    let wanted = stream(client(&ca), server(&identity), "localhost", named("client"));
    wanted.client_refuses("x509: certificate is valid for Receptor node ID server, not localhost");
}

#[test]
fn names_of_nodes_are_told_as_go_tells_them() {
    let ca = Authority::new("ca");
    let refusal = |nodes: &[&'static str]| {
        let identity = ca.issue(&Leaf {
            nodes: nodes.to_vec(),
            ..leaf("")
        });
        let settings = ServerSettings {
            skip_receptor_names_check: true,
            ..server(&identity)
        };
        stream(client(&ca), settings, "server", named("client"))
            .client
            .unwrap_err()
    };
    let none = "x509: certificate is not valid for any Receptor node IDs, but wanted to match server";
    assert_eq!(refusal(&[]), none);
    assert_eq!(
        refusal(&["a"]),
        "x509: certificate is valid for Receptor node ID a, not server"
    );
    assert_eq!(
        refusal(&["a", "b"]),
        "x509: certificate is valid for Receptor node IDs a, b, not server"
    );
    let several = ca.issue(&Leaf {
        nodes: vec!["a", "server"],
        ..leaf("")
    });
    stream(client(&ca), server(&several), "server", named("client")).works();
}

#[test]
fn addresses_are_verified_and_not_told() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&Leaf {
        hosts: vec!["127.0.0.1", "::1", "localhost"],
        ..leaf("server")
    });
    for host in ["127.0.0.1", "::1", "[::1]"] {
        let outcome = link(client(&ca), server(&identity), host);
        outcome.works();
        assert_eq!(outcome.sni, None);
    }
    let outcome = link(client(&ca), server(&identity), "localhost");
    assert_eq!(outcome.sni.as_deref(), Some("localhost"));
    let outcome = stream(client(&ca), server(&identity), "server", named("client"));
    assert_eq!(outcome.sni, None, "not over the mesh");
    let configs = client_configs(client(&ca)).unwrap();
    assert!(
        configs
            .link_client("c", "no host", &[])
            .unwrap_err()
            .contains("\"no host\"")
    );
    let careless = ClientSettings {
        insecure_skip_verify: true,
        ..client(&ca)
    };
    let outcome = link(careless, server(&identity), "no host");
    outcome.works();
    assert_eq!(outcome.sni, None);
}

#[test]
fn a_client_is_known_by_its_chain_and_on_streams_by_its_name() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf("server"));
    let strict = ServerSettings {
        require_client_cert: true,
        client_cas: Some(ca.pem.clone()),
        ..server(&own)
    };
    let mine = ca.issue(&leaf("client"));
    everywhere(&client_with(&ca, &mine), &strict, Outcome::works);
    everywhere(&client(&ca), &strict, |outcome| {
        outcome.server_refuses("peer sent no certificates")
    });
    let lenient = ServerSettings {
        require_client_cert: false,
        ..strict.clone()
    };
    everywhere(&client_with(&ca, &mine), &lenient, Outcome::works);
    // Nominally optional, but the classic node refuses here, too.
    everywhere(&client(&ca), &lenient, |outcome| {
        outcome.server_refuses("peer sent no certificates")
    });
    let stranger = Authority::new("stranger").issue(&leaf("client"));
    for settings in [&strict, &lenient] {
        everywhere(&client_with(&ca, &stranger), settings, |outcome| {
            outcome.server_refuses("x509: certificate signed by unknown authority");
        });
    }
    // Nobody asks for it.
    everywhere(&client_with(&ca, &stranger), &server(&own), Outcome::works);
}

#[test]
fn a_certificate_of_one_node_is_not_good_for_another() {
    let ca = Authority::new("ca");
    let own = ca.issue(&leaf("server"));
    let strict = ServerSettings {
        require_client_cert: true,
        client_cas: Some(ca.pem.clone()),
        ..server(&own)
    };
    let mine = client_with(&ca, &ca.issue(&leaf("client")));
    let dial = |settings: &ServerSettings, source| stream(mine.clone(), settings.clone(), "server", source);
    dial(&strict, named("client")).works();
    dial(&strict, hash("client")).works();
    dial(&strict, named("other")).server_refuses("x509: certificate is valid for Receptor node ID client, not other");
    dial(&strict, hash("other")).server_refuses("x509: certificate is valid for Receptor node ID client, not");
    dial(&strict, Peer::Unknown).server_refuses("x509: certificate is valid for Receptor node ID client, not");
    let lenient = ServerSettings {
        require_client_cert: false,
        ..strict
    };
    dial(&lenient, named("other")).works();
}

#[test]
fn pins_are_asked_beside_everything_else() {
    let ca = Authority::new("ca");
    let (own, mine) = (ca.issue(&leaf("server")), ca.issue(&leaf("client")));
    let pin = |der: &[u8], algorithm| {
        let digest = aws_lc_rs::digest::digest(algorithm, der);
        let pairs: Vec<String> = digest
            .as_ref()
            .iter()
            .map(|byte| alloc::format!("{byte:02X}"))
            .collect();
        pairs.join(":")
    };
    let (sha256, sha512) = (&aws_lc_rs::digest::SHA256, &aws_lc_rs::digest::SHA512);
    let wrong = pin(b"", sha256);
    for right in [pin(&own.der, sha256), pin(&own.der, sha512)] {
        let pinned = ClientSettings {
            pinned_server_certs: vec![wrong.clone(), right],
            ..client(&ca)
        };
        everywhere(&pinned, &server(&own), Outcome::works);
        let stranger = Authority::new("other");
        let pinned = ClientSettings {
            root_cas: Some(stranger.pem),
            ..pinned
        };
        everywhere(&pinned, &server(&own), |outcome| {
            outcome.client_refuses("unknown authority")
        });
    }
    let pinned = ClientSettings {
        pinned_server_certs: vec![wrong.clone()],
        ..client(&ca)
    };
    everywhere(&pinned, &server(&own), |outcome| outcome.client_refuses("not pinned"));
    let careless = ClientSettings {
        insecure_skip_verify: true,
        ..pinned
    };
    everywhere(&careless, &server(&own), Outcome::works);

    for require_client_cert in [false, true] {
        let settings = |pin: String| ServerSettings {
            require_client_cert,
            client_cas: Some(ca.pem.clone()),
            pinned_client_certs: vec![pin],
            ..server(&own)
        };
        everywhere(
            &client_with(&ca, &mine),
            &settings(pin(&mine.der, sha256)),
            Outcome::works,
        );
        // On streams too, where the classic node forgets it.
        everywhere(&client_with(&ca, &mine), &settings(wrong.clone()), |outcome| {
            outcome.server_refuses("not pinned");
        });
    }
}

#[test]
fn a_certificate_must_be_good_for_its_purpose_and_now() {
    let ca = Authority::new("ca");
    let good = ca.issue(&leaf("server"));
    let strict = |own: &Identity| ServerSettings {
        require_client_cert: true,
        client_cas: Some(ca.pem.clone()),
        ..server(own)
    };
    let mine = client_with(&ca, &ca.issue(&leaf("client")));
    let both = |change: &dyn Fn(&mut Leaf)| {
        let mut leaves = [leaf("server"), leaf("client")];
        leaves.iter_mut().for_each(change);
        leaves.map(|leaf| ca.issue(&leaf))
    };

    // Without any purpose, and for any.
    for usages in [vec![], vec![Any]] {
        let [own, theirs] = both(&|leaf| leaf.usages.clone_from(&usages));
        everywhere(&client_with(&ca, &theirs), &strict(&own), Outcome::works);
    }
    let [own, theirs] = [
        Leaf {
            usages: vec![ClientAuth],
            ..leaf("server")
        },
        Leaf {
            usages: vec![ServerAuth],
            ..leaf("client")
        },
    ]
    .map(|leaf| ca.issue(&leaf));
    everywhere(&mine, &strict(&own), |outcome| {
        outcome.client_refuses("incompatible key usage")
    });
    everywhere(&client_with(&ca, &theirs), &strict(&good), |outcome| {
        outcome.server_refuses("incompatible key usage");
    });

    for (years, reason) in [
        ((2024, 2025), "certificate expired"),
        ((2030, 2031), "certificate not valid yet"),
    ] {
        let [own, theirs] = both(&|leaf| leaf.years = years);
        everywhere(&mine, &strict(&own), |outcome| outcome.client_refuses(reason));
        everywhere(&client_with(&ca, &theirs), &strict(&good), |outcome| {
            outcome.server_refuses(reason)
        });
        let careless = ClientSettings {
            insecure_skip_verify: true,
            ..mine.clone()
        };
        everywhere(&careless, &strict(&own), Outcome::works);
    }
}

#[test]
fn chains_lead_to_a_root_over_what_is_sent_along() {
    let ca = Authority::new("ca");
    let between = ca.intermediate();
    let bare = between.issue(&leaf("server"));
    everywhere(&client(&ca), &server(&bare), |outcome| {
        outcome.client_refuses("unknown authority")
    });
    let mut whole = bare.clone();
    whole.cert.bytes.extend_from_slice(&between.pem.bytes);
    everywhere(&client(&ca), &server(&whole), Outcome::works);
    // What is trusted itself needs no issuer.
    let direct = ClientSettings {
        root_cas: Some(bare.cert.clone()),
        ..client(&ca)
    };
    everywhere(&direct, &server(&bare), Outcome::works);
}

#[test]
fn a_self_signed_certificate_is_its_own_root() {
    for is_ca in [false, true] {
        let own = leaf("server").self_signed(is_ca);
        let trusting = ClientSettings {
            root_cas: Some(own.cert.clone()),
            ..ClientSettings::new("c")
        };
        everywhere(&trusting, &server(&own), Outcome::works);
        let wanted = stream(trusting.clone(), server(&own), "other", named("client"));
        wanted.client_refuses("not other");
    }
    for (change, reason) in [
        (
            Leaf {
                years: (2024, 2025),
                ..leaf("server")
            },
            "Expired",
        ),
        (
            Leaf {
                years: (2030, 2031),
                ..leaf("server")
            },
            "NotValidYet",
        ),
        (
            Leaf {
                usages: vec![ClientAuth],
                ..leaf("server")
            },
            "incompatible key usage",
        ),
    ] {
        let own = change.self_signed(true);
        let trusting = ClientSettings {
            root_cas: Some(own.cert.clone()),
            ..ClientSettings::new("c")
        };
        everywhere(&trusting, &server(&own), |outcome| outcome.client_refuses(reason));
    }
}

#[test]
fn names_that_cannot_be_read_are_no_names() {
    let ca = Authority::new("ca");
    let with = |content: &[u8], is_critical| {
        let identity = ca.issue(&Leaf {
            alt_name: Some((content.to_vec(), is_critical)),
            ..leaf("")
        });
        ServerSettings {
            skip_receptor_names_check: true,
            ..server(&identity)
        }
    };
    // An OCTET STRING where a string should be.
    let octets = b"\x30\x12\xa0\x10\x06\x09\x2b\x06\x01\x04\x01\x92\x08\x13\x01\xa0\x03\x04\x01s";
    stream(client(&ca), with(octets, false), "s", named("client")).client_refuses("malformed otherName");
    let good = b"\x30\x12\xa0\x10\x06\x09\x2b\x06\x01\x04\x01\x92\x08\x13\x01\xa0\x03\x0c\x01s";
    stream(client(&ca), with(good, false), "s", named("client")).works();
    // Go does not understand it when it is critical; we do.
    stream(client(&ca), with(good, true), "s", named("client")).works();
}

#[test]
fn tls_1_2_is_spoken_unless_it_is_forbidden() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&leaf("server"));
    let outcome = link(client(&ca), server(&identity), "localhost");
    assert_eq!(outcome.version, Some(ProtocolVersion::TLSv1_3));
    let (config, name) = client_configs(client(&ca))
        .unwrap()
        .old_link_client("c", "localhost")
        .unwrap();
    let dial = |settings| {
        let server = server_configs(settings).unwrap().link_server("s", &[]).unwrap();
        handshake(Arc::clone(&config), name.clone(), server)
    };
    let outcome = dial(server(&identity));
    outcome.works();
    assert_eq!(outcome.version, Some(ProtocolVersion::TLSv1_2));
    let outcome = dial(ServerSettings {
        min_tls13: true,
        ..server(&identity)
    });
    assert!(outcome.server.is_err() && outcome.client.is_err(), "{outcome:?}");
    // Streams know nothing older at all.
    let configs = server_configs(server(&identity)).unwrap();
    let over_mesh = configs
        .stream_server("s", named("client"), Suites::Library, &[])
        .unwrap();
    assert!(handshake(config, name, over_mesh).server.is_err());
}

#[test]
fn a_name_that_nothing_has_is_an_error() {
    let configs: Configs = client_configs(ClientSettings::new("c")).unwrap();
    let expected = "unknown TLS config s";
    assert_eq!(configs.link_server("s", &[]).unwrap_err(), expected);
    assert_eq!(configs.link_client("s", "h", &[]).unwrap_err(), expected);
    let peer = || Peer::Unknown;
    assert_eq!(
        configs.stream_server("s", peer(), Suites::Library, &[]).unwrap_err(),
        expected
    );
    assert_eq!(
        configs.stream_client("s", peer(), Suites::Library, &[]).unwrap_err(),
        expected
    );
    assert_eq!(configs.client_names().collect::<Vec<_>>(), ["c", "default"]);
    assert!(configs.link_client("default", "host", &[]).is_ok());
    assert_eq!(configs.server_names().next(), None);
}
