//! Submitter, hop, executor and runners are killed with SIGKILL at random points of the lives of many units (`work.md` §14):
//! never a lost or doubled byte, a wrong or stuck state, a unit that cannot be released, a command that runs twice.
//!
//! | variable | effect |
//! |---|---|
//! | `RECEPTOR_KILL_UNITS` | units, 40 by default |
//! | `RECEPTOR_KILL_SEED` | what they do and who is killed when, 1 by default; how threads and processes interleave is chance |

mod job;
mod killer;
mod life;
mod verdict;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use receptor_core::rng::Rng;
use receptor_tests::live::{Builder, Node, PATIENCE, Scratch, free_port, until, wait_for_routes};

use job::Job;
use killer::Kills;
use life::{Life, Place};

/// Units under way at one time.
const AT_ONCE: usize = 20;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A chain in which both ends of each link dial, so that whoever comes back is connected at once.
fn chain(scratch: &Scratch) -> Vec<Node> {
    let ports = [free_port(), free_port(), free_port()];
    let start = |at: usize| {
        let mut builder = Builder::new(scratch, &format!("node{}", at + 1))
            .listen(ports[at], 1.0)
            .work();
        for (other, port) in ports.into_iter().enumerate() {
            if other.abs_diff(at) == 1 {
                builder = builder.peer(port, 1.0);
            }
        }
        builder.start()
    };
    let nodes: Vec<Node> = (0..ports.len()).map(start).collect();
    wait_for_routes(&nodes);
    nodes
}

#[test]
fn whoever_is_killed_units_tell_the_truth() {
    let (count, seed) = (setting("RECEPTOR_KILL_UNITS", 40), setting("RECEPTOR_KILL_SEED", 1));
    let mut rng = Rng::from_seed(*b"kill_units: a seed of 32 bytes..");
    for _ in 0..seed {
        rng = rng.fork();
    }
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("runs")).expect("a scratch directory can be made");
    let mut nodes = chain(&scratch);
    let place = Place::new(&scratch, &nodes[0]);
    let kills = Kills::default();
    let jobs: Vec<Job> = (0..count).map(|number| Job::random(number, &mut rng)).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures = Mutex::new(Vec::new());
    let outcomes = Mutex::new(BTreeMap::<&str, usize>::new());
    thread::scope(|scope| {
        let (killed, chance) = (nodes.as_mut_slice(), rng.fork());
        let killing = scope.spawn(|| killer::torment(killed, &scratch, &kills, chance, &done));
        let work = || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) {
                match Life::new(job, &place, &kills).live() {
                    Ok(outcome) => *outcomes.lock().expect("no panic").entry(outcome).or_default() += 1,
                    Err(text) => {
                        failures.lock().expect("no panic").push(format!("{job:?}: {text}"));
                        next.store(jobs.len(), Ordering::SeqCst);
                    }
                }
            }
        };
        let workers: Vec<_> = (0..AT_ONCE.min(jobs.len())).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("no panic");
        }
        done.store(true, Ordering::SeqCst);
        killing.join().expect("no panic");
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(
        failures.is_empty(),
        "{}\n{}\nagain: RECEPTOR_KILL_UNITS={count} RECEPTOR_KILL_SEED={seed} \
         cargo test -p receptor-tests --test kill_units -- --nocapture",
        failures.join("\n"),
        kills.summary()
    );
    nothing_is_left(&scratch, &mut nodes, &place);
    println!(
        "seed {seed}: {}; {:?}",
        kills.summary(),
        outcomes.into_inner().expect("no panic")
    );
}

/// All that is known of units is that nobody was told of: they end and go like any other. Then there is nothing.
fn nothing_is_left(scratch: &Scratch, nodes: &mut [Node], place: &Place) {
    until("every unit of the submitter is released", PATIENCE, || {
        let list = nodes[0].control().json("work list")?;
        let units = list.as_object().ok_or("no list")?;
        for (unit, status) in units {
            if matches!(status["State"].as_u64(), Some(2..=4)) {
                let _ = nodes[0].control().json(&format!("work release {unit}"));
            }
        }
        if units.is_empty() {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    let daemons: Vec<u32> = nodes.iter().map(Node::pid).collect();
    until("nothing is left of any unit", PATIENCE, || {
        let directories: Vec<_> = nodes.iter().flat_map(Node::unit_directories).collect();
        let mut processes = scratch.processes();
        processes.retain(|process| !daemons.contains(&process.pid));
        let known = nodes[2].control().json("work list")?;
        if directories.is_empty() && processes.is_empty() && known == serde_json::json!({}) {
            Ok(())
        } else {
            Err(format!("{directories:?} {processes:?} {known}"))
        }
    });
    for entry in fs::read_dir(&place.runs).expect("it was made").flatten() {
        let runs = fs::read_to_string(entry.path()).expect("a file");
        assert_eq!(runs, "run\n", "{} ran more than once", entry.path().display());
    }
    for node in nodes {
        node.assert_alive();
    }
}
