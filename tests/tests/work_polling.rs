//! Remote work by the polling protocol of classic nodes, in both roles, on whole nodes under virtual time.
//!
//! One end grants no work sessions, and says so as a classic node does: by its silence and by refusing the upgrade.

use receptor_core::config::Config;
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::{World, produced};

const LEFT: usize = 0;
const MIDDLE: usize = 1;
const RIGHT: usize = 2;

/// Which end is classic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Classic {
    Submitter,
    Executor,
}

const BOTH: [Classic; 2] = [Classic::Submitter, Classic::Executor];

/// left – middle – right, connected.
fn chain(seed: u64, classic: Classic) -> World {
    let without = |mut config: Config, is: bool| {
        config.work_sessions = !is;
        config
    };
    let mut world = World::new(seed);
    world.start(without(
        node("left", &[listener("left")]),
        classic == Classic::Submitter,
    ));
    world.start(node("middle", &[listener("middle"), peer("left")]));
    world.start(without(node("right", &[peer("middle")]), classic == Classic::Executor));
    world.run_for(Duration::from_secs(2));
    world
}

fn units(world: &World) -> usize {
    world.host(LEFT).disk.units().count() + world.host(RIGHT).disk.units().count()
}

#[test]
fn a_unit_runs_comes_back_and_goes() {
    for classic in BOTH {
        for size in [0, 1, 1024, 3 << 20] {
            let mut world = chain(2, classic);
            let payload = produced(size);
            let unit = world.submit(LEFT, "right cat", &payload);
            assert!(world.results(LEFT, &unit) == payload, "{classic:?} {size}");
            assert_eq!(world.unit_state(LEFT, &unit), "Succeeded: exit status 0");
            let view = world.unit_status(LEFT, &unit);
            assert_eq!(view["StdoutSize"], size);
            assert_eq!(view["ExtraData"]["RemoteStarted"], true);
            assert_eq!(view["ExtraData"]["RemoteUnitID"], *unit);
            assert_eq!(view["ExtraData"]["ExitCode"], 0);
            assert_eq!(
                world.control(LEFT, &format!("work release {unit}")),
                format!("{{\"released\":\"{unit}\"}}\n")
            );
            world.run_for(Duration::from_secs(2));
            assert_eq!(units(&world), 0);
        }
    }
}

#[test]
fn failures_are_told_apart() {
    for classic in BOTH {
        let mut world = chain(3, classic);
        for (command, expected) in [
            ("right fail 3", "Failed: exit status 3"),
            (
                "right missing",
                "Failed: exec: \"missing\": executable file not found in $PATH",
            ),
        ] {
            let unit = world.submit(LEFT, command, b"");
            assert_eq!(world.results(LEFT, &unit), b"");
            assert_eq!(world.unit_state(LEFT, &unit), expected, "{command}");
        }
        let line = world.submit_line(LEFT, "right nosuch", b"x");
        assert_eq!(line, "ERROR: could not parse response: ERROR: unknown work type nosuch");
        world.run_for(Duration::from_secs(1));
        let list = world.control(LEFT, "work list");
        let text = "Error starting worker: could not parse response: ERROR: unknown work type nosuch";
        assert!(list.contains(text), "{list}");
    }
}

#[test]
fn a_large_output_survives_the_death_of_the_hop_and_is_not_sent_twice() {
    for classic in BOTH {
        let size = 24 << 20;
        let mut world = chain(4, classic);
        world.network.options.rate = Some(20 << 20);
        let unit = world.submit(LEFT, &format!("right produce {size}"), b"");
        world.run_for(Duration::from_millis(700));
        world.kill(MIDDLE);
        world.run_for(Duration::from_secs(5));
        world.restart(MIDDLE);
        assert!(world.results(LEFT, &unit) == produced(size), "{classic:?}");
        assert_eq!(world.unit_state(LEFT, &unit), "Succeeded: exit status 0");
        assert_eq!(world.host(RIGHT).spawned, 1);
    }
}

