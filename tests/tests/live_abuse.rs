//! A node with very many neighbours, and one with neighbours and strangers who mean it no good: what they cost it, and that
//! the others do not notice.
//!
//! `RECEPTOR_ABUSE=5` makes it five times as many of everything; `--nocapture` shows the figures, of which
//! `docs/reliability.md` has a table. `benches/abuse.py` does the same to any binary.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use receptor_core::config::{Backend, BackendKind, Config};
use receptor_core::id::{NodeId, ServiceName};
use receptor_core::wire::data::Header;
use receptor_tests::live::{
    Authority, Builder, Hello, Node, PATIENCE, Place, RawPeer, Scratch, Usage, free_port, neighbours, noise,
    raise_file_limit, skipped, until, wait_for_routes,
};
use receptor_tokio::{Mesh, Options};

/// How much longer and more than in the tests of every change.
fn scale() -> usize {
    std::env::var("RECEPTOR_ABUSE").map_or(1, |scale| scale.parse().expect("a number"))
}

/// What a debug build's allocator may keep after a storm, in KiB.
const SLACK_KIB: u64 = 24 << 10;

/// A hub with a listener of each kind, and a neighbour over the first whom nobody attacks.
struct Scene {
    scratch: Scratch,
    hub: Node,
    far: Node,
    mesh: Authority,
    plain: u16,
    tls: u16,
    web: u16,
    /// A socket of the neighbour that leads to `target`, which the hub connects to.
    service: u16,
    target: u16,
}

impl Scene {
    fn new() -> Self {
        let scratch = Scratch::new();
        let mesh = Authority::new(scratch.path(), "mesh");
        let identity = mesh.node("hub");
        let [plain, tls, web, service, target] = [0; 5].map(|_| free_port());
        let on = |port: u16| [("bindaddr", "127.0.0.1".to_owned()), ("port", port.to_string())];
        fn with<'a>(own: &'a [(&'a str, String)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
            own.iter()
                .map(|(key, value)| (*key, &**value))
                .chain(more.iter().copied())
                .collect()
        }
        let hub = Builder::new(&scratch, "hub")
            .listen(plain, 1.0)
            .entity(
                "tls-server",
                &[("name", "s"), ("cert", &identity.cert), ("key", &identity.key)],
            )
            .entity("tcp-listener", &with(&on(tls), &[("tls", "s")]))
            .entity("ws-listener", &with(&on(web), &[]))
            .entity(
                "tcp-client",
                &[("service", "echo"), ("address", &format!("127.0.0.1:{target}"))],
            )
            .start();
        let far = Builder::new(&scratch, "far")
            .peer(plain, 1.0)
            .entity(
                "tcp-server",
                &with(&on(service), &[("remotenode", "hub"), ("remoteservice", "echo")]),
            )
            .start();
        wait_for_routes([&hub, &far]);
        Self {
            scratch,
            hub,
            far,
            mesh,
            plain,
            tls,
            web,
            service,
            target,
        }
    }

    fn usage(&self) -> Usage {
        Usage::of(self.hub.pid())
    }

    /// A newcomer over TLS, from the first connection to all routes.
    fn newcomer(&self) -> Node {
        let (cert, address) = (&*self.mesh.cert, format!("localhost:{}", self.tls));
        let late = Builder::new(&self.scratch, "late")
            .entity(
                "tls-client",
                &[("name", "c"), ("cert", ""), ("key", ""), ("rootcas", cert)],
            )
            .entity("tcp-peer", &[("address", &address), ("tls", "c")])
            .start();
        wait_for_routes([&self.hub, &self.far, &late]);
        late
    }
}

/// A stream and pings of the neighbour, which go on until they are stopped.
struct Others {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
    echo: JoinHandle<()>,
}

/// How the others fared.
#[derive(Debug)]
struct Report {
    bytes: usize,
    pings: usize,
    worst: Duration,
}

impl Others {
    fn watch(scene: &Scene) -> Self {
        let listener = Place::Tcp(scene.target).listen();
        let echo = thread::spawn(move || {
            let socket = listener.accept();
            std::io::copy(&mut &socket, &mut &socket).expect("it echoes");
            socket.finish();
        });
        let (socket, mut control) = (Place::Tcp(scene.service).connect(), scene.far.control());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let sent = noise(3, 64 << 10);
            let mut report = Report {
                bytes: 0,
                pings: 0,
                worst: Duration::ZERO,
            };
            let mut received = vec![0; sent.len()];
            loop {
                { &socket }.write_all(&sent).expect("the stream goes on");
                { &socket }.read_exact(&mut received).expect("the stream goes on");
                assert!(received == sent, "bytes differ");
                report.bytes += sent.len();
                let begun = Instant::now();
                let answer = control.json("ping hub").expect("an answer");
                assert_eq!(answer["Success"], true, "{answer}");
                report.pings += 1;
                report.worst = report.worst.max(begun.elapsed());
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            socket.finish();
            assert!(socket.read_all().is_empty());
            report
        });
        Self { stop, thread, echo }
    }

