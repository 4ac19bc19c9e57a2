//! The durable record of a unit: the classic `status` file (`work.md` §3.1).
//!
//! Node and runner both change it, each under the unit's lock and each through [`Record::apply`], so the one table of
//! transitions in [`super::change`] decides who was first.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::change::{Change, ChangeKind, Refused};
use super::extra::{self, CommandExtra, Extra, RemoteExtra};
use super::state::State;
use crate::time::Wall;

/// The record.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Record {
    /// State.
    pub state: State,
    /// Human text (`work.md` §5).
    pub detail: String,
    /// Bytes of `stdout` known to be valid; lags the file while the unit runs.
    pub stdout_size: u64,
    /// Work type; `remote` for the local half of a remote unit.
    pub work_type: String,
    /// What depends on the work type.
    pub extra: Extra,
    /// Keys of others, kept.
    pub other: Map<String, Value>,
}

/// The file's text, keys in the classic order.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct File {
    #[serde(rename = "State", deserialize_with = "extra::or_default")]
    state: State,
    #[serde(rename = "Detail", deserialize_with = "extra::or_default")]
    detail: String,
    /// A classic file may hold a negative size, which means nothing.
    #[serde(rename = "StdoutSize", deserialize_with = "extra::or_default")]
    stdout_size: i64,
    #[serde(rename = "WorkType", deserialize_with = "extra::or_default")]
    work_type: String,
    #[serde(rename = "ExtraData")]
    extra: Value,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Record {
    /// Longest file that is read, in bytes: parameters come in one control line of at most 16 MiB.
    pub const MAX_LEN: usize = 32 << 20;

    /// The first record of a command unit.
    pub fn command(work_type: &str, params: String) -> Self {
        Self::created(
            work_type,
            Extra::Command(Box::new(CommandExtra {
                params,
                ..CommandExtra::default()
            })),
        )
    }

    /// The first record of the local half of a remote unit.
    pub fn remote(extra: RemoteExtra) -> Self {
        Self::created(extra::REMOTE, Extra::Remote(Box::new(extra)))
    }

    fn created(work_type: &str, extra: Extra) -> Self {
        Self {
            detail: "Waiting for Input Data".into(),
            work_type: work_type.into(),
            extra,
            ..Self::default()
        }
    }

    /// Reads a file as Go does: absent keys and `null` are zero values. Unknown keys are kept.
    ///
    /// # Errors
    /// Why it cannot be read; an empty file (a classic node died while writing) is one reason.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > Self::MAX_LEN {
            return Err(format!(
                "status file of {} bytes is larger than {}",
                bytes.len(),
                Self::MAX_LEN
            ));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err("status file is empty".into());
        }
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut extra =
            Extra::from_value(&file.work_type, file.extra).map_err(|error| format!("ExtraData: {error}"))?;
        // Classic nodes drop it once a command's runner has ended (`work.md` §3.1), even if that left no end in the record.
        let is_open = !file.state.is_complete() && !matches!(file.state, State::Unknown(_));
        if is_open
            && extra == Extra::Other(Value::Null)
            && !file.work_type.is_empty()
            && file.work_type != extra::REMOTE
        {
            extra = Extra::Command(Box::default());
        }
        Ok(Self {
            state: file.state,
            detail: file.detail,
            stdout_size: u64::try_from(file.stdout_size).unwrap_or(0),
            work_type: file.work_type,
            extra,
            other: file.other,
        })
    }

    /// The file's text: keys in the classic order, one line.
    pub fn to_json(&self) -> Vec<u8> {
        let extra = match &self.extra {
            Extra::Command(extra) => serde_json::to_value(extra),
            Extra::Remote(extra) => serde_json::to_value(extra),
            Extra::Other(value) => Ok(value.clone()),
        };
        let file = File {
            state: self.state,
            detail: self.detail.clone(),
            stdout_size: i64::try_from(self.stdout_size).unwrap_or(i64::MAX),
            work_type: self.work_type.clone(),
            // Only maps with keys other than text and numbers that are not finite cannot be written; there are none.
            extra: extra.unwrap_or_default(),
            other: self.other.clone(),
        };
        let mut text = serde_json::to_vec(&file).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// `ExtraData` as status answers show it: without secrets (`work.md` §6.1).
    pub fn shown_extra(&self) -> Value {
        self.extra.redacted()
    }

    /// Applies a change, or leaves the record as it is.
    ///
    /// # Errors
    /// The change does not fit the state: somebody else was first.
    pub fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        super::change::apply(self, change)
    }

    /// The same, and notes the time where the unit is in a new state by it.
    ///
    /// # Errors
    /// As [`Record::apply`].
    pub fn apply_at(&mut self, change: &Change, now: Wall) -> Result<(), Refused> {
        let before = self.state;
        self.apply(change)?;
        if self.state != before {
            self.extra.stamp(self.state, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_files_survive_a_rewrite() {
        for text in [
            r#"{"State":1,"Detail":"Running: PID 7","StdoutSize":5,"WorkType":"cat","ExtraData":{"Pid":6,"Params":"a b"}}"#,
            r#"{"State":2,"Detail":"exit status 0","StdoutSize":5,"WorkType":"cat","ExtraData":null}"#,
            r#"{"State":9,"Detail":"","StdoutSize":0,"WorkType":"kube","ExtraData":{"Image":"x","PodName":"p"},"Later":{"a":[1,2]}}"#,
            r#"{"State":0,"Detail":"","StdoutSize":0,"WorkType":"remote","ExtraData":{"RemoteNode":"n","RemoteWorkType":"cat","RemoteParams":{"secret_a":"b"},"RemoteUnitID":"","RemoteStarted":false,"LocalCancelled":false,"LocalReleased":false,"SignWork":false,"TLSClient":"","Expiration":"2024-10-29T12:00:00.5+01:00","Later":1}}"#,
        ] {
            let record = Record::parse(text.as_bytes()).unwrap();
            let again = record.to_json();
            assert_eq!(Record::parse(&again).unwrap(), record);
            let sorted = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
            assert_eq!(sorted(&again), sorted(text.as_bytes()));
        }
    }

    #[test]
    fn keys_are_written_in_the_classic_order() {
        let text = String::from_utf8(Record::command("cat", "x y".into()).to_json()).unwrap();
        let classic = r#"{"State":0,"Detail":"Waiting for Input Data","StdoutSize":0,"WorkType":"cat","ExtraData":{"#;
        assert!(text.starts_with(classic), "{text}");
        assert!(text.ends_with("}}\n"));
    }

    #[test]
    fn own_keys_survive_a_rewrite() {
        let mut record = Record::command("cat", String::new());
        if let Extra::Command(extra) = &mut record.extra {
            extra.starting = true;
            extra.boot_id = "b".into();
            extra.start_time = u64::MAX;
            extra.checksum = Some(0xfedc_ba98_7654_3210);
            extra.exit_code = Some(-1);
            extra.submitter = "n".into();
        }
        assert_eq!(Record::parse(&record.to_json()).unwrap(), record);
    }

    #[test]
    fn absent_and_null_keys_are_zero_and_damage_is_an_error() {
        let record = Record::parse(br#"{"Detail":null,"ExtraData":{"Pid":null}}"#).unwrap();
        assert_eq!(record.state, State::Pending);
        assert_eq!(record.extra.command(), Some(&CommandExtra::default()));
        for bad in [
            &b""[..],
            b"\n",
            b"{",
            b"[]",
            br#"{"State":"x"}"#,
            br#"{"ExtraData":{"Pid":-1}}"#,
        ] {
            assert!(Record::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut extra = RemoteExtra::default();
        extra.remote_params.insert("Secret_key".into(), "x".into());
        extra.remote_params.insert("params".into(), "y".into());
        let shown = Record::remote(extra).shown_extra();
        assert_eq!(shown["RemoteParams"], serde_json::json!({ "params": "y" }));
        let kube = Record::parse(br#"{"ExtraData":{"KubeConfig":"x","PodName":"p"}}"#).unwrap();
        assert_eq!(
            kube.shown_extra(),
            serde_json::json!({ "KubeConfig": "", "PodName": "p" })
        );
    }
}
