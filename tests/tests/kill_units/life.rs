//! One unit from its submission to its release, seen by a client that does not give up when daemons go away.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use receptor_tests::live::{Control, Node, PATIENCE, Scratch};
use serde_json::Value;

use super::job::Job;
use super::killer::Kills;
use super::verdict::{Facts, judge};

/// Longer than a unit takes with daemons dying all the time: what reaches it is stuck.
const LIFE_LIMIT: Duration = Duration::from_secs(3 * PATIENCE.as_secs());

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the units are submitted.
pub(crate) struct Place {
    socket: PathBuf,
    /// Where commands note that they ran.
    pub(crate) runs: PathBuf,
}

impl Place {
    /// At this node.
    pub(crate) fn new(scratch: &Scratch, submitter: &Node) -> Self {
        Self {
            socket: submitter.socket(),
            runs: scratch.join("runs"),
        }
    }
}

/// What became of a submission.
struct Submission {
    unit: String,
    token: String,
    /// The last answer; `None` if the connection was lost before.
    answer: Option<String>,
}

/// The life of one unit.
pub(crate) struct Life<'a> {
    job: &'a Job,
    place: &'a Place,
    kills: &'a Kills,
    begun: Instant,
}

impl<'a> Life<'a> {
    /// Nothing has happened yet.
    pub(crate) fn new(job: &'a Job, place: &'a Place, kills: &'a Kills) -> Self {
        Self {
            job,
            place,
            kills,
            begun: Instant::now(),
        }
    }

    /// Lives it. The name of the outcome, or what went wrong.
    pub(crate) fn live(self) -> Result<&'static str, String> {
        let killed_before = (self.kills.submitter(), self.kills.executor());
        let submission = self.submit()?;
        let unit = &submission.unit;
        let told = |text: String| format!("unit {unit} ({:?}): {text}", submission.answer);
        let expected = self.job.output(&submission.token);
        let (status, output) = self.follow(unit, &expected).map_err(told)?;
        let facts = Facts {
            state: status["StateName"].as_str().unwrap_or_default(),
            detail: status["Detail"].as_str().unwrap_or_default(),
            is_accepted: submission.answer.as_ref().is_some_and(|answer| answer.starts_with('{')),
            is_endless: self.job.is_endless(),
            is_output_whole: output == expected,
            runs: fs::read_to_string(self.place.runs.join(&submission.token)).map_or(0, |runs| runs.lines().count()),
            submitter_was_killed: self.kills.submitter() > killed_before.0,
            executor_was_killed: self.kills.executor() > killed_before.1,
            runner_was_killed: self.kills.has_runner_of(unit),
        };
        let outcome = judge(&facts).map_err(|text| told(format!("{text}: {facts:?}, {} bytes", output.len())))?;
        self.release(unit).map_err(told)?;
        Ok(outcome)
    }

    fn check_time(&self, doing: &str) -> Result<(), String> {
        thread::sleep(PAUSE);
        if self.begun.elapsed() < LIFE_LIMIT {
            Ok(())
        } else {
            Err(format!("stuck after {LIFE_LIMIT:?}: {doing}"))
        }
    }

    /// Until somebody names a unit. A submission that ends before may have left one that nobody was told of.
    fn submit(&self) -> Result<Submission, String> {
        for attempt in 0.. {
            let token = format!("unit{}x{attempt}", self.job.number);
            if let Ok(mut control) = Control::connect(&self.place.socket)
                && let Ok(created) = control.command(&self.job.command(&self.place.runs, &token))
            {
                let unit = created
                    .strip_prefix("Work unit created with ID ")
                    .and_then(|rest| rest.strip_suffix(". Send stdin data and EOF."))
                    .ok_or_else(|| format!("submission refused: {created}"))?;
                // A daemon that dies meanwhile says nothing more.
                let _ = control.send(&self.job.stdin());
                let _ = control.half_close();
                let answer = control.line().ok();
                return Ok(Submission {
                    unit: unit.to_owned(),
                    token,
                    answer,
                });
            }
            self.check_time("no node to submit to")?;
        }
        unreachable!("attempts do not run out")
    }

    /// Reads the output as it comes, going on where it was broken off, until the unit is over and all of it is here; an
    /// endless one until it has begun.
    fn follow(&self, unit: &str, expected: &[u8]) -> Result<(Value, Vec<u8>), String> {
        let mut output = Vec::new();
        loop {
            self.read_results(unit, expected, &mut output)?;
            if let Ok(mut control) = Control::connect(&self.place.socket) {
                match control.json(&format!("work status {unit}")) {
                    Err(text) if text.starts_with("unknown work unit") => return Err(text),
                    Err(_) => {}
                    Ok(status) => {
                        let is_over = matches!(status["State"].as_u64(), Some(2..=4));
                        let size = status["StdoutSize"].as_u64();
                        if is_over && size == Some(output.len() as u64) {
                            return Ok((status, output));
                        }
                        if is_over && size < Some(output.len() as u64) {
                            return Err(format!("{} bytes were read of {status}", output.len()));
                        }
                        if self.job.is_endless() && output == expected {
                            return Ok((status, output));
                        }
                        self.check_time(&format!("{} bytes, {status}", output.len()))?;
                        continue;
                    }
                }
            }
            self.check_time("following it")?;
        }
    }

    fn read_results(&self, unit: &str, expected: &[u8], output: &mut Vec<u8>) -> Result<(), String> {
        let Ok(mut control) = Control::connect(&self.place.socket) else {
            return Ok(());
        };
        match control.command(&format!("work results {unit} {}", output.len())) {
            Ok(header) if header == format!("Streaming results for work unit {unit}") => {}
            Ok(header) => return Err(header),
            Err(_) => return Ok(()),
        }
        while let Ok(piece) = control.piece()
            && !piece.is_empty()
        {
            output.extend_from_slice(&piece);
            if !expected.starts_with(output) {
                let differs = expected.iter().zip(output.iter()).position(|(a, b)| a != b);
                return Err(format!(
                    "wrong output: {} of {} bytes are here, the first difference is at {differs:?}",
                    output.len(),
                    expected.len()
                ));
            }
            if self.job.is_endless() && *output == expected {
                break;
            }
        }
        Ok(())
    }

    /// Until it is gone, or will go as soon as its executor is there.
    fn release(&self, unit: &str) -> Result<(), String> {
        let mut last = "nothing".to_owned();
        loop {
            let control = Control::connect(&self.place.socket);
            match control.and_then(|mut control| control.command(&format!("work release {unit}"))) {
                Ok(answer) if answer.contains("released") || answer.contains("release pending") => return Ok(()),
                Ok(answer) if answer.contains("unknown work unit") => return Ok(()),
                Ok(answer) => last = answer,
                Err(_) => {}
            }
            self.check_time(&format!("its release is answered {last}"))?;
        }
    }
}
