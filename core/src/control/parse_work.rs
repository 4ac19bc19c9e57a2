//! The subcommands of `work` (`control.md` §3, §6; `work.md` §6).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::IntErrorKind;

use serde_json::{Map, Value};

use super::parse::non_empty;
use super::request::{AdoptRequest, SubmitRequest, WorkRequest};
use super::text;

pub(super) fn from_text(parameters: &str) -> Result<WorkRequest, String> {
    let words: Vec<&str> = parameters.split(' ').collect();
    let name = words[0].to_lowercase();
    let words = &words[1..];
    let unit = || match words {
        [] => Err(format!("work {name} requires a unit ID")),
        [unit] => Ok(String::from(*unit)),
        _ => Err(format!("work {name} does not take parameters after the unit ID")),
    };
    match &*name {
        "submit" => {
            let [node, work_type, rest @ ..] = words else {
                return Err(text::SUBMIT_REQUIRES.into());
            };
            let mut submit = SubmitRequest {
                node: (*node).into(),
                work_type: (*work_type).into(),
                ..SubmitRequest::default()
            };
            if !rest.is_empty() {
                submit.params.insert("params".into(), rest.join(" "));
            }
            Ok(WorkRequest::Submit(Box::new(submit)))
        }
        "list" => Ok(WorkRequest::List {
            unit: words.first().map(|&unit| unit.into()),
        }),
        "status" => Ok(WorkRequest::Status { unit: unit()? }),
        "cancel" => Ok(WorkRequest::Cancel {
            unit: unit()?,
            signature: None,
        }),
        "release" => Ok(WorkRequest::Release {
            unit: unit()?,
            force: false,
            signature: None,
        }),
        "force-release" => Ok(WorkRequest::Release {
            unit: unit()?,
            force: true,
            signature: None,
        }),
        "adopt" => {
            let [node, unit] = words else {
                return Err(text::ADOPT_TAKES.into());
            };
            Ok(WorkRequest::Adopt(Box::new(AdoptRequest {
                node: (*node).into(),
                unit: (*unit).into(),
                ..AdoptRequest::default()
            })))
        }
        "results" => match words {
            [] => Err(text::RESULTS_REQUIRES.into()),
            [unit] => Ok(WorkRequest::Results {
                unit: (*unit).into(),
                start: 0,
                signature: None,
            }),
            [unit, start] => Ok(WorkRequest::Results {
                unit: (*unit).into(),
                start: text_start(start)?,
                signature: None,
            }),
            _ => Err(text::RESULTS_TAKES.into()),
        },
        _ => Err(text::BAD_COMMAND.into()),
    }
}

pub(super) fn from_json(members: &Map<String, Value>) -> Result<WorkRequest, String> {
    let unit = || required(members, "unitid").map(String::from);
    let signature = || optional(members, "signature").map(|s| s.and_then(non_empty));
    match &*required(members, "subcommand")?.to_lowercase() {
        "submit" => submit(members).map(|submit| WorkRequest::Submit(Box::new(submit))),
        "list" => Ok(WorkRequest::List {
            unit: optional(members, "unitid")?.map(String::from),
        }),
        "status" => Ok(WorkRequest::Status { unit: unit()? }),
        "cancel" => Ok(WorkRequest::Cancel {
            unit: unit()?,
            signature: signature()?,
        }),
        "release" => Ok(WorkRequest::Release {
            unit: unit()?,
            force: false,
            signature: signature()?,
        }),
        "force-release" => Ok(WorkRequest::Release {
            unit: unit()?,
            force: true,
            signature: signature()?,
        }),
        "adopt" => Ok(WorkRequest::Adopt(Box::new(AdoptRequest {
            node: required(members, "node")?.into(),
            unit: unit()?,
            tls_client: optional(members, "tlsclient")?.and_then(non_empty),
            sign_work: optional(members, "signwork")? == Some("true"),
            start: match members.get("startpos") {
                None => 0,
                Some(value) => value.as_u64().ok_or("field startpos must be a number, not below 0")?,
            },
            signature: signature()?,
        }))),
        "results" => Ok(WorkRequest::Results {
            unit: unit()?,
            start: json_start(members)?,
            signature: signature()?,
        }),
        "upgrade" => {
            let version = members.get("version").ok_or("field version missing")?;
            let version = version.as_u64().ok_or("field version must be a number")?;
            // For texts only, so anything else is as good as nothing.
            let time = members.get("time").and_then(Value::as_u64);
            Ok(WorkRequest::Upgrade { version, time })
        }
        _ => Err(text::BAD_COMMAND.into()),
    }
}

fn submit(members: &Map<String, Value>) -> Result<SubmitRequest, String> {
    let mut submit = SubmitRequest {
        node: required(members, "node")?.into(),
        work_type: required(members, "worktype")?.into(),
        ..SubmitRequest::default()
    };
    for (name, value) in members {
        let Some(value) = value.as_str() else {
            return Err(format!("submit parameters must all be strings and {name} is not"));
        };
        match &**name {
            "command" | "subcommand" | "node" | "worktype" => {}
            "tlsclient" => submit.tls_client = non_empty(value),
            "ttl" => submit.ttl = non_empty(value),
            "signwork" => submit.sign_work = value == "true",
            "signature" => submit.signature = non_empty(value),
            "workUnitID" => submit.work_unit_id = non_empty(value),
            _ => {
                submit.params.insert(name.clone(), value.into());
            }
        }
    }
    Ok(submit)
}

fn text_start(start: &str) -> Result<i64, String> {
    start.parse().map_err(|e: core::num::ParseIntError| {
        let reason = match e.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!(
            "{}strconv.ParseInt: parsing {start:?}: {reason}",
            text::START_NOT_INTEGER
        )
    })
}

/// Fractions are cut off, values beyond the range become its ends.
fn json_start(members: &Map<String, Value>) -> Result<i64, String> {
    let value = members.get("startpos").ok_or("field startpos missing")?;
    let number = value.as_number().ok_or("field startpos must be a number")?;
    Ok(number
        .as_i64()
        .unwrap_or_else(|| number.as_f64().unwrap_or_default() as i64))
}

fn required<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    optional(members, name)?.ok_or_else(|| format!("field {name} missing"))
}

fn optional<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    let text = |value: &'a Value| value.as_str().ok_or_else(|| format!("field {name} must be a string"));
    members.get(name).map(text).transpose()
}