/// From the first moment of the submission on, with a stdin that takes a while.
#[test]
fn submitter_executor_and_hop_may_die_at_any_time() {
    for step in 0..30_u64 {
        let (victim, power) = [
            (LEFT, false),
            (RIGHT, false),
            (MIDDLE, false),
            (LEFT, true),
            (RIGHT, true),
        ][step as usize % 5];
        let classic = BOTH[step as usize % 2];
        let mut world = chain(100 + step, classic);
        world.network.options.rate = Some(8 << 20);
        let payload = produced(1 << 20);
        let pipe = world.open_control(LEFT);
        world.write(LEFT, pipe, b"work submit right cat\n");
        world.write(LEFT, pipe, &payload);
        world.finish(LEFT, pipe);
        let told = world.run_until(Duration::from_secs(5), |w| w.text(LEFT, pipe).contains("EOF.\n"));
        assert!(told);
        world.run_for(Duration::from_millis(step * 23));
        let list = world.control(LEFT, "work list");
        let list: serde_json::Value = serde_json::from_str(&list).expect("a list");
        let unit = list
            .as_object()
            .and_then(|units| units.keys().next().cloned())
            .expect("a unit");
        if power {
            world.crash(victim);
        } else {
            world.kill(victim);
        }
        world.run_for(Duration::from_secs(3));
        world.restart(victim);
        let case = format!("step {step} victim {victim} power {power} {classic:?}");
        let done = (0..600).any(|_| {
            world.run_for(Duration::from_secs(1));
            !["Pending", "Running"].contains(&world.unit_status(LEFT, &unit)["StateName"].as_str().unwrap_or_default())
        });
        let state = world.unit_state(LEFT, &unit);
        assert!(done, "{case}: {state}");
        assert!(world.host(RIGHT).spawned <= 1, "{case}: started twice");
        if state.starts_with("Succeeded") {
            assert!(world.results(LEFT, &unit) == payload, "{case}");
        } else {
            // A submitter whose stdin was not complete, or an executor that does not know whether it started.
            assert!(state.starts_with("Failed: "), "{case}: {state}");
            assert!(victim != MIDDLE, "{case}: {state}");
        }
        world.control(LEFT, &format!("work release {unit}"));
        // Nobody heard of a power cut: old links have to be given up, and a classic executor is asked at intervals.
        world.run_for(Duration::from_secs(30));
        assert_eq!(units(&world), 0, "{case}: {state}");
    }
}

#[test]
fn a_unit_is_kept_until_its_node_comes_back() {
    for classic in BOTH {
        let mut world = chain(5, classic);
        world.kill(RIGHT);
        world.run_for(Duration::from_secs(1));
        let unit = world.submit(LEFT, "right cat", b"later");
        assert!(world.unit_state(LEFT, &unit).starts_with("Pending"));
        world.crash(LEFT);
        world.restart(LEFT);
        world.run_for(Duration::from_secs(3600));
        world.restart(RIGHT);
        world.run_for(Duration::from_secs(10));
        assert_eq!(world.results(LEFT, &unit), b"later");
    }
}

#[test]
fn cancel_reaches_the_command_and_ends_the_results() {
    for classic in BOTH {
        let mut world = chain(6, classic);
        let unit = world.submit(LEFT, "right sleep 36000000", b"");
        world.run_for(Duration::from_secs(3));
        assert_eq!(
            world.control(LEFT, &format!("work cancel {unit}")),
            format!("{{\"cancelled\":\"{unit}\"}}\n")
        );
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.unit_state(LEFT, &unit), "Canceled: Canceled");
        assert_eq!(world.results(LEFT, &unit), b"");
    }
}

#[test]
fn cancel_and_release_are_remembered_for_a_node_that_is_away() {
    for classic in BOTH {
        let mut world = chain(7, classic);
        let cancelled = world.submit(LEFT, "right sleep 36000000", b"");
        let released = world.submit(LEFT, "right sleep 36000000", b"");
        world.run_for(Duration::from_secs(3));
        world.kill(MIDDLE);
        world.run_for(Duration::from_secs(30));
        assert_eq!(
            world.control(LEFT, &format!("work cancel {cancelled}")),
            format!("{{\"cancel pending\":\"{cancelled}\"}}\n")
        );
        assert_eq!(
            world.control(LEFT, &format!("work release {released}")),
            format!("{{\"release pending\":\"{released}\"}}\n")
        );
        world.crash(LEFT);
        world.run_for(Duration::from_secs(3600));
        world.restart(LEFT);
        world.restart(MIDDLE);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.unit_state(LEFT, &cancelled), "Canceled: Canceled");
        assert!(
            world
                .control(LEFT, &format!("work status {released}"))
                .contains("unknown work unit")
        );
        assert!(
            world
                .control(RIGHT, &format!("work status {released}"))
                .contains("unknown work unit")
        );
    }
}

#[test]
fn a_unit_that_did_not_start_in_time_fails_and_stays_failed() {
    for classic in BOTH {
        let mut world = chain(8, classic);
        world.kill(RIGHT);
        let command = r#"{"command":"work","subcommand":"submit","node":"right","worktype":"cat","ttl":"20s"}"#;
        let unit = world.submit(LEFT, command, b"x");
        world.run_for(Duration::from_secs(30));
        assert!(
            world
                .unit_state(LEFT, &unit)
                .starts_with("Failed: Work unit expired on ")
        );
        world.restart(RIGHT);
        world.run_for(Duration::from_secs(100));
        assert!(
            world
                .unit_state(LEFT, &unit)
                .starts_with("Failed: Work unit expired on ")
        );
        assert_eq!(world.host(RIGHT).spawned, 0);
    }
}

#[test]
fn a_unit_released_there_is_gone_here() {
    for classic in BOTH {
        let mut world = chain(9, classic);
        let unit = world.submit(LEFT, "right sleep 36000000", b"");
        world.run_for(Duration::from_secs(2));
        world.control(RIGHT, &format!("work release {unit}"));
        world.run_for(Duration::from_secs(5));
        assert!(
            ["Failed: Remote work unit is gone", "Canceled: Canceled"]
                .contains(&world.unit_state(LEFT, &unit).as_str())
        );
    }
}

