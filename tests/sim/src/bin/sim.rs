//! Runs seeds and plans of the simulator, see `docs/simulator.md`.

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::Instant;

use receptor_sim::plan::Plan;
use receptor_sim::run::{Failure, Summary, run_caught};
use receptor_sim::shrink::shrink;
use receptor_sim::swarm::Swarm;

const USAGE: &str = "\
usage: sim [OPTIONS]             runs one seed, or several
       sim [OPTIONS] PLAN        runs a file with a plan

  --seed N      the seed, or the first one (default 0)
  --seeds N     so many, one after another (default 1)
  --nodes N     nodes of a world (default 12)
  --secs N      virtual seconds of faults and work (default 120)
  --trace FILE  writes everything that happens
  --shrink      prints the smallest plan found that fails in the same way
  --plan        prints the plan instead of running it
  --bug NAME    every node has this bug (built with the feature sabotage)
  --quiet       prints only what went wrong, and the sum";

/// Runs spent on one failure at most.
const SHRINK_RUNS: usize = 1000;

#[derive(Debug)]
struct Options {
    seed: u64,
    seeds: u64,
    nodes: usize,
    secs: u64,
    trace: Option<String>,
    shows_plan: bool,
    shrinks: bool,
    is_quiet: bool,
    plan: Option<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seed: 0,
        seeds: 1,
        nodes: 12,
        secs: 120,
        trace: None,
        shows_plan: false,
        shrinks: false,
        is_quiet: false,
        plan: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match arg.as_str() {
            "--seed" => options.seed = number(value()?)?,
            "--seeds" => options.seeds = number(value()?)?,
            "--nodes" => options.nodes = number(value()?)? as usize,
            "--secs" => options.secs = number(value()?)?,
            "--trace" => options.trace = Some(value()?),
            #[cfg(feature = "sabotage")]
            "--bug" => commit(&value()?)?,
            "--plan" => options.shows_plan = true,
            "--shrink" => options.shrinks = true,
            "--quiet" => options.is_quiet = true,
            other if other.starts_with("--") => return Err(format!("unknown option {other}\n{USAGE}")),
            file => options.plan = Some(file.to_owned()),
        }
    }
    if options.nodes == 0 {
        return Err("a world has one node at least".into());
    }
    Ok(options)
}

#[cfg(feature = "sabotage")]
fn commit(name: &str) -> Result<(), String> {
    use receptor_core::sabotage::{Bug, commit};
    let bug = Bug::ALL.iter().find(|bug| bug.name() == name).copied();
    commit(Some(bug.ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("{name:?} is none of {}", names.join(", "))
    })?));
    Ok(())
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match campaign(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything held.
fn campaign(options: &Options) -> Result<bool, String> {
    if let Some(file) = &options.plan {
        let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let plan: Plan = text.parse().map_err(|error| format!("{file}: {error}"))?;
        let outcome = one(&plan, options)?;
        report(options, &plan, &outcome, &format!("sim {file}"));
        return Ok(outcome.is_ok());
    }
    let (start, mut failed, mut virtual_secs) = (Instant::now(), 0, 0);
    for seed in options.seed..options.seed + options.seeds {
        let plan = Swarm::draw(seed).plan(options.nodes, options.secs);
        if options.shows_plan {
            print!("{plan}");
            continue;
        }
        let outcome = one(&plan, options)?;
        let replay = format!("sim --seed {seed} --nodes {} --secs {}", options.nodes, options.secs);
        report(options, &plan, &outcome, &replay);
        failed += u64::from(outcome.is_err());
        virtual_secs += outcome.map_or(0, |summary| summary.time.as_secs());
    }
    if options.seeds > 1 {
        println!(
            "{} seeds, {failed} failed, {virtual_secs} virtual s in {:.1} s",
            options.seeds,
            start.elapsed().as_secs_f64()
        );
    }
    Ok(failed == 0)
}

fn one(plan: &Plan, options: &Options) -> Result<Result<Summary, Box<Failure>>, String> {
    let trace = options
        .trace
        .as_ref()
        .map(|path| File::create(path).map_err(|error| format!("{path}: {error}")));
    let trace = trace.transpose()?;
    Ok(run_caught(plan, trace))
}

fn report(options: &Options, plan: &Plan, outcome: &Result<Summary, Box<Failure>>, replay: &str) {
    match outcome {
        Ok(summary) if !options.is_quiet => {
            let Summary {
                digest,
                lines,
                frames,
                counts,
                ..
            } = summary;
            println!(
                "seed {}: {digest:016x}, {lines} lines, {frames} frames, {counts:?}",
                plan.seed
            );
        }
        Ok(_) => {}
        Err(failure) => {
            if !options.is_quiet {
                println!("{}", failure.tail);
            }
            println!(
                "seed {} at {:?}: {}\n  {replay}",
                plan.seed, failure.at, failure.violation
            );
            if options.shrinks {
                let invariant = failure.violation.invariant;
                let is_same = |plan: &Plan| {
                    let outcome = run_caught(plan, None);
                    outcome.is_err_and(|failure| failure.violation.invariant == invariant)
                };
                print!("{}", shrink(plan, SHRINK_RUNS, is_same));
            }
        }
    }
}
