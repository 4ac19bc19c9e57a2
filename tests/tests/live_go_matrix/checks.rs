//! What every mesh must do.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use receptor_tests::live::{Node, routes};
use serde_json::{Value, json};

use crate::mesh::Mesh;

/// A Go node advertises 5 s after its start and then once a minute, to whom it knows then.
const LIMIT: Duration = Duration::from_secs(180);
/// Through a proxy of Go nodes on a busy machine.
const PROXY_LIMIT: Duration = Duration::from_secs(180);

type Outcome = Result<(), String>;

/// One column of the table.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&Mesh) -> bool,
    pub(crate) run: fn(&mut Mesh) -> Outcome,
}

const fn always(_: &Mesh) -> bool {
    true
}

pub(crate) const CHECKS: [Check; 10] = [
    check("routes and costs", always, routes_and_costs),
    check("advertisements", always, advertisements),
    check("ping", always, ping),
    check("traceroute", always, traceroute),
    check("`connect`", always, connect),
    check("tcp-server, tcp-client", always, proxies),
    check("work, 1 KiB", always, |mesh| work(mesh, 1 << 10)),
    check("work, 16 MiB", always, |mesh| work(mesh, 16 << 20)),
    check("cancel, release", always, cancel_and_release),
    check("unit outlives a hop", |mesh| mesh.middle().is_some(), lost_hop),
];

const fn check(name: &'static str, applies: fn(&Mesh) -> bool, run: fn(&mut Mesh) -> Outcome) -> Check {
    Check { name, applies, run }
}

/// Both far pairs at a time.
fn both_ways(mesh: &Mesh, run: impl Fn(&Node, &Node) -> Outcome + Sync) -> Outcome {
    let run = &run;
    thread::scope(|scope| {
        let ways = mesh.far_pairs().map(|(from, to)| {
            let (from, to) = (&mesh.nodes[from], &mesh.nodes[to]);
            scope.spawn(move || run(from, to).map_err(|why| format!("{} to {}: {why}", from.id, to.id)))
        });
        ways.into_iter()
            .try_for_each(|way| way.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })
}

/// As `live::until`, but the failure is a value.
fn within<T>(limit: Duration, mut poll: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = std::time::Instant::now();
    loop {
        match poll() {
            Err(_) if start.elapsed() < limit => thread::sleep(Duration::from_millis(50)),
            outcome => return outcome,
        }
    }
}

fn routes_and_costs(mesh: &mut Mesh) -> Outcome {
    let mut expected: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for (a, b, cost) in mesh.plan.links() {
        for (from, to) in [(a, b), (b, a)] {
            expected
                .entry(format!("n{from}"))
                .or_default()
                .insert(format!("n{to}"), cost);
        }
    }
    for node in &mesh.nodes {
        within(LIMIT, || {
            let status = node.try_status()?;
            let costs = serde_json::from_value(status["KnownConnectionCosts"].clone()).unwrap_or_default();
            if expected == costs && routes(&status).len() == mesh.nodes.len() - 1 {
                Ok(())
            } else {
                Err(format!("{}: {status}", node.id))
            }
        })?;
    }
    Ok(())
}

fn advertisements(mesh: &mut Mesh) -> Outcome {
    let last = mesh.nodes.len() - 1;
    for node in &mesh.nodes {
        for (n, other) in mesh.nodes.iter().enumerate() {
            within(LIMIT, || {
                let status = node.try_status()?;
                let of_other = |service: &str| {
                    let adverts = status["Advertisements"].as_array().into_iter().flatten();
                    let mut adverts =
                        adverts.filter(|advert| advert["NodeID"] == other.id.as_str() && advert["Service"] == service);
                    adverts.next().cloned().unwrap_or_default()
                };
                let control = of_other("control");
                let types = control["WorkCommands"].as_array().map_or(0, Vec::len);
                let is_control =
                    control["ConnType"] == 1 && control["Tags"] == json!({ "type": "Control Service" }) && types == 5;
                let is_end = n == 0 || n == last;
                let is_proxy = |advert: &Value| advert["ConnType"] == 1 && advert["Tags"]["type"] == "TCP Proxy";
                if is_control && is_end == is_proxy(&of_other("echo")) {
                    Ok(())
                } else {
                    Err(format!("{} of {}: {}", node.id, other.id, status["Advertisements"]))
                }
            })?;
        }
    }
    Ok(())
}

fn ping(mesh: &mut Mesh) -> Outcome {
    for node in &mesh.nodes {
        for other in &mesh.nodes {
            let answer = node.control().json(&format!("ping {}", other.id))?;
            if answer["Success"] != true || answer["From"] != other.id.as_str() {
                return Err(format!("{} to {}: {answer}", node.id, other.id));
            }
        }
    }
    Ok(())
}

fn traceroute(mesh: &mut Mesh) -> Outcome {
    for (from, node) in mesh.nodes.iter().enumerate() {
        for (to, other) in mesh.nodes.iter().enumerate() {
            let answer = node.control().json(&format!("traceroute {}", other.id))?;
            let hops = answer.as_object().ok_or("not an object")?;
            let way: Vec<_> = (0..hops.len())
                .map(|hop| hops[&hop.to_string()]["From"].as_str().unwrap_or_default())
                .collect();
            let complete = way.first() == Some(&node.id.as_str()) && way.last() == Some(&other.id.as_str());
            if !complete || (!mesh.plan.is_ring && way.len() != from.abs_diff(to) + 1) {
                return Err(format!("{} to {}: {answer}", node.id, other.id));
            }
        }
    }
    Ok(())
}

/// The control service of the other node, through `connect`.
fn connect(mesh: &mut Mesh) -> Outcome {
    both_ways(mesh, |from, to| {
        let mut session = from.control();
        let text = |error: std::io::Error| error.to_string();
        let answer = session.command(&format!("connect {} control", to.id)).map_err(text)?;
        let greeting = session.line().map_err(text)?;
        if answer != "Connecting" || greeting != format!("Receptor Control, node {}", to.id) {
            return Err(format!("{answer} / {greeting}"));
        }
        let status = session.json("status")?;
        if status["NodeID"] == to.id.as_str() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
}

fn proxies(mesh: &mut Mesh) -> Outcome {
    thread::scope(|scope| {
        let ways = mesh
            .proxies
            .map(|port| scope.spawn(move || echo_through(port).map_err(|error| error.to_string())));
        ways.into_iter()
            .try_for_each(|way| way.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })
}

/// 2 MiB out and back. Our side is not closed before all is back: a Go `tcp-client` closes both directions when one ends.
fn echo_through(port: u16) -> std::io::Result<()> {
    let sent = noise(2 << 20);
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PROXY_LIMIT))?;
    connection.set_write_timeout(Some(PROXY_LIMIT))?;
    let mut writer = connection.try_clone()?;
    let mut back = vec![0; sent.len()];
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer.write_all(&sent));
        connection.read_exact(&mut back)?;
        writing.join().expect("writing does not panic")
    })?;
    if back == sent {
        Ok(())
    } else {
        Err(std::io::Error::other("what came back differs"))
    }
}

