//! Links of our daemons as an operator configures them.

use receptor_tests::live::{Authority, Builder, PATIENCE, Scratch, free_port, http_proxy, wait_for_routes};

/// What the environment says of proxies is asked for names that only the proxy knows.
#[test]
fn the_environment_names_an_http_proxy() {
    let scratch = Scratch::new();
    let port = free_port();
    let (proxy, questions) = http_proxy(port);
    let hub = Builder::new(&scratch, "hub")
        .entity(
            "ws-listener",
            &[
                ("bindaddr", "127.0.0.1"),
                ("port", &port.to_string()),
                ("path", "/mesh"),
            ],
        )
        .start();
    let environment = [
        format!("HTTP_PROXY=http://me:secret@127.0.0.1:{proxy}"),
        "NO_PROXY=other.invalid".to_owned(),
    ];
    let edge = Builder::new(&scratch, "edge")
        .through(&["env", &environment[0], &environment[1]])
        .entity("ws-peer", &[("address", "ws://mesh.invalid/mesh")])
        .start();
    wait_for_routes([&hub, &edge]);
    let asked = questions.recv_timeout(PATIENCE).expect("the proxy was asked");
    assert_eq!(asked[0], "CONNECT mesh.invalid:80 HTTP/1.1");
    assert!(
        asked.contains(&"Proxy-Authorization: Basic bWU6c2VjcmV0".to_owned()),
        "{asked:?}"
    );
}

/// A certificate that names no node is enough, with a warning, and with `strict` it is not.
#[test]
fn strict_is_a_parameter_of_the_node() {
    let scratch = Scratch::new();
    let ca = Authority::new(scratch.path(), "ca");
    let port = free_port().to_string();
    let nameless = ca.issue("hub", &[]);
    let _hub = Builder::new(&scratch, "hub")
        .entity(
            "tls-server",
            &[
                ("name", "server"),
                ("cert", &nameless.cert),
                ("key", &nameless.key),
                ("skipreceptornamescheck", "true"),
            ],
        )
        .entity(
            "tcp-listener",
            &[("bindaddr", "127.0.0.1"), ("port", &port), ("tls", "server")],
        )
        .start();
    let own = ca.node("edge");
    let edge = Builder::new(&scratch, "edge")
        .entity(
            "tls-client",
            &[
                ("name", "client"),
                ("cert", &own.cert),
                ("key", &own.key),
                ("rootcas", &ca.cert),
            ],
        )
        .entity(
            "tcp-peer",
            &[("address", &format!("localhost:{port}")), ("tls", "client")],
        );
    let lenient = edge.clone().start();
    lenient.wait_for_log(&[
        "the certificate of hub at 127.0.0.1:",
        "names no node, so that any node could use it",
    ]);
    drop(lenient);
    let strict = edge.with("node", "strict", "true").start();
    strict.wait_for_log(&["it says that it is node hub, but its certificate names no node"]);
}
