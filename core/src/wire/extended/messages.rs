//! The bodies of extended messages and their limits.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::wire::WireError;
use crate::wire::classic::Advertisement;

/// Longest name of a node, service or work type, in bytes. Classic nodes have no limit; what exceeds this one does not cross
/// extended links.
pub(super) const MAX_NAME: usize = 1024;
/// Longest tag of an advertisement, in bytes.
const MAX_TAG: usize = 16 * 1024;
/// Most elements of any list in a message: records, adverts, neighbours, tags, work types.
pub(super) const MAX_ITEMS: usize = 4096;
/// Longest reason of a close, in bytes.
const MAX_REASON: usize = 256;

/// A body that goes into an envelope.
pub(super) trait Body: Serialize + DeserializeOwned {
    const KIND: u8;
    /// Names the message in errors.
    const WHAT: &'static str;

    /// Tests the limits, before writing and after reading.
    fn check(&self) -> Result<(), WireError>;
}

/// Reads a body; what follows the fields known here was appended by a newer node.
pub(super) fn decode<B: Body>(bytes: &[u8]) -> Result<B, WireError> {
    let (body, _appended) = postcard::take_from_bytes::<B>(bytes).map_err(|_| WireError::Malformed(B::WHAT))?;
    body.check()?;
    Ok(body)
}

/// Sent when a link has been quiet, so that both ends know that it works and that their databases agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Keepalive {
    /// [`super::Digest`] of the sender's database.
    pub digest: u64,
    /// Epoch of the sender's own record.
    pub epoch: u64,
    /// Sequence of the sender's own record.
    pub sequence: u64,
}

impl Body for Keepalive {
    const KIND: u8 = 0x40;
    const WHAT: &'static str = "keepalive does not decode";

    fn check(&self) -> Result<(), WireError> {
        Ok(())
    }
}

/// Records that the receiver may not have.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LinkState {
    /// At most 4,096.
    pub records: Vec<Record>,
}

/// What one node said about its links.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The node, at most 1,024 bytes.
    pub node: String,
    /// Identifies one run of that node.
    pub epoch: u64,
    /// Orders the records of this run. From our nodes: change counter in the high 32 bits, refresh counter in the low ones.
    pub sequence: u64,
    /// Accepted neighbours and link costs, at most 4,096; costs are finite.
    pub connections: BTreeMap<String, f64>,
    /// Capability bits of that node in this run; 0 if it is a classic one.
    pub capabilities: u64,
    /// 0, or the epoch of an impostor (`wire.md` §12.5).
    pub suspected_duplicate: u64,
}

impl Record {
    pub(super) fn check(&self) -> Result<(), WireError> {
        name(&self.node)?;
        count("neighbours", self.connections.len())?;
        for (neighbour, cost) in &self.connections {
            name(neighbour)?;
            if !cost.is_finite() {
                return Err(WireError::Malformed("link state: cost is not finite"));
            }
        }
        Ok(())
    }
}

impl Body for LinkState {
    const KIND: u8 = 0x41;
    const WHAT: &'static str = "link state does not decode";

    fn check(&self) -> Result<(), WireError> {
        count("link-state records", self.records.len())?;
        self.records.iter().try_for_each(Record::check)
    }
}

/// Advertisements and withdrawals that the receiver may not have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Adverts {
    /// At most 4,096. Names at most 1,024 bytes, tags at most 16 KiB, at most 4,096 tags and work types each.
    pub adverts: Vec<Advertisement>,
}

pub(super) fn check_advert(advert: &Advertisement) -> Result<(), WireError> {
    name(&advert.node_id)?;
    name(&advert.service)?;
    let tags = advert.tags.iter().flatten();
    count("tags", tags.clone().count())?;
    for (key, value) in tags {
        text("tag", key, MAX_TAG)?;
        text("tag", value, MAX_TAG)?;
    }
    let commands = advert.work_commands.as_deref().unwrap_or_default();
    count("work types", commands.len())?;
    commands.iter().try_for_each(|command| name(&command.work_type))
}

impl Body for Adverts {
    const KIND: u8 = 0x42;
    const WHAT: &'static str = "advertisements do not decode";

    fn check(&self) -> Result<(), WireError> {
        count("advertisements", self.adverts.len())?;
        self.adverts.iter().try_for_each(check_advert)
    }
}