    fn end(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.thread.join().expect("the others were not harmed");
        self.echo.join().expect("all was echoed");
        assert!(report.pings > 0);
        report
    }
}

fn show(what: &str, before: Usage, worst: Usage, after: Usage, others: &Report) {
    println!(
        "| {what} | {} → {} → {} | {} → {} → {} | {} KiB, {} pings, worst {} ms |",
        before.descriptors,
        worst.descriptors,
        after.descriptors,
        before.resident_kib,
        worst.resident_kib,
        after.resident_kib,
        others.bytes >> 10,
        others.pings,
        others.worst.as_millis()
    );
}

/// Waits until all that was taken is given back, but for the links that are there now.
fn until_given_back(scene: &Scene, before: Usage, links: usize) -> Usage {
    until("all is given back", PATIENCE, || {
        let now = scene.usage();
        // The connection of the neighbour's stream may have come since.
        let is_back = now.descriptors <= before.descriptors + links + 1
            && now.threads <= before.threads
            && now.resident_kib <= before.resident_kib + SLACK_KIB;
        is_back
            .then_some(now)
            .ok_or_else(|| format!("{now:?}, {before:?} before"))
    })
}

/// They begin a handshake of each kind, and say no more.
#[test]
fn slow_handshakes_keep_nobody_out() {
    const PLACES: usize = 256;
    let each = 400 * scale();
    if !raise_file_limit(4 * each as u64 + 100) {
        return skipped("slow handshakes: the limit of open files cannot be raised here");
    }
    let mut scene = Scene::new();
    let others = Others::watch(&scene);
    let before = scene.usage();
    let mut slow = Vec::new();
    for (port, beginning) in [
        (scene.plain, &[200, 0, 1, b'{'][..]),
        (scene.tls, &[0x16, 3, 1, 2, 0, 1]),
        (scene.web, b"GET / HTTP/1.1\r\nHost: hub\r\nX"),
    ] {
        for _ in 0..each {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the hub listens");
            // Who was one too many may hear of it already.
            let _ = stream.write_all(beginning);
            slow.push(stream);
        }
    }
    let late = scene.newcomer();
    let worst = scene.usage();
    // Two of them are on their way out, and the newcomer is there.
    let most = before.descriptors + each.min(1024) + 2 * PLACES + 50;
    assert!(worst.descriptors <= most, "{worst:?}, at most {most}");
    let after = until_given_back(&scene, before, 1);
    show("slow handshakes", before, worst, after, &others.end());
    drop((slow, late));
    scene.hub.assert_alive();
}

/// A connection from one of many addresses of this machine.
fn connect_from(address: Ipv4Addr, port: u16) -> std::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(address, 0))?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// They connect and break off, as port scanners do, from one address and from many.
#[test]
fn floods_of_connections_leave_nothing_behind() {
    let count = 1_500 * scale();
    let mut scene = Scene::new();
    let others = Others::watch(&scene);
    let before = scene.usage();
    let log = scene.hub.log().len();
    let mut worst = before;
    for number in 0..count {
        let [_, _, high, low] = u32::try_from(number).expect("few enough").to_be_bytes();
        let address = match number % 2 {
            0 => Ipv4Addr::LOCALHOST,
            _ => Ipv4Addr::new(127, 1, high, low),
        };
        let port = [scene.plain, scene.tls, scene.web][number % 3];
        let socket = connect_from(address, port).expect("the hub listens");
        if number % 5 == 0 {
            let _ = rustix::io::write(&socket, b"\x16\x03\x01nonsense\r\n\r\n");
        }
        drop(socket);
        if number % 100 == 0 {
            let now = scene.usage();
            worst = if now.descriptors > worst.descriptors {
                now
            } else {
                worst
            };
        }
    }
    let late = scene.newcomer();
    let after = until_given_back(&scene, before, 1);
    show("connections and no word", before, worst, after, &others.end());
    let lines = scene.hub.log()[log..].lines().count();
    // Ten in ten seconds of each kind.
    assert!(lines < 100 + count / 20, "{lines} lines in the log");
    drop(late);
    scene.hub.assert_alive();
}

