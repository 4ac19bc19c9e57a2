//! Remote work by the polling protocol of classic nodes, in both roles, on whole nodes under virtual time.
//!
//! One end grants no work sessions, and says so as a classic node does: by its silence and by refusing the upgrade.

use receptor_core::config::Config;
use receptor_core::time::Duration;
use receptor_tests::pair::{listener, node, peer};
use receptor_tests::world::World;

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

/// Submits with a payload; the last line of the answer.
fn submit_line(world: &mut World, index: usize, command: &str, payload: &[u8]) -> String {
    let pipe = world.open_control(index);
    let line = if command.starts_with('{') {
        format!("{command}\n")
    } else {
        format!("work submit {command}\n")
    };
    world.write(index, pipe, line.as_bytes());
    let ready = "Send stdin data and EOF.\n";
    let patience = Duration::from_secs(60);
    world.run_until(patience, |w| w.text(index, pipe).contains(ready));
    world.write(index, pipe, payload);
    world.finish(index, pipe);
    let done = world.run_until(patience, |w| w.host(index).pipe(pipe).is_none_or(|p| p.ended()));
    let text = world.text(index, pipe);
    assert!(done, "submit did not end: {text}");
    text.lines().last().unwrap_or_default().to_owned()
}

fn submit(world: &mut World, index: usize, command: &str, payload: &[u8]) -> String {
    let line = submit_line(world, index, command, payload);
    let answer: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
    answer["unitid"].as_str().expect("a unit ID").to_owned()
}

fn results(world: &mut World, index: usize, unit: &str) -> Vec<u8> {
    let pipe = world.open_control(index);
    world.write(index, pipe, format!("work results {unit}\n").as_bytes());
    let done = world.run_until(Duration::from_secs(600), |w| {
        w.host(index).pipe(pipe).is_none_or(|p| p.ended())
    });
    let inbox = world
        .host(index)
        .pipe(pipe)
        .map(|p| p.inbox.clone())
        .unwrap_or_default();
    assert!(
        done,
        "results did not end after {} bytes\n{}",
        inbox.len(),
        world.trace.tail()
    );
    let header = format!("Streaming results for work unit {unit}\n");
    let text = String::from_utf8_lossy(&inbox[..inbox.len().min(200)]).into_owned();
    let start = text.find(&header).unwrap_or_else(|| panic!("{text}")) + header.len();
    inbox[start..].to_vec()
}

fn status(world: &mut World, index: usize, unit: &str) -> serde_json::Value {
    let answer = world.control(index, &format!("work status {unit}"));
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
}

fn state(world: &mut World, index: usize, unit: &str) -> String {
    let value = status(world, index, unit);
    format!(
        "{}: {}",
        value["StateName"].as_str().unwrap_or("?"),
        value["Detail"].as_str().unwrap_or("?")
    )
}

fn produced(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
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
            let unit = submit(&mut world, LEFT, "right cat", &payload);
            assert!(results(&mut world, LEFT, &unit) == payload, "{classic:?} {size}");
            assert_eq!(state(&mut world, LEFT, &unit), "Succeeded: exit status 0");
            let view = status(&mut world, LEFT, &unit);
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
            let unit = submit(&mut world, LEFT, command, b"");
            assert_eq!(results(&mut world, LEFT, &unit), b"");
            assert_eq!(state(&mut world, LEFT, &unit), expected, "{command}");
        }
        let line = submit_line(&mut world, LEFT, "right nosuch", b"x");
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
        let unit = submit(&mut world, LEFT, &format!("right produce {size}"), b"");
        world.run_for(Duration::from_millis(700));
        world.kill(MIDDLE);
        world.run_for(Duration::from_secs(5));
        world.restart(MIDDLE);
        assert!(results(&mut world, LEFT, &unit) == produced(size), "{classic:?}");
        assert_eq!(state(&mut world, LEFT, &unit), "Succeeded: exit status 0");
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
            !["Pending", "Running"].contains(
                &status(&mut world, LEFT, &unit)["StateName"]
                    .as_str()
                    .unwrap_or_default(),
            )
        });
        let state = state(&mut world, LEFT, &unit);
        assert!(done, "{case}: {state}");
        assert!(world.host(RIGHT).spawned <= 1, "{case}: started twice");
        if state.starts_with("Succeeded") {
            assert!(results(&mut world, LEFT, &unit) == payload, "{case}");
        } else {
            // A submitter whose stdin was not complete, or an executor that does not know whether it started.
            assert!(state.starts_with("Failed: "), "{case}: {state}");
            assert!(victim != MIDDLE, "{case}: {state}");
        }
        world.control(LEFT, &format!("work release {unit}"));
        world.run_for(Duration::from_secs(5));
        assert_eq!(units(&world), 0, "{case}: {state}");
    }
}

