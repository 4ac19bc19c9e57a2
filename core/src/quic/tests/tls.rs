//! Connections with TLS configs of the users': the nodes are called `n0`, which dials, and `n1`.

use alloc::string::String;
use alloc::sync::Arc;

use bytes::Bytes;
use rustls::time_provider::DefaultTimeProvider;

use super::net::{Net, Weather, service};
use crate::id::NodeId;
use crate::quic::{ConnectionId, DialTls, ToEndpoint};
use crate::time::Duration;
use crate::tls::tests::authority::{Authority, client, client_with, leaf, server};
use crate::tls::{ClientSettings, Configs, ServerSettings};

const LIMIT: Duration = Duration::from_secs(40);

fn calm() -> Weather {
    Weather {
        delay: Duration::from_millis(5),
        ..Weather::default()
    }
}

fn configs(node: &str, servers: &[ServerSettings], clients: &[ClientSettings]) -> Arc<Configs> {
    let clock = Arc::new(DefaultTimeProvider);
    Arc::new(Configs::new(&NodeId::new(node), servers, clients, None, clock).unwrap())
}

fn to(peer: &str) -> Option<DialTls> {
    Some(DialTls {
        config: "c".into(),
        peer: peer.into(),
    })
}

/// A network whose node 1 wants certificates, and node 0 shows that of `name`.
fn guarded(ca: &Authority, name: &'static str) -> Net {
    let mut net = Net::new(1, calm());
    let strict = ServerSettings {
        require_client_cert: true,
        client_cas: Some(ca.pem.clone()),
        ..server(&ca.issue(&leaf("n1")))
    };
    let mine = ClientSettings {
        skip_receptor_names_check: true,
        ..client_with(ca, &ca.issue(&leaf(name)))
    };
    net.ends[1].endpoint.set_tls(configs("n1", &[strict], &[]));
    net.ends[0].endpoint.set_tls(configs("n0", &[], &[mine]));
    net.listen_tls("echo", "s");
    net
}

/// Why each end says that a dial came to nothing; the listening one mostly has heard of nothing.
fn refusal(net: &mut Net, dialled: ConnectionId) -> String {
    assert!(
        net.run(LIMIT, |net| net.side(0, dialled).closed.is_some()),
        "{:?}",
        net.side(0, dialled)
    );
    assert!(net.ends[1].accepted.is_empty());
    net.side(0, dialled).closed.clone().flatten().expect("a reason")
}

#[test]
fn nodes_that_prove_who_they_are_are_connected() {
    let ca = Authority::new("ca");
    let mut net = guarded(&ca, "n0");
    let dialled = net.dial_tls("echo", to("n1"));
    assert!(net.run(LIMIT, |net| net.side(0, dialled).is_open
        && !net.ends[1].accepted.is_empty()));
    let accepted = net.accepted();
    net.send(0, dialled, Bytes::from_static(b"question"), true);
    assert!(net.run(LIMIT, |net| net.side(1, accepted).eof));
    assert_eq!(net.side(1, accepted).received, b"question");
}

#[test]
fn a_certificate_of_another_node_is_refused_by_either_side() {
    let ca = Authority::new("ca");
    let mut net = guarded(&ca, "n0");
    let dialled = net.dial_tls("echo", to("other"));
    let reason = refusal(&mut net, dialled);
    assert!(reason.starts_with("CRYPTO_ERROR 0x1"), "{reason}");
    assert!(
        reason.ends_with("(local): x509: certificate is valid for Receptor node ID n1, not other"),
        "{reason}"
    );
    // What node 0 shows is that of another node.
    let mut net = guarded(&ca, "thief");
    let dialled = net.dial_tls("echo", to("n1"));
    let reason = refusal(&mut net, dialled);
    assert!(
        reason.starts_with("CRYPTO_ERROR 0x1") && reason.contains("(remote)"),
        "{reason}"
    );
}

#[test]
fn who_has_no_certificate_or_no_config_is_refused() {
    let ca = Authority::new("ca");
    let mut net = guarded(&ca, "n0");
    net.ends[0].endpoint.set_tls(configs("n0", &[], &[client(&ca)]));
    let dialled = net.dial_tls("echo", to("n1"));
    let reason = refusal(&mut net, dialled);
    assert!(reason.starts_with("CRYPTO_ERROR 0x174 (remote)"), "{reason}");

    let mut net = guarded(&ca, "n0");
    let dialled = net.dial("echo");
    let reason = refusal(&mut net, dialled);
    assert!(
        reason.ends_with("(local): insecure connection to secure service"),
        "{reason}"
    );

    let mut net = guarded(&ca, "n0");
    net.listen("open");
    let dialled = net.dial_tls("open", to("n1"));
    let reason = refusal(&mut net, dialled);
    assert!(
        reason.ends_with("(local): x509: certificate signed by unknown authority"),
        "{reason}"
    );
}

#[test]
fn a_config_that_has_gone_lets_nobody_in_or_out() {
    let ca = Authority::new("ca");
    let mut net = guarded(&ca, "n0");
    net.ends[1].endpoint.set_tls(configs("n1", &[], &[]));
    let dialled = net.dial_tls("echo", to("n1"));
    let reason = refusal(&mut net, dialled);
    assert!(reason.contains("refused"), "{reason}");

    net.ends[0].endpoint.set_tls(configs("n0", &[], &[]));
    let dialled = net.dial_tls("echo", to("n1"));
    assert_eq!(refusal(&mut net, dialled), "unknown TLS config c");
    assert!(net.ends[0].released.contains(&service("e0000002")));
    net.tell(0, ToEndpoint::Release(dialled));
}
