//! Two daemons with a service of each kind.

use std::io::Write as _;
use std::thread;

use receptor_tests::live::{Builder, Listener, Node, PATIENCE, Place, Scratch, Socket, free_port, wait_for_routes};

/// `near`, where clients connect, and `far`, which connects to the targets.
pub(crate) struct Mesh {
    pub(crate) near: Node,
    pub(crate) far: Node,
    /// The sockets of `near`: TCP and Unix, each to either target.
    pub(crate) servers: [Server; 4],
    /// What `far` connects to: TCP and Unix. Nobody listens there yet.
    pub(crate) targets: [Place; 2],
}

/// A socket of `near` and the target it leads to, by its index.
pub(crate) struct Server {
    pub(crate) place: Place,
    pub(crate) target: usize,
}

/// How the daemons are told of their services.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    File,
    Arguments,
}

pub(crate) const TCP: usize = 0;

impl Mesh {
    pub(crate) fn new(scratch: &Scratch, by: By) -> Self {
        Self::with(scratch, by, |near| near, |far| far)
    }

    /// With more entities, or started otherwise.
    pub(crate) fn with(
        scratch: &Scratch,
        by: By,
        near_with: impl FnOnce(Builder) -> Builder,
        far_with: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let targets = [Place::Tcp(free_port()), Place::Unix(scratch.join("target.sock"))];
        let mut far = Builder::new(scratch, "far");
        for (service, target) in ["tcp", "unix"].into_iter().zip(&targets) {
            far = match target {
                Place::Tcp(port) => {
                    let address = format!("127.0.0.1:{port}");
                    far.entity("tcp-client", &[("service", service), ("address", &address)])
                }
                Place::Unix(path) => {
                    let filename = path.display().to_string();
                    far.entity("unix-socket-client", &[("service", service), ("filename", &filename)])
                }
            };
        }
        let places = ["to-tcp.sock", "to-unix.sock"].map(|name| Place::Unix(scratch.join(name)));
        let places = [0, 1].map(|_| Place::Tcp(free_port())).into_iter().zip(places);
        let servers: Vec<_> = places
            .enumerate()
            .flat_map(|(target, (tcp, unix))| [tcp, unix].map(|place| Server { place, target }))
            .collect();
        let mut near = Builder::new(scratch, "near");
        for server in &servers {
            let remote = [("remotenode", "far"), ("remoteservice", ["tcp", "unix"][server.target])];
            near = match &server.place {
                Place::Tcp(port) => {
                    let port = port.to_string();
                    let own = [("bindaddr", "127.0.0.1"), ("port", &port)];
                    near.entity("tcp-server", &[own, remote].concat())
                }
                Place::Unix(path) => {
                    let filename = path.display().to_string();
                    near.entity(
                        "unix-socket-server",
                        &[&[("filename", &*filename)][..], &remote].concat(),
                    )
                }
            };
        }
        let link = free_port();
        let start = |builder: Builder| match by {
            By::File => builder.start(),
            By::Arguments => builder.start_by_arguments(),
        };
        let near = start(near_with(near.listen(link, 1.0)));
        let far = start(far_with(far.listen(free_port(), 1.0).peer(link, 1.0)));
        let mut mesh = Self {
            near,
            far,
            servers: servers.try_into().unwrap_or_else(|_| panic!("four servers")),
            targets,
        };
        mesh.wait_for_routes();
        mesh
    }

    pub(crate) fn wait_for_routes(&mut self) {
        let nodes = [&self.near, &self.far];
        wait_for_routes(nodes);
    }

    /// The server at a TCP port that leads to the TCP target.
    pub(crate) fn tcp(&self) -> &Place {
        &self.servers[0].place
    }

    pub(crate) fn assert_alive(&mut self) {
        self.near.assert_alive();
        self.far.assert_alive();
    }
}

/// One exchange of a few bytes, both ways, to its end.
pub(crate) fn exchange(client: &Socket, listener: &Listener) {
    let server = listener.accept();
    { client }.write_all(b"question").expect("it is taken");
    client.finish();
    assert_eq!(server.read_all(), b"question");
    (&server).write_all(b"answer").expect("it is taken");
    server.finish();
    assert_eq!(client.read_all(), b"answer");
}

/// Accepts as long as anybody comes, and gives back to everybody what they send, each in its own time.
pub(crate) fn echo(listener: Listener) {
    thread::spawn(move || {
        while let Some(socket) = listener.accept_within(PATIENCE) {
            thread::spawn(move || std::io::copy(&mut &socket, &mut &socket).map(|_| socket.finish()));
        }
    });
}
