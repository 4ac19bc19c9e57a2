//! A few whole runs. More of them, with optimised code: `.ci/run simulator`, see `docs/simulator.md`.

use receptor_sim::run::run;
use receptor_sim::swarm::Swarm;

#[test]
fn small_worlds_hold() {
    for seed in 0..4 {
        let plan = Swarm::draw(seed).plan(4, 10);
        if let Err(failure) = run(&plan, None) {
            panic!(
                "at {:?}: {}\n{}sim --seed {seed} --nodes 4 --secs 10",
                failure.at, failure.violation, failure.tail
            );
        }
    }
}

#[test]
fn a_seed_is_always_the_same_run() {
    let digest = |seed| {
        let plan = Swarm::draw(seed).plan(4, 10);
        run(&plan, None).unwrap_or_else(|failure| panic!("{}", failure.violation))
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3).digest, digest(4).digest, "the seed decides nothing");
}