/// Bytes without a period that a fault could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

fn work(mesh: &mut Mesh, size: usize) -> Outcome {
    both_ways(mesh, |from, to| {
        let payload = noise(size);
        let unit = from.submit(&to.id, "cat", &payload).unit;
        wait_for_success(from, &unit, size)?;
        let results = from.control().results(&unit, 0).map_err(|error| error.to_string())?;
        if results != payload {
            return Err(format!("{} bytes came back of {size}, or others", results.len()));
        }
        release(from, &unit)
    })
}

fn wait_for_success(node: &Node, unit: &str, size: usize) -> Outcome {
    within(LIMIT, || {
        let status = node.control().json(&format!("work status {unit}"))?;
        if status["StateName"] == "Succeeded" && status["StdoutSize"] == size {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
}

/// Releases a unit, and waits until the node has forgotten it.
fn release(node: &Node, unit: &str) -> Outcome {
    node.control().json(&format!("work release {unit}"))?;
    within(LIMIT, || {
        let list = node.control().json("work list")?;
        if list.get(unit).is_none() {
            Ok(())
        } else {
            Err(list.to_string())
        }
    })
}

fn cancel_and_release(mesh: &mut Mesh) -> Outcome {
    both_ways(mesh, |from, to| {
        let unit = from.submit(&to.id, "shell 'echo up; exec sleep 1000'", b"").unit;
        within(LIMIT, || {
            let status = from.control().json(&format!("work status {unit}"))?;
            if status["StdoutSize"] == 3 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })?;
        from.control().json(&format!("work cancel {unit}"))?;
        within(LIMIT, || {
            let status = from.control().json(&format!("work status {unit}"))?;
            // A Go executor says Failed of what it has killed, or Canceled, as its own race has it.
            if matches!(status["State"].as_u64(), Some(3 | 4)) {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })?;
        release(from, &unit)?;
        // The executor has forgotten its part, too.
        within(LIMIT, || {
            let list = to.control().json("work list")?;
            if list.as_object().is_none_or(serde_json::Map::is_empty) {
                Ok(())
            } else {
                Err(list.to_string())
            }
        })
    })
}

/// A node between two others is killed while a unit of each runs at the other, which cannot end before; then it comes back.
fn lost_hop(mesh: &mut Mesh) -> Outcome {
    let gate = mesh.scratch.join("hop-is-gone");
    let script = format!(
        "shell 'echo begun; until [ -e {} ]; do sleep 0.05; done; i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done'",
        gate.display()
    );
    let lines: String = (0..100).map(|line| format!("line {line}\n")).collect();
    let expected = format!("begun\n{lines}");
    let middle = mesh.middle().expect("there is one");
    let pairs = mesh.far_pairs();
    let units = pairs.map(|(from, to)| mesh.nodes[from].submit(&mesh.nodes[to].id, &script, b"").unit);
    for ((from, _), unit) in pairs.iter().zip(&units) {
        within(LIMIT, || {
            let status = mesh.nodes[*from].control().json(&format!("work status {unit}"))?;
            if status["StdoutSize"] == 6 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })?;
    }
    mesh.nodes[middle].kill();
    mesh.scratch.write("hop-is-gone", "");
    mesh.nodes[middle].start_again();
    within(LIMIT, || {
        let status = mesh.nodes[0].try_status()?;
        if routes(&status).len() == mesh.nodes.len() - 1 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })?;
    for ((from, _), unit) in pairs.iter().zip(&units) {
        let node = &mesh.nodes[*from];
        wait_for_success(node, unit, expected.len())?;
        let results = node.control().results(unit, 0).map_err(|error| error.to_string())?;
        if results != expected.as_bytes() {
            return Err(format!("{}: {}", node.id, String::from_utf8_lossy(&results)));
        }
        release(node, unit)?;
    }
    Ok(())
}
