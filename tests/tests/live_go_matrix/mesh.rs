//! Meshes of both kinds of node.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use receptor_tests::live::{Builder, Node, Scratch, free_port, wait_for_routes};

/// Whose daemon a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Ours,
    Go,
}

/// Costs of links. They differ, so that a wrong one shows, and leave one cheapest way between any two nodes of a ring of four.
const COSTS: [f64; 4] = [1.0, 1.5, 2.25, 3.0];

/// The shape of a mesh: nodes `n0`, `n1`, …, each linked with the next, in a ring the last with the first too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kinds: &'static [Kind],
    pub(crate) is_ring: bool,
}

impl Plan {
    pub(crate) const fn chain(kinds: &'static [Kind]) -> Self {
        Self { kinds, is_ring: false }
    }

    pub(crate) const fn ring(kinds: &'static [Kind]) -> Self {
        Self { kinds, is_ring: true }
    }

    /// Links as (listening node, dialling node, cost).
    pub(crate) fn links(&self) -> Vec<(usize, usize, f64)> {
        let last = self.kinds.len() - 1;
        let mut links: Vec<_> = (0..last).map(|n| (n, n + 1, COSTS[n])).collect();
        if self.is_ring {
            links.push((0, last, COSTS[last]));
        }
        links
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.kinds.iter().map(|kind| match kind {
            Kind::Ours => "ours",
            Kind::Go => "Go",
        });
        let names: Vec<_> = names.collect();
        write!(f, "{}{}", names.join(" – "), if self.is_ring { ", a ring" } else { "" })
    }
}

/// A running mesh, with all routes.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    /// Ports at the first and at the last node that lead to an echo service behind the other.
    pub(crate) proxies: [u16; 2],
    pub(crate) scratch: Scratch,
}

impl Mesh {
    pub(crate) fn start(plan: &Plan, go: &Path) -> Self {
        let scratch = Scratch::new();
        let echo = echo_service();
        let last = plan.kinds.len() - 1;
        let proxies = [free_port(), free_port()];
        let ports: Vec<_> = plan.links().iter().map(|_| free_port()).collect();
        let start = |(n, kind): (usize, &Kind)| {
            let mut builder = Builder::new(&scratch, &format!("n{n}")).work();
            if *kind == Kind::Go {
                builder = builder.binary(go);
            }
            for (&(listener, dialler, cost), &port) in plan.links().iter().zip(&ports) {
                if listener == n {
                    builder = builder.listen(port, cost);
                } else if dialler == n {
                    builder = builder.peer(port, cost);
                }
            }
            for (end, other) in [(0, last), (last, 0)] {
                if n == end {
                    let address = format!("127.0.0.1:{echo}");
                    let proxy = proxies[usize::from(end != 0)].to_string();
                    builder = builder
                        .entity("tcp-client", &[("service", "echo"), ("address", &address)])
                        .entity(
                            "tcp-server",
                            &[
                                ("bindaddr", "127.0.0.1"),
                                ("port", &proxy),
                                ("remotenode", &format!("n{other}")),
                                ("remoteservice", "echo"),
                            ],
                        );
                }
            }
            builder.start()
        };
        let nodes: Vec<_> = plan.kinds.iter().enumerate().map(start).collect();
        wait_for_routes(&nodes);
        Self {
            plan: *plan,
            nodes,
            proxies,
            scratch,
        }
    }

    /// The two ends of a chain, or two nodes that are not neighbours in a ring, both ways; as indices.
    pub(crate) fn far_pairs(&self) -> [(usize, usize); 2] {
        let far = if self.plan.is_ring { 2 } else { self.nodes.len() - 1 };
        [(0, far), (far, 0)]
    }

    /// A node between two far ones, if there is any.
    pub(crate) fn middle(&self) -> Option<usize> {
        (self.nodes.len() > 2).then_some(1)
    }
}

/// A TCP service on loopback that says back what it hears; ends with the test process.
fn echo_service() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be bound");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || {
                // A connection that breaks is the business of whoever made it.
                let _ = echo(&connection);
            });
        }
    });
    port
}

fn echo(connection: &TcpStream) -> io::Result<()> {
    io::copy(&mut &*connection, &mut &*connection)?;
    connection.shutdown(Shutdown::Write)
}
