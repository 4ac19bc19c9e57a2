//! The lines of the polling protocol: what is sent, and what answers mean (`work.md` §11, `control.md` §6.2).

use alloc::format;
use alloc::string::{String, ToString as _};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::super::extra::RemoteExtra;
use super::super::id::UnitId;
use super::super::state::State;

/// Detail of a unit that waits for the end of its stdin.
const WAITING: [&str; 2] = ["Waiting for Input Data", "Unit Created"];

/// Beginning of the detail of a unit whose stdin was cut off: it was not run.
const CUT_OFF: &str = "Error reading input data";

/// Detail of a unit that an executor found in state Pending when it started.
const PENDING_AT_RESTART: &str = "Pending at restart";

/// Name of the member that holds the token.
const SIGNATURE: &str = "signature";

/// What a status line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reported {
    pub(super) state: State,
    pub(super) detail: String,
    pub(super) stdout_size: u64,
}

impl Reported {
    /// Whether the unit still expects stdin.
    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Pending && WAITING.contains(&self.detail.as_str())
    }

    /// Whether the unit never had all of its stdin, in the words of the executor.
    pub(super) fn was_cut_off(&self) -> bool {
        self.state == State::Failed && self.detail.starts_with(CUT_OFF)
    }

    /// Whether a unit that cannot have had all of its stdin ended for that.
    pub(super) fn is_torso(&self) -> bool {
        self.was_cut_off() || (self.state == State::Failed && self.detail == PENDING_AT_RESTART)
    }

    /// Exit code, which classic nodes tell in words only.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.detail.strip_prefix("exit status ")?.parse().ok()
    }
}

/// Fixed members win over parameters of the same name. The executor is asked to use our ID; older nodes ignore the wish
/// (`differences-1.5.5.md` §5).
pub(super) fn submit(id: &UnitId, extra: &RemoteExtra, token: &str) -> Bytes {
    let mut members: Map<String, Value> = extra
        .remote_params
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    // A parameter of that name would be taken for one.
    members.remove(SIGNATURE);
    for (name, value) in [
        ("command", "work"),
        ("subcommand", "submit"),
        ("node", &extra.remote_node),
        ("worktype", &extra.remote_work_type),
        ("tlsclient", &extra.tls_client),
        ("workUnitID", id.as_str()),
    ] {
        members.insert(name.into(), value.into());
    }
    line(members, token)
}

pub(super) fn status(unit: &str) -> Bytes {
    format!("work status {unit}\n").into()
}

pub(super) fn results(unit: &str, start: u64, token: &str) -> Bytes {
    let mut members = command("results", unit);
    members.insert("startpos".into(), start.into());
    line(members, token)
}

/// `cancel` or `release`.
pub(super) fn finish(verb: &str, unit: &str, token: &str) -> Bytes {
    line(command(verb, unit), token)
}

fn command(name: &str, unit: &str) -> Map<String, Value> {
    let members = [("command", "work"), ("subcommand", name), ("unitid", unit)];
    members
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The command, signed if there is a token.
fn line(mut members: Map<String, Value>, token: &str) -> Bytes {
    if !token.is_empty() {
        members.insert(SIGNATURE.into(), token.into());
    }
    let mut text = Value::Object(members).to_string();
    text.push('\n');
    text.into()
}

/// The ID in `Work unit created with ID X. Send stdin data and EOF.`
pub(super) fn created(line: &str) -> Option<UnitId> {
    let (_, rest) = line.split_once("with ID ")?;
    let (id, _) = rest.split_once('.')?;
    UnitId::parse(id)
}

/// The text of an error line.
pub(super) fn error(line: &str) -> Option<&str> {
    let text = line.strip_prefix("ERROR")?;
    Some(text.trim_start_matches(':').trim())
}

pub(super) fn is_results_header(line: &str) -> bool {
    line.contains("Streaming results")
}

pub(super) fn reported(line: &str) -> Option<Reported> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some(Reported {
        state: State::from_number(value.get("State")?.as_i64()?),
        detail: value
            .get("Detail")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string(),
        stdout_size: value
            .get("StdoutSize")
            .and_then(Value::as_i64)
            .and_then(|size| size.try_into().ok())
            .unwrap_or(0),
    })
}

/// Work type and parameters in a status line.
pub(super) fn about(line: &str) -> Option<(String, String)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_string();
    let params = value.get("ExtraData").and_then(|extra| extra.get("Params"));
    Some((text(value.get("WorkType")), text(params)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_what_classic_nodes_send() {
        let mut extra = RemoteExtra {
            remote_node: "exec".into(),
            remote_work_type: "cat".into(),
            ..RemoteExtra::default()
        };
        extra.remote_params.insert("params".into(), "a \"b\"".into());
        extra.remote_params.insert("node".into(), "forged".into());
        let sent = submit(&UnitId::parse("Ab1").unwrap(), &extra, "");
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let expected = serde_json::json!({
            "command": "work", "subcommand": "submit", "node": "exec", "worktype": "cat", "tlsclient": "",
            "params": "a \"b\"", "workUnitID": "Ab1",
        });
        assert_eq!(sent, expected);
        let wanted = serde_json::json!({ "command": "work", "subcommand": "results", "unitid": "X", "startpos": 7 });
        assert_eq!(serde_json::from_slice::<Value>(&results("X", 7, "")).unwrap(), wanted);
        let signed =
            serde_json::json!({ "command": "work", "subcommand": "cancel", "unitid": "X", "signature": "a.b.c" });
        assert_eq!(
            serde_json::from_slice::<Value>(&finish("cancel", "X", "a.b.c")).unwrap(),
            signed
        );
    }

    #[test]
    fn answers_are_read_as_classic_nodes_read_them() {
        let id = created("Work unit created with ID e1Xy9. Send stdin data and EOF.").unwrap();
        assert_eq!(id.as_str(), "e1Xy9");
        assert_eq!(created("ERROR: unknown work type x"), None);
        assert_eq!(created("with ID ../x. "), None);
        assert_eq!(error("ERROR: unknown work unit x"), Some("unknown work unit x"));
        assert_eq!(error("{\"released\":\"x\"}"), None);
        let status = reported(r#"{"State":2,"Detail":"exit status 0","StdoutSize":5,"ExtraData":null}"#).unwrap();
        assert_eq!(
            (status.state, status.stdout_size, status.exit_code()),
            (State::Succeeded, 5, Some(0))
        );
        for bad in ["", "{}", "[]", "ERROR: x", r#"{"State":"2"}"#] {
            assert_eq!(reported(bad), None, "{bad}");
        }
        assert_eq!(reported(r#"{"State":1,"StdoutSize":-5}"#).unwrap().stdout_size, 0);
    }
}
