//! What may have become of a unit, given who was killed.

/// What is known of a unit that is over, or of an endless one that has begun.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a str,
    pub(crate) detail: &'a str,
    /// Its client was told that it is started, or will be.
    pub(crate) is_accepted: bool,
    pub(crate) is_endless: bool,
    /// All that the command writes is here. Otherwise what is here is a beginning of it.
    pub(crate) is_output_whole: bool,
    /// How often the command was started.
    pub(crate) runs: usize,
    pub(crate) submitter_was_killed: bool,
    pub(crate) executor_was_killed: bool,
    pub(crate) runner_was_killed: bool,
}

/// The name of the outcome, or why it is none that may be.
pub(crate) fn judge(facts: &Facts<'_>) -> Result<&'static str, &'static str> {
    if facts.runs > 1 {
        return Err("it ran more than once");
    }
    let failed_with = |text: &str| facts.state == "Failed" && facts.detail.starts_with(text);
    match facts.state {
        "Succeeded" if facts.is_endless => Err("it cannot have ended"),
        "Succeeded" if !facts.is_output_whole => Err("its output is not whole"),
        "Succeeded" if facts.runs != 1 => Err("it succeeded without running"),
        "Succeeded" => Ok("succeeded"),
        "Running" | "Pending" if facts.is_endless => Ok("released while it ran"),
        _ if failed_with("runner lost: ") && facts.runner_was_killed => Ok("runner lost"),
        _ if failed_with("start unknown: ") && facts.executor_was_killed => Ok("start unknown"),
        // Its stdin broke off with the daemon; nobody was told that it would run.
        _ if failed_with("Pending at restart") && facts.submitter_was_killed && !facts.is_accepted => {
            Ok("not submitted")
        }
        _ => Err("there is no reason for this end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_killed_excuses_an_end() {
        let fine = Facts {
            state: "Succeeded",
            detail: "exit status 0",
            is_accepted: true,
            is_endless: false,
            is_output_whole: true,
            runs: 1,
            submitter_was_killed: false,
            executor_was_killed: false,
            runner_was_killed: false,
        };
        assert_eq!(judge(&fine), Ok("succeeded"));
        let lost = |runner_was_killed| Facts {
            state: "Failed",
            detail: "runner lost: it is gone",
            is_output_whole: false,
            runner_was_killed,
            ..fine
        };
        assert_eq!(judge(&lost(true)), Ok("runner lost"));
        for bad in [
            Facts { runs: 2, ..fine },
            Facts { runs: 0, ..fine },
            Facts {
                is_output_whole: false,
                ..fine
            },
            lost(false),
            Facts {
                state: "Failed",
                detail: "start unknown: it stopped",
                submitter_was_killed: true,
                ..fine
            },
            Facts {
                state: "Failed",
                detail: "Pending at restart",
                submitter_was_killed: true,
                ..fine
            },
        ] {
            assert!(judge(&bad).is_err(), "{bad:?}");
        }
    }
}
