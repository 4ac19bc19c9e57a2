//! Limits of a command, as arguments of its runner.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use receptor_core::workceptor::RunLimits;

use super::{END_OF_LIMITS, LIMITS_VERSION, VERSION};

const OUTPUT: &str = "output-limit=";
const TIME: &str = "time-limit=";

/// What stands before the unit's directory and what stands behind it, before the program.
pub(super) fn to_args(limits: RunLimits) -> (&'static str, Vec<String>) {
    if limits == RunLimits::default() {
        return (VERSION, Vec::new());
    }
    let output = limits.output.map(|bytes| format!("{OUTPUT}{bytes}"));
    let time = limits.time.map(|time| format!("{TIME}{}", time.as_millis()));
    let end = END_OF_LIMITS.to_owned();
    (LIMITS_VERSION, output.into_iter().chain(time).chain([end]).collect())
}

/// Takes the limits from behind the directory. `None` if they make no sense.
pub(super) fn from_args(version: &OsStr, args: &mut impl Iterator<Item = OsString>) -> Option<RunLimits> {
    let mut limits = RunLimits::default();
    if version == VERSION {
        return Some(limits);
    }
    if version != LIMITS_VERSION {
        return None;
    }
    loop {
        let arg = args.next()?.into_string().ok()?;
        if arg == END_OF_LIMITS {
            return Some(limits);
        } else if let Some(bytes) = arg.strip_prefix(OUTPUT) {
            limits.output = Some(bytes.parse().ok()?);
        } else if let Some(millis) = arg.strip_prefix(TIME) {
            limits.time = Some(Duration::from_millis(millis.parse().ok()?));
        } else {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: &str, args: &[&str]) -> (Option<RunLimits>, Vec<OsString>) {
        let mut args = args.iter().map(OsString::from);
        let limits = from_args(OsStr::new(version), &mut args);
        (limits, args.collect())
    }

    #[test]
    fn limits_pass_as_arguments() {
        for limits in [
            RunLimits::default(),
            RunLimits {
                output: Some(u64::MAX),
                time: None,
            },
            RunLimits {
                output: Some(0),
                time: Some(Duration::from_millis(1500)),
            },
        ] {
            let (version, mut args) = to_args(limits);
            args.extend(["cat".to_owned(), "--".to_owned()]);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            assert_eq!(read(version, &args), (Some(limits), vec!["cat".into(), "--".into()]));
        }
        assert_eq!(to_args(RunLimits::default()), ("1", Vec::new()));
        for (version, args) in [
            ("2", &["cat"][..]),
            ("2", &[]),
            ("2", &["time-limit=x", "--"]),
            ("3", &["--"]),
        ] {
            assert_eq!(read(version, args).0, None);
        }
    }
}