#[test]
fn many_units_share_a_bounded_number_of_streams() {
    for classic in BOTH {
        let mut world = chain(10, classic);
        let size = 100_000;
        let sleepers: Vec<String> = (0..60).map(|_| world.submit(LEFT, "right sleep 20000", b"")).collect();
        let makers: Vec<String> = (0..60)
            .map(|_| world.submit(LEFT, &format!("right produce {size}"), b""))
            .collect();
        for unit in makers {
            assert!(world.results(LEFT, &unit) == produced(size), "{classic:?}");
        }
        for unit in sleepers {
            assert!(world.results(LEFT, &unit).is_empty());
            assert_eq!(world.unit_state(LEFT, &unit), "Succeeded: exit status 0");
        }
    }
}

/// What a classic node says as submitter, byte by byte.
#[test]
fn an_executor_answers_a_classic_submitter() {
    let mut world = chain(11, Classic::Submitter);
    let session = |world: &mut World| {
        let pipe = world.open_control(LEFT);
        world.write(LEFT, pipe, b"connect right control \n");
        assert!(world.run_until(Duration::from_secs(5), |w| w.text(LEFT, pipe).contains("node right\n")));
        pipe
    };
    let rest = |world: &World, pipe| {
        let text = world.text(LEFT, pipe);
        text.split_once("Receptor Control, node right\n")
            .map(|(_, rest)| rest.to_owned())
            .expect("a greeting")
    };
    let pipe = session(&mut world);
    let submit = br#"{"command":"work","node":"right","params":"","signature":"","subcommand":"submit","tlsclient":"","workUnitID":"leftAbCd1234","worktype":"cat"}"#;
    world.write(LEFT, pipe, submit);
    world.write(LEFT, pipe, b"\n");
    let ready = "Work unit created with ID leftAbCd1234. Send stdin data and EOF.\n";
    assert!(world.run_until(Duration::from_secs(5), |w| w.text(LEFT, pipe).ends_with(ready)));
    world.write(LEFT, pipe, b"hello\nworld");
    world.finish(LEFT, pipe);
    assert!(world.run_until(Duration::from_secs(5), |w| {
        w.host(LEFT).pipe(pipe).is_none_or(|p| p.ended())
    }));
    let started = "{\"result\":\"Job Started\",\"unitid\":\"leftAbCd1234\"}\n";
    assert_eq!(rest(&world, pipe), format!("{ready}{started}"));

    // One session answers one status after the other, and the size never falls.
    let pipe = session(&mut world);
    for _ in 0..5 {
        world.write(LEFT, pipe, b"work status leftAbCd1234\n");
        world.run_for(Duration::from_secs(1));
    }
    let answers = rest(&world, pipe);
    assert_eq!(answers.lines().count(), 5);
    let last: serde_json::Value = serde_json::from_str(answers.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["State"], &last["Detail"], &last["StdoutSize"]),
        (&2.into(), &"exit status 0".into(), &11.into())
    );

    // The same ID is refused, and nothing runs again.
    let pipe = session(&mut world);
    world.write(LEFT, pipe, submit);
    world.write(LEFT, pipe, b"\n");
    world.run_for(Duration::from_secs(1));
    let in_use = "ERROR: workunit ID leftAbCd1234 is already in use, cannot use the same workunit ID more than once\n";
    assert_eq!(rest(&world, pipe), in_use);

    let pipe = session(&mut world);
    world.write(
        LEFT,
        pipe,
        b"{\"command\":\"work\",\"startpos\":6,\"subcommand\":\"results\",\"unitid\":\"leftAbCd1234\"}\n",
    );
    assert!(world.run_until(Duration::from_secs(5), |w| {
        w.host(LEFT).pipe(pipe).is_none_or(|p| p.ended())
    }));
    assert_eq!(
        rest(&world, pipe),
        "Streaming results for work unit leftAbCd1234\nworld"
    );

    let pipe = session(&mut world);
    for verb in ["cancel", "release", "release"] {
        let line = format!("{{\"command\":\"work\",\"subcommand\":\"{verb}\",\"unitid\":\"leftAbCd1234\"}}\n");
        world.write(LEFT, pipe, line.as_bytes());
        world.run_for(Duration::from_millis(100));
    }
    world.write(LEFT, pipe, b"work status leftAbCd1234\n");
    world.run_for(Duration::from_secs(1));
    let answers = "{\"cancelled\":\"leftAbCd1234\"}\n{\"released\":\"leftAbCd1234\"}\n\
                   {\"released\":\"leftAbCd1234\"}\nERROR: unknown work unit leftAbCd1234: already released\n";
    assert_eq!(rest(&world, pipe), answers);
    assert_eq!(world.host(RIGHT).spawned, 1);
}
