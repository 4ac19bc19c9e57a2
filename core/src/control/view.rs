//! Plain data of the longer answers, and their JSON (`control.md` §4, §6.3).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::text::STATUS_MEMBERS;
use crate::id::NodeId;

/// A number that is written without fraction when it has none (`control.md` §2.3).
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.0 as i64;
        // Beyond 2^63 the cast saturates; such values stay in floating-point form.
        if whole as f64 == self.0 && whole != i64::MAX {
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// Any JSON value under the same rule.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) if number.is_f64() => {
                Number(number.as_f64().unwrap_or_default()).serialize(serializer)
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Plain(item))?;
                }
                list.end()
            }
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &Plain(value))?;
                }
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// What the answer to `status` shows.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusView {
    /// As printed by `--version`.
    pub version: String,
    /// Logical CPUs.
    pub system_cpu_count: u64,
    /// Total memory in MiB, rounded down.
    pub system_memory_mib: u64,
    /// The own ID.
    pub node_id: NodeId,
    /// Direct neighbours.
    pub connections: Vec<ConnectionView>,
    /// Destination to next hop, without the own node.
    pub routing_table: BTreeMap<NodeId, NodeId>,
    /// All known services, own ones included.
    pub advertisements: Vec<AdvertisementView>,
    /// Node to neighbour to cost, own node included as soon as it had a connection.
    pub known_connection_costs: BTreeMap<NodeId, BTreeMap<NodeId, f64>>,
    /// Limits of units. Not in the full answer: members are named to get it.
    pub work_limits: Option<Value>,
    /// Counts of units, under the same rule.
    pub work_units: Option<Value>,
}

/// A direct neighbour.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnectionView {
    /// Its ID.
    pub node_id: NodeId,
    /// Cost of the connection.
    pub cost: f64,
}

/// One advertised service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AdvertisementView {
    /// Where it is.
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    /// Its name.
    pub service: String,
    /// When it was advertised, RFC 3339 with up to nine fraction digits; for own services the time of the answer.
    pub time: String,
    /// 0 datagram, 1 stream, 2 stream with user TLS.
    pub conn_type: u8,
    /// Tags, `null` if `None`.
    pub tags: Option<BTreeMap<String, String>>,
    /// Work types of the node, `null` if `None`.
    pub work_commands: Option<Vec<WorkCommandView>>,
}

/// One advertised work type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WorkCommandView {
    /// Its name.
    pub work_type: String,
    /// Whether it demands signatures.
    pub secure: bool,
}

impl Serialize for ConnectionView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("NodeID", &self.node_id)?;
        map.serialize_entry("Cost", &Number(self.cost))?;
        map.end()
    }
}

impl StatusView {
    /// The members of the answer, restricted to `fields` if given; unknown names are skipped.
    pub fn members<'a>(&'a self, fields: Option<&'a [String]>) -> impl Serialize + 'a {
        StatusMembers { view: self, fields }
    }
}

struct StatusMembers<'a> {
    view: &'a StatusView,
    fields: Option<&'a [String]>,
}

impl Serialize for StatusMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.view;
        let mut map = serializer.serialize_map(None)?;
        for name in STATUS_MEMBERS {
            if self.fields.is_some_and(|fields| !fields.iter().any(|f| f == name)) {
                continue;
            }
            match name {
                "Advertisements" => map.serialize_entry(name, &view.advertisements)?,
                "Connections" => map.serialize_entry(name, &view.connections)?,
                "KnownConnectionCosts" => map.serialize_entry(name, &Costs(&view.known_connection_costs))?,
                "NodeID" => map.serialize_entry(name, &view.node_id)?,
                "RoutingTable" => map.serialize_entry(name, &view.routing_table)?,
                "SystemCPUCount" => map.serialize_entry(name, &view.system_cpu_count)?,
                "SystemMemoryMiB" => map.serialize_entry(name, &view.system_memory_mib)?,
                _ => map.serialize_entry(name, &view.version)?,
            }
        }
        let extras = [("WorkLimits", &view.work_limits), ("WorkUnits", &view.work_units)];
        for (name, value) in extras {
            if let Some(value) = value
                && self.fields.is_some_and(|fields| fields.iter().any(|f| f == name))
            {
                map.serialize_entry(name, &Plain(value))?;
            }
        }
        map.end()
    }
}

struct Costs<'a>(&'a BTreeMap<NodeId, BTreeMap<NodeId, f64>>);

impl Serialize for Costs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(node, costs)| (node, NodeCosts(costs))))
    }
}

struct NodeCosts<'a>(&'a BTreeMap<NodeId, f64>);

impl Serialize for NodeCosts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(node, &cost)| (node, Number(cost))))
    }
}

/// What the answer to `work status` shows.
#[derive(Clone, PartialEq, Debug)]
pub struct UnitStatus {
    /// 0 Pending, 1 Running, 2 Succeeded, 3 Failed, 4 Canceled.
    pub state: u8,
    /// Human text.
    pub detail: String,
    /// Bytes of output so far.
    pub stdout_size: u64,
    /// Work type, `remote` for a remote submission.
    pub work_type: String,
    /// What the work type adds, without secrets.
    pub extra: Value,
}

impl UnitStatus {
    /// The state in words.
    pub fn state_name(&self) -> String {
        match self.state {
            0 => "Pending".into(),
            1 => "Running".into(),
            2 => "Succeeded".into(),
            3 => "Failed".into(),
            4 => "Canceled".into(),
            other => format!("Unknown: {other}"),
        }
    }
}

impl Serialize for UnitStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("Detail", &self.detail)?;
        map.serialize_entry("ExtraData", &Plain(&self.extra))?;
        map.serialize_entry("State", &self.state)?;
        map.serialize_entry("StateName", &self.state_name())?;
        map.serialize_entry("StdoutSize", &self.stdout_size)?;
        map.serialize_entry("WorkType", &self.work_type)?;
        map.end()
    }
}
