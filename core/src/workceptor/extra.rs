//! `ExtraData` of a record (`work.md` §3.1), with keys of our own that a classic node ignores.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::process::ProcessIdentity;
use super::state::State;
use crate::time::Wall;
use crate::wire::classic::format_rfc3339;

/// Work type of the local half of a remote unit.
pub const REMOTE: &str = "remote";

/// `Expiration` of a unit without one: Go's zero time.
pub const NO_EXPIRATION: &str = "0001-01-01T00:00:00Z";

/// What a record holds beyond the common fields.
#[derive(Clone, PartialEq, Debug)]
pub enum Extra {
    /// A program run by this node.
    Command(Box<CommandExtra>),
    /// The local half of a unit that runs elsewhere.
    Remote(Box<RemoteExtra>),
    /// Anything else, kept as it is.
    Other(Value),
}

impl Default for Extra {
    fn default() -> Self {
        Self::Other(Value::Null)
    }
}

impl Extra {
    /// Reads `ExtraData`. The record does not say of what kind its work type was, so the keys decide: only command (and
    /// python) units have a `Pid`.
    ///
    /// # Errors
    /// A value of the wrong type in a known kind.
    pub(super) fn from_value(work_type: &str, value: Value) -> Result<Self, serde_json::Error> {
        match &value {
            Value::Object(_) if work_type == REMOTE => serde_json::from_value(value).map(Box::new).map(Self::Remote),
            Value::Object(map) if map.contains_key("Pid") => {
                serde_json::from_value(value).map(Box::new).map(Self::Command)
            }
            _ => Ok(Self::Other(value)),
        }
    }

    /// The command half.
    pub fn command(&self) -> Option<&CommandExtra> {
        match self {
            Self::Command(extra) => Some(extra),
            _ => None,
        }
    }

    /// The remote half.
    pub fn remote(&self) -> Option<&RemoteExtra> {
        match self {
            Self::Remote(extra) => Some(extra),
            _ => None,
        }
    }

    /// When it came to where it is, where that is known.
    pub fn times(&self) -> Option<&Times> {
        match self {
            Self::Command(extra) => Some(&extra.times),
            Self::Remote(extra) => Some(&extra.times),
            Self::Other(_) => None,
        }
    }

    fn times_mut(&mut self) -> Option<&mut Times> {
        match self {
            Self::Command(extra) => Some(&mut extra.times),
            Self::Remote(extra) => Some(&mut extra.times),
            Self::Other(_) => None,
        }
    }

    /// Notes when the unit was first in this state.
    pub(super) fn stamp(&mut self, state: State, now: Wall) {
        let Some(times) = self.times_mut() else { return };
        let stamp = |text: &mut String| {
            if text.is_empty() {
                *text = format_rfc3339(now);
            }
        };
        match state {
            State::Pending => {}
            State::Running => stamp(&mut times.started),
            _ => stamp(&mut times.ended),
        }
    }

    /// Notes that the unit is being made.
    pub(super) fn stamp_created(&mut self, now: Wall) {
        if let Some(times) = self.times_mut() {
            times.created = format_rfc3339(now);
        }
    }

    /// What status answers show: no secrets, and of our own keys only how the command ended (`work.md` §6.1).
    pub(super) fn redacted(&self) -> Value {
        let mut shown = Map::new();
        match self {
            Self::Command(extra) => {
                shown.insert("Pid".into(), extra.pid.into());
                shown.insert("Params".into(), extra.params.as_str().into());
                insert_exit(&mut shown, extra.exit_code, extra.signal);
            }
            Self::Remote(extra) => {
                let params = extra.remote_params.iter();
                let open = params.filter(|(name, _)| !is_secret(name));
                let open: Map<String, Value> = open.map(|(k, v)| (k.clone(), v.as_str().into())).collect();
                shown.insert("RemoteNode".into(), extra.remote_node.as_str().into());
                shown.insert("RemoteWorkType".into(), extra.remote_work_type.as_str().into());
                shown.insert("RemoteParams".into(), open.into());
                shown.insert("RemoteUnitID".into(), extra.remote_unit_id.as_str().into());
                shown.insert("RemoteStarted".into(), extra.remote_started.into());
                shown.insert("LocalCancelled".into(), extra.local_cancelled.into());
                shown.insert("LocalReleased".into(), extra.local_released.into());
                shown.insert("SignWork".into(), extra.sign_work.into());
                shown.insert("TLSClient".into(), extra.tls_client.as_str().into());
                shown.insert("Expiration".into(), extra.expiration.as_str().into());
                insert_exit(&mut shown, extra.exit_code, extra.signal);
            }
            Self::Other(Value::Object(map)) => {
                shown.clone_from(map);
                for secret in ["KubeConfig", "KubePod"] {
                    if let Some(value) = shown.get_mut(secret) {
                        *value = "".into();
                    }
                }
            }
            Self::Other(other) => return other.clone(),
        }
        Value::Object(shown)
    }
}

