//! Invariants can fail: a bug for each but `queues` and `processes`, which it finds; without a bug nothing is found (`seeds.rs`).

use receptor_core::sabotage::{Bug, commit};
use receptor_sim::run::run_caught;
use receptor_sim::swarm::Swarm;

/// Seeds that are tried for each.
const SEEDS: u64 = 60;

/// What must be said of it: the beginning of the invariant's name, or the assertion of the world.
fn found_by(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::AnswersTwice => &["was answered twice"],
        Bug::AnswersNever => &["answered_once:"],
        Bug::KeepsHops => &["hops:"],
        Bug::GrantsTwice => &["credit beyond the window"],
        Bug::SkipsGaps | Bug::EndsResets => &["bytes:"],
        Bug::KeepsOldPaths => &["loops:"],
        Bug::IgnoresDigests => &["quiet_converges:", "loops:"],
        Bug::SkipsSync => &["unit_records:", "unit_state:"],
        Bug::ForgetsTimers => &["fresh_service:"],
        Bug::KeepsTimers => &["again and again at the same time"],
        Bug::CriesOut => &["no_error_logs:"],
    }
}

/// One test, since a bug is the whole process's.
#[test]
fn every_bug_is_found_by_its_invariant() {
    let mut missed = Vec::new();
    for &bug in Bug::ALL {
        commit(Some(bug));
        let mut others = Vec::new();
        let found = (0..SEEDS).find(|&seed| {
            let Err(failure) = run_caught(&Swarm::draw(seed).plan(8, 60), None) else {
                return false;
            };
            let said = failure.violation.to_string();
            let is_it = found_by(bug).iter().any(|text| said.contains(text));
            if !is_it {
                others.push(format!("seed {seed}: {said}"));
            }
            is_it
        });
        println!("{}: seed {found:?}, before it {others:?}", bug.name());
        if found.is_none() {
            missed.push(bug.name());
        }
    }
    commit(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
}
