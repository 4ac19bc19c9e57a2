//! Many connections: at once, and one after the other.

use std::env;
use std::io::Write as _;
use std::thread;

use receptor_tests::live::{Node, PATIENCE, Scratch, Socket, Usage, raise_file_limit, skipped, until};

use crate::setup::{By, Mesh, TCP, echo};

/// An exchange with the echo behind a service.
fn ask(client: &Socket, number: usize) {
    let question = format!("question {number}");
    { client }.write_all(question.as_bytes()).expect("it is taken");
    client.finish();
    assert_eq!(client.read_all(), question.as_bytes());
}

/// Waits until a daemon holds no more than before, but for this many KiB.
fn until_given_back(node: &Node, before: Usage, slack_kib: u64) -> Usage {
    until(&format!("{} has given back", node.id), PATIENCE, || {
        let now = Usage::of(node.pid());
        let is_back = now.descriptors <= before.descriptors
            && now.threads <= before.threads
            && now.resident_kib <= before.resident_kib + slack_kib;
        if is_back {
            Ok(now)
        } else {
            Err(format!("{now:?}, {before:?} before"))
        }
    })
}

#[test]
fn a_thousand_connections_at_once() {
    const COUNT: usize = 1_000;
    /// Memory that the allocator keeps for the next thousand, in a debug build.
    const KEPT_KIB: u64 = 64 << 10;
    // Both ends of each are in this process.
    if !raise_file_limit(3 * COUNT as u64) {
        return skipped("a thousand connections: the limit of open files cannot be raised here");
    }
    let scratch = Scratch::new();
    let mut mesh = Mesh::new(&scratch, By::File);
    let listener = mesh.targets[TCP].listen();
    let before = [&mesh.near, &mesh.far].map(|node| Usage::of(node.pid()));
    let place = mesh.tcp().clone();
    let connecting = thread::spawn(move || (0..COUNT).map(|_| place.connect()).collect::<Vec<_>>());
    let served: Vec<_> = (0..COUNT).map(|_| listener.accept()).collect();
    let clients = connecting.join().expect("all connect");
    // All are open: the last to come is the first to be answered.
    for (number, client) in clients.iter().enumerate() {
        { client }.write_all(&number.to_be_bytes()).expect("it is taken");
        client.finish();
    }
    for server in served.iter().rev() {
        let question = server.read_all();
        { server }.write_all(&question).expect("it is taken");
        server.finish();
    }
    let peak = [&mesh.near, &mesh.far].map(|node| Usage::of(node.pid()));
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.read_all(), number.to_be_bytes());
    }
    drop((clients, served));
    for ((node, before), peak) in [&mesh.near, &mesh.far].into_iter().zip(before).zip(peak) {
        let after = until_given_back(node, before, KEPT_KIB);
        println!(
            "{}: before {before:?}\n  with {COUNT}: {peak:?}\n  after {after:?}",
            node.id
        );
    }
    mesh.assert_alive();
}

/// `RECEPTOR_CYCLES=10000` for as many as the documentation tells of.
#[test]
fn connections_that_come_and_go_leave_nothing() {
    /// What an allocator may need more after any number of cycles: the most that varies between runs.
    const SLACK_KIB: u64 = 4 << 10;
    let cycles = env::var("RECEPTOR_CYCLES").map_or(1_000, |count| count.parse().expect("a number"));
    let scratch = Scratch::new();
    let mut mesh = Mesh::new(&scratch, By::File);
    echo(mesh.targets[TCP].listen());
    let nodes = || [&mesh.near, &mesh.far].into_iter();
    let idle: Vec<_> = nodes().map(|node| Usage::of(node.pid())).collect();
    let cycle = |count: usize| {
        for number in 0..count {
            let client = mesh.tcp().connect();
            match number % 4 {
                // As clients leave: at the end, before the end, with a break, without a word.
                0 | 1 => ask(&client, number),
                2 => {
                    (&client).write_all(b"unheard").expect("it is taken");
                    client.break_off();
                }
                _ => drop(client),
            }
        }
    };
    // Tables, pools and the allocator get their sizes.
    cycle(1_000);
    let warm = nodes().zip(&idle).map(|(node, idle)| Usage {
        resident_kib: until_given_back(node, *idle, u64::MAX >> 1).resident_kib,
        ..*idle
    });
    let warm: Vec<_> = warm.collect();
    cycle(cycles);
    for (node, warm) in nodes().zip(warm) {
        let after = until_given_back(node, warm, SLACK_KIB);
        println!("{}: {cycles} cycles\n  before {warm:?}\n  after {after:?}", node.id);
    }
    mesh.assert_alive();
}