fn insert_exit(shown: &mut Map<String, Value>, exit_code: Option<i32>, signal: Option<i32>) {
    if let Some(code) = exit_code {
        shown.insert("ExitCode".into(), code.into());
    }
    if let Some(signal) = signal {
        shown.insert("Signal".into(), signal.into());
    }
}

/// Whether a parameter is hidden in answers and needs TLS on its way (`work.md` §11.1).
pub fn is_secret(parameter: &str) -> bool {
    parameter
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("secret_"))
}

/// Ours: when a unit came to where it is, as RFC 3339 texts; empty until then.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// Its directory was made.
    #[serde(
        rename = "CreatedAt",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created: String,
    /// It was first said to run.
    #[serde(
        rename = "StartedAt",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub started: String,
    /// It was said to be over.
    #[serde(
        rename = "EndedAt",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ended: String,
}

/// `ExtraData` of a command unit.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandExtra {
    /// Process ID of the runner, 0 until it is up.
    #[serde(rename = "Pid", deserialize_with = "or_default")]
    pub pid: u32,
    /// Base and runtime parameters together.
    #[serde(rename = "Params", deserialize_with = "or_default")]
    pub params: String,
    /// Ours: the node may have started a runner. Set before it does, never cleared.
    #[serde(
        rename = "Starting",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub starting: bool,
    /// Ours: the boot in which `Pid` lived; empty until the runner is up.
    #[serde(
        rename = "BootID",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub boot_id: String,
    /// Ours: start time of `Pid` in clock ticks since boot.
    #[serde(
        rename = "StartTime",
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub start_time: u64,
    /// Ours: process ID of the command, 0 until it runs.
    #[serde(
        rename = "ChildPid",
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero_u32"
    )]
    pub child_pid: u32,
    /// Ours: exit code of the command.
    #[serde(rename = "ExitCode", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Ours: number of the signal that killed the command.
    #[serde(rename = "Signal", skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Ours: checksum of the whole `stdout` (HighwayHash-64, zero key), known once the command has ended.
    #[serde(rename = "Checksum", with = "hex", skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u64>,
    /// Ours: somebody wants the unit to end.
    #[serde(
        rename = "Cancelling",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub cancelling: bool,
    /// Ours: the whole of stdin is here, and the unit waits for a free place.
    #[serde(
        rename = "StdinComplete",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub stdin_complete: bool,
    /// Ours.
    #[serde(flatten)]
    pub times: Times,
    /// Ours: the node that submitted the unit over a work session; empty otherwise.
    #[serde(
        rename = "Submitter",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub submitter: String,
    /// Keys of others, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl CommandExtra {
    /// Who the runner is, once it is up. Without a boot ID when a classic node started it.
    pub fn runner(&self) -> Option<ProcessIdentity> {
        (self.pid != 0).then(|| ProcessIdentity {
            boot_id: self.boot_id.clone(),
            pid: self.pid,
            start_time: self.start_time,
        })
    }
}

