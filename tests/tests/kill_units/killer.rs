//! Who kills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use receptor_core::rng::Rng;
use receptor_tests::live::{Node, Process, Scratch, wait_for_routes};
use rustix::process::{Pid, Signal, kill_process};

/// After so many kills units get some time to go on, from the moment on at which the mesh is whole: on a busy machine that takes
/// longer than the next kill.
const ROUND: usize = 12;
const REST: Duration = Duration::from_secs(2);

/// Who was killed so far; counted before it happens.
#[derive(Default, Debug)]
pub(crate) struct Kills {
    daemons: [AtomicUsize; 3],
    /// Units whose runner was killed.
    runners: Mutex<BTreeSet<String>>,
}

impl Kills {
    /// Of the submitter.
    pub(crate) fn submitter(&self) -> usize {
        self.daemons[0].load(Ordering::SeqCst)
    }

    /// Of the executor.
    pub(crate) fn executor(&self) -> usize {
        self.daemons[2].load(Ordering::SeqCst)
    }

    /// Whether the unit's runner was killed.
    pub(crate) fn has_runner_of(&self, unit: &str) -> bool {
        self.runners.lock().expect("no panic").contains(unit)
    }

    /// For the terminal.
    pub(crate) fn summary(&self) -> String {
        let [submitter, hop, executor] = self.daemons.each_ref().map(|count| count.load(Ordering::SeqCst));
        let runners = self.runners.lock().expect("no panic").len();
        format!("killed: submitter {submitter}, hop {hop}, executor {executor}, runners {runners}")
    }
}

/// Kills until it is told to stop; all daemons answer then.
pub(crate) fn torment(nodes: &mut [Node], scratch: &Scratch, kills: &Kills, mut rng: Rng, done: &AtomicBool) {
    let mut count = 0;
    while !done.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50 + rng.below(250)));
        count += 1;
        if count % ROUND == 0 {
            wait_for_routes(nodes.iter());
            thread::sleep(REST);
        }
        let victim = match rng.below(8) {
            0..2 => 0,
            2..4 => 1,
            4..6 => 2,
            _ => {
                kill_a_runner(scratch, kills, &mut rng);
                continue;
            }
        };
        kills.daemons[victim].fetch_add(1, Ordering::SeqCst);
        nodes[victim].kill();
        if rng.below(2) == 0 {
            thread::sleep(Duration::from_millis(rng.below(300)));
        }
        nodes[victim].start_again();
    }
}

fn kill_a_runner(scratch: &Scratch, kills: &Kills, rng: &mut Rng) {
    let mut runners = BTreeMap::new();
    for (unit, pid) in scratch.processes().iter().filter_map(runner) {
        // Another with the same arguments is about to become the command.
        runners.entry(unit).or_insert(pid);
    }
    let choice = usize::try_from(rng.below(runners.len() as u64)).expect("few");
    if let Some((unit, pid)) = runners.into_iter().nth(choice) {
        kills.runners.lock().expect("no panic").insert(unit);
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The unit that a process is the runner of, by its arguments: `… unit-runner VERSION DIRECTORY …`.
fn runner(process: &Process) -> Option<(String, Pid)> {
    let mut words = process.command_line.split(' ');
    words.find(|word| *word == "unit-runner")?;
    let directory = words.nth(1)?;
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw)?;
    Some((directory.rsplit('/').next()?.to_owned(), pid))
}