/// One neighbour takes nothing, another sends to it as fast as it can, and floods the mesh with news.
#[test]
fn a_neighbour_that_never_reads_and_one_that_never_stops() {
    let mut scene = Scene::new();
    let others = Others::watch(&scene);
    let mute = RawPeer::neighbour(&scene.hub, &Hello::new("mute"));
    let news = Hello::new("loud").listing("hub", 1.0);
    let mut loud = RawPeer::neighbour(&scene.hub, &Hello::new("loud"));
    let before = scene.usage();
    let header = Header {
        hops: 30,
        from: NodeId::new("loud").hash(),
        to: NodeId::new("mute").hash(),
        from_service: ServiceName::new("a").expect("a name"),
        to_service: ServiceName::new("b").expect("a name"),
        ..Header::default()
    };
    let data = [&header.to_bytes()[..], &noise(5, 32 << 10)].concat();
    let mut worst = before;
    for number in 0..1_000 * scale() {
        loud.send_frame(&data);
        let mut news = news.clone();
        news.sequence += number as u64;
        loud.send_hello(&news);
        if number % 50 == 0 {
            let now = scene.usage();
            worst = if now.resident_kib > worst.resident_kib {
                now
            } else {
                worst
            };
        }
    }
    let status = scene.hub.status();
    assert!(neighbours(&status).contains(&"loud"), "{status}");
    // What waits for the one that does not read is limited to 4 MiB of data and as much of control.
    assert!(
        worst.resident_kib <= before.resident_kib + SLACK_KIB,
        "{worst:?}, {before:?} before"
    );
    drop((mute, loud));
    let after = until_given_back(&scene, before, 0);
    show("one never reads, one never stops", before, worst, after, &others.end());
    scene.hub.assert_alive();
}

/// Bytes that went over the sockets of a port, both ways; `None` where `ss` is missing.
fn traffic(port: u16) -> Option<u64> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-tinH", &filter]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let counts = text.split_whitespace().filter_map(|word| {
        let (key, count) = word.split_once(':')?;
        ["bytes_sent", "bytes_received"]
            .contains(&key)
            .then(|| count.parse::<u64>().ok())?
    });
    Some(counts.sum())
}

/// Very many neighbours, all of our kind: memory and work are theirs alone, and idle links cost next to nothing.
#[test]
fn many_links() {
    let count = 200 * scale();
    let scene = Scene::new();
    if !raise_file_limit(2 * count as u64 + 200) {
        return skipped("many links: the limit of open files cannot be raised here");
    }
    let before = scene.usage();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let port = scene.plain;
    let leaves = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let mut leaves = Vec::new();
            for number in 0..count {
                let mut config = Config::new(NodeId::new(&format!("leaf{number}")));
                config.backends = vec![Backend::new(BackendKind::peer(format!("127.0.0.1:{port}")))];
                leaves.push(Mesh::start(config, Options::default()).await.expect("it starts"));
            }
            let _ = stopped.await;
        });
    });
    let limit = PATIENCE * u32::try_from(scale()).expect("a small number");
    until("all are neighbours", limit, || {
        let found = neighbours(&scene.hub.try_status()?).len();
        (found == count + 1)
            .then_some(())
            .ok_or_else(|| format!("{found} of {count}"))
    });
    // Until the news of the last has been everywhere.
    thread::sleep(Duration::from_secs(3));
    let (begun, sent, filled) = (Instant::now(), traffic(port), scene.usage());
    let others = Others::watch(&scene).end();
    thread::sleep(Duration::from_secs(5) * u32::try_from(scale()).expect("a small number"));
    let (idle, now) = (begun.elapsed(), scene.usage());
    assert!(
        now.resident_kib <= filled.resident_kib + SLACK_KIB,
        "{now:?}, {filled:?} before"
    );
    let figures = BTreeMap::from([
        (
            "KiB for each link",
            (now.resident_kib.saturating_sub(before.resident_kib)) / count as u64,
        ),
        (
            "ms of CPU a second",
            10_000 * (now.cpu_ticks - filled.cpu_ticks) / idle.as_millis() as u64,
        ),
        (
            "bytes a second for each link",
            traffic(port).zip(sent).map_or(0, |(now, then)| {
                (now - then) * 1_000 / idle.as_millis() as u64 / count as u64
            }),
        ),
    ]);
    println!("{count} links, idle for {} s: {figures:?}", idle.as_secs());
    let _ = stop.send(());
    leaves.join().expect("they end");
    let after = until("they are gone", PATIENCE, || {
        let now = scene.usage();
        (now.descriptors <= before.descriptors)
            .then_some(now)
            .ok_or_else(|| format!("{now:?}"))
    });
    show(&format!("{count} links"), before, now, after, &others);
}