/// `ExtraData` of the local half of a remote unit.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoteExtra {
    /// The executor.
    #[serde(rename = "RemoteNode", deserialize_with = "or_default")]
    pub remote_node: String,
    /// Work type as registered there.
    #[serde(rename = "RemoteWorkType", deserialize_with = "or_default")]
    pub remote_work_type: String,
    /// Work parameters.
    #[serde(rename = "RemoteParams", deserialize_with = "or_default")]
    pub remote_params: BTreeMap<String, String>,
    /// ID of the executor's half; empty until known.
    #[serde(rename = "RemoteUnitID", deserialize_with = "or_default")]
    pub remote_unit_id: String,
    /// Whether the executor said that it has started the unit.
    #[serde(rename = "RemoteStarted", deserialize_with = "or_default")]
    pub remote_started: bool,
    /// Whether the unit was cancelled here.
    #[serde(rename = "LocalCancelled", deserialize_with = "or_default")]
    pub local_cancelled: bool,
    /// Whether the unit was released here.
    #[serde(rename = "LocalReleased", deserialize_with = "or_default")]
    pub local_released: bool,
    /// Whether requests to the executor are signed.
    #[serde(rename = "SignWork", deserialize_with = "or_default")]
    pub sign_work: bool,
    /// Name of the TLS client configuration used to reach the executor.
    #[serde(rename = "TLSClient", deserialize_with = "or_default")]
    pub tls_client: String,
    /// The unit must have started before this time (RFC 3339); [`NO_EXPIRATION`] if it has all the time.
    #[serde(rename = "Expiration", deserialize_with = "or_default")]
    pub expiration: String,
    /// Ours: the whole of stdin is here.
    #[serde(
        rename = "StdinComplete",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub stdin_complete: bool,
    /// Ours.
    #[serde(flatten)]
    pub times: Times,
    /// Ours: the executor may have heard of the unit. Set before it does, never cleared.
    #[serde(
        rename = "Contacted",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub contacted: bool,
    /// Ours: the boot of the machine in which the unit was made. In another one what `stdout` holds beyond `StdoutSize` may
    /// never have been written.
    #[serde(
        rename = "BootID",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub boot_id: String,
    /// Ours: another node had submitted the unit.
    #[serde(
        rename = "Adopted",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub adopted: bool,
    /// Ours: first byte of output that is here.
    #[serde(
        rename = "OutputFrom",
        deserialize_with = "or_default",
        skip_serializing_if = "is_zero"
    )]
    pub output_from: u64,
    /// Ours: exit code of the command.
    #[serde(rename = "ExitCode", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Ours: number of the signal that killed the command.
    #[serde(rename = "Signal", skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Keys of others, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for RemoteExtra {
    fn default() -> Self {
        Self {
            remote_node: String::new(),
            remote_work_type: String::new(),
            remote_params: BTreeMap::new(),
            remote_unit_id: String::new(),
            remote_started: false,
            local_cancelled: false,
            local_released: false,
            sign_work: false,
            tls_client: String::new(),
            expiration: NO_EXPIRATION.into(),
            stdin_complete: false,
            times: Times::default(),
            contacted: false,
            boot_id: String::new(),
            adopted: false,
            output_from: 0,
            exit_code: None,
            signal: None,
            other: Map::new(),
        }
    }
}

/// Parameters may be secret: only their names are shown.
impl fmt::Debug for RemoteExtra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteExtra")
            .field("remote_node", &self.remote_node)
            .field("remote_work_type", &self.remote_work_type)
            .field("remote_params", &self.remote_params.keys())
            .field("remote_unit_id", &self.remote_unit_id)
            .field("remote_started", &self.remote_started)
            .field("local_cancelled", &self.local_cancelled)
            .field("local_released", &self.local_released)
            .field("stdin_complete", &self.stdin_complete)
            .field("contacted", &self.contacted)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// Go reads `null` as the zero value.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature serde asks for
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

/// Checksums are text: JSON readers that know only floating point would round a number of 64 bits.
mod hex {
    use alloc::format;
    use alloc::string::String;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, clippy::ref_option)] // the signature serde asks for
    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| format!("{value:016x}")).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parse =
            |text: String| u64::from_str_radix(&text, 16).map_err(|_| D::Error::custom("checksum is not hexadecimal"));
        text.map(parse).transpose()
    }
}