#[test]
fn a_unit_is_kept_until_its_node_comes_back() {
    for classic in BOTH {
        let mut world = chain(5, classic);
        world.kill(RIGHT);
        world.run_for(Duration::from_secs(1));
        let unit = submit(&mut world, LEFT, "right cat", b"later");
        assert!(state(&mut world, LEFT, &unit).starts_with("Pending"));
        world.crash(LEFT);
        world.restart(LEFT);
        world.run_for(Duration::from_secs(3600));
        world.restart(RIGHT);
        world.run_for(Duration::from_secs(10));
        assert_eq!(results(&mut world, LEFT, &unit), b"later");
    }
}

#[test]
fn cancel_reaches_the_command_and_ends_the_results() {
    for classic in BOTH {
        let mut world = chain(6, classic);
        let unit = submit(&mut world, LEFT, "right sleep 36000000", b"");
        world.run_for(Duration::from_secs(3));
        assert_eq!(
            world.control(LEFT, &format!("work cancel {unit}")),
            format!("{{\"cancelled\":\"{unit}\"}}\n")
        );
        world.run_for(Duration::from_secs(3));
        assert_eq!(state(&mut world, LEFT, &unit), "Canceled: Canceled");
        assert_eq!(results(&mut world, LEFT, &unit), b"");
    }
}

#[test]
fn cancel_and_release_are_remembered_for_a_node_that_is_away() {
    for classic in BOTH {
        let mut world = chain(7, classic);
        let cancelled = submit(&mut world, LEFT, "right sleep 36000000", b"");
        let released = submit(&mut world, LEFT, "right sleep 36000000", b"");
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
        assert_eq!(state(&mut world, LEFT, &cancelled), "Canceled: Canceled");
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
        let unit = submit(&mut world, LEFT, command, b"x");
        world.run_for(Duration::from_secs(30));
        assert!(state(&mut world, LEFT, &unit).starts_with("Failed: Work unit expired on "));
        world.restart(RIGHT);
        world.run_for(Duration::from_secs(100));
        assert!(state(&mut world, LEFT, &unit).starts_with("Failed: Work unit expired on "));
        assert_eq!(world.host(RIGHT).spawned, 0);
    }
}

#[test]
fn a_unit_released_there_is_gone_here() {
    for classic in BOTH {
        let mut world = chain(9, classic);
        let unit = submit(&mut world, LEFT, "right sleep 36000000", b"");
        world.run_for(Duration::from_secs(2));
        world.control(RIGHT, &format!("work release {unit}"));
        world.run_for(Duration::from_secs(5));
        assert!(
            ["Failed: Remote work unit is gone", "Canceled: Canceled"]
                .contains(&state(&mut world, LEFT, &unit).as_str())
        );
    }
}

#[test]
fn many_units_share_a_bounded_number_of_streams() {
    for classic in BOTH {
        let mut world = chain(10, classic);
        let size = 100_000;
        let sleepers: Vec<String> = (0..60)
            .map(|_| submit(&mut world, LEFT, "right sleep 20000", b""))
            .collect();
        let makers: Vec<String> = (0..60)
            .map(|_| submit(&mut world, LEFT, &format!("right produce {size}"), b""))
            .collect();
        for unit in makers {
            assert!(results(&mut world, LEFT, &unit) == produced(size), "{classic:?}");
        }
        for unit in sleepers {
            assert!(results(&mut world, LEFT, &unit).is_empty());
            assert_eq!(state(&mut world, LEFT, &unit), "Succeeded: exit status 0");
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
    }
    world.write(LEFT, pipe, b"work status leftAbCd1234\n");
    world.run_for(Duration::from_secs(1));
    let answers = "{\"cancelled\":\"leftAbCd1234\"}\n{\"released\":\"leftAbCd1234\"}\n\
                   ERROR: unknown work unit leftAbCd1234\nERROR: unknown work unit leftAbCd1234\n";
    assert_eq!(rest(&world, pipe), answers);
    assert_eq!(world.host(RIGHT).spawned, 1);
}