/// What the sender knows, without the contents. The receiver requests what it lacks; what the sender lacks, the sender finds
/// out from the receiver's own summary.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Records, at most 4,096 per message.
    pub nodes: Vec<NodeSummary>,
    /// Advertisements and tombstones, at most 4,096 per message.
    pub adverts: Vec<AdvertSummary>,
    /// Whether more messages of the same summary follow.
    pub more: bool,
}

/// The age of one record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct NodeSummary {
    /// As in [`Record`].
    pub node: String,
    /// As in [`Record`].
    pub epoch: u64,
    /// As in [`Record`].
    pub sequence: u64,
}

/// The age of one advertisement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct AdvertSummary {
    /// The advertising node.
    pub node: String,
    /// The service.
    pub service: String,
    /// Time of the newest advertisement or withdrawal, in nanoseconds since the Unix epoch.
    pub time: i128,
}

impl Body for Summary {
    const KIND: u8 = 0x43;
    const WHAT: &'static str = "summary does not decode";

    fn check(&self) -> Result<(), WireError> {
        count("summarised records", self.nodes.len())?;
        count("summarised advertisements", self.adverts.len())?;
        self.nodes.iter().try_for_each(|entry| name(&entry.node))?;
        self.adverts
            .iter()
            .try_for_each(|entry| name(&entry.node).and_then(|()| name(&entry.service)))
    }
}

/// Asks for records and advertisements; answered by [`LinkState`] and [`Adverts`]. What the receiver does not have is passed over.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// Nodes whose records are wanted, at most 4,096.
    pub nodes: Vec<String>,
    /// Pairs of node and service whose advertisements are wanted, at most 4,096.
    pub adverts: Vec<(String, String)>,
}

impl Body for Request {
    const KIND: u8 = 0x44;
    const WHAT: &'static str = "request does not decode";

    fn check(&self) -> Result<(), WireError> {
        count("requested records", self.nodes.len())?;
        count("requested advertisements", self.adverts.len())?;
        self.nodes.iter().try_for_each(|node| name(node))?;
        self.adverts
            .iter()
            .try_for_each(|(node, service)| name(node).and_then(|()| name(service)))
    }
}

/// Ends a link on purpose. Sent last, where a classic link would get a reject or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Close {
    /// For programs.
    pub code: CloseCode,
    /// For people, at most 256 bytes.
    pub reason: String,
}

impl Body for Close {
    const KIND: u8 = 0x4f;
    const WHAT: &'static str = "close does not decode";

    fn check(&self) -> Result<(), WireError> {
        text("close reason", &self.reason, MAX_REASON)
    }
}

/// Why a link was closed. Codes not named here are legal and mean no more than "closed".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The node shuts down or the backend was removed.
    pub const SHUTDOWN: Self = Self(0);
    /// A message that breaks the protocol.
    pub const PROTOCOL: Self = Self(1);
    /// Nothing was heard for too long.
    pub const IDLE: Self = Self(2);
    /// The two ends disagree about the cost of the link.
    pub const COST: Self = Self(3);
    /// The peer is not among the allowed ones.
    pub const NOT_ALLOWED: Self = Self(4);
    /// There is a session with this peer already.
    pub const ALREADY_CONNECTED: Self = Self(5);
    /// The peer uses the node's own ID.
    pub const OWN_ID: Self = Self(6);
    /// The peer does not list the link any more.
    pub const NOT_LISTED: Self = Self(7);
    /// The peer sends more than the node can hold.
    pub const OVERLOAD: Self = Self(8);
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::SHUTDOWN => "shutdown",
            Self::PROTOCOL => "protocol error",
            Self::IDLE => "idle",
            Self::COST => "cost disagreement",
            Self::NOT_ALLOWED => "peer not allowed",
            Self::ALREADY_CONNECTED => "already connected",
            Self::OWN_ID => "own node ID",
            Self::NOT_LISTED => "link not listed by the peer",
            Self::OVERLOAD => "overload",
            Self(other) => return write!(f, "code {other}"),
        })
    }
}

pub(super) fn name(name: &str) -> Result<(), WireError> {
    text("name", name, MAX_NAME)
}

fn text(what: &'static str, text: &str, limit: usize) -> Result<(), WireError> {
    if text.len() > limit {
        Err(WireError::TooLong {
            what,
            limit,
            got: text.len(),
        })
    } else {
        Ok(())
    }
}

fn count(what: &'static str, len: usize) -> Result<(), WireError> {
    if len > MAX_ITEMS {
        Err(WireError::TooMany { what, limit: MAX_ITEMS })
    } else {
        Ok(())
    }
}
