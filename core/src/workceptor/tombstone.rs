//! What is remembered of units that are gone: that they were released, and what their executors were not told.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::api::Severity;
use super::id::UnitId;
use super::state::State;
use super::unit::Unit;
use super::{Workceptor, unknown_unit};
use crate::time::Wall;
use crate::wire::classic::{AdvertTime, format_rfc3339};

/// Most released units that are remembered; beyond that the oldest are forgotten.
pub const MAX_RELEASED: usize = 10_000;

/// A released unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// The unit.
    pub unit: UnitId,
    /// When its directory went.
    pub at: Wall,
    /// How it had ended.
    pub state: State,
    /// Whether it may have run. The ID of one that never did may be used again.
    pub has_run: bool,
    /// The executor's half, which is still to be released.
    pub owed: Option<Owed>,
}

/// A release that an executor has not heard of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owed {
    /// The executor.
    #[serde(rename = "Node")]
    pub node: String,
    /// Name of the TLS client configuration used to reach it; empty for the anonymous mode.
    #[serde(rename = "TLSClient", default)]
    pub tls_client: String,
    /// The unit's ID there.
    #[serde(rename = "Unit")]
    pub unit: String,
    /// Whether requests to the executor are signed.
    #[serde(rename = "SignWork", default)]
    pub sign_work: bool,
}

/// The text of a tombstone.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "Unit")]
    unit: String,
    #[serde(rename = "Released")]
    at: String,
    #[serde(rename = "State", default)]
    state: State,
    #[serde(rename = "HasRun", default)]
    has_run: bool,
    #[serde(rename = "Owed", default, skip_serializing_if = "Option::is_none")]
    owed: Option<Owed>,
}

impl Tombstone {
    /// One line of JSON with its line feed.
    pub fn to_line(&self) -> Vec<u8> {
        let line = Line {
            unit: self.unit.to_string(),
            at: format_rfc3339(self.at),
            state: self.state,
            has_run: self.has_run,
            owed: self.owed.clone(),
        };
        // There is nothing in it that could not be written.
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a line; `None` if it is damaged, as the last one is that was written before the power went.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line: Line = serde_json::from_slice(line).ok()?;
        Some(Self {
            unit: UnitId::parse(&line.unit)?,
            at: AdvertTime::parse(line.at.as_bytes()).ok()?.wall(),
            state: line.state,
            has_run: line.has_run,
            owed: line.owed,
        })
    }
}

/// Things remembered of units, the last [`MAX_RELEASED`] of them.
#[derive(Debug)]
pub(super) struct Memory<T> {
    by_unit: BTreeMap<UnitId, (u64, T)>,
    by_age: BTreeMap<u64, UnitId>,
    next: u64,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            by_unit: BTreeMap::new(),
            by_age: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Memory<T> {
    /// Remembers `what` in place of what was known of the unit. What has to be forgotten for it comes back.
    pub(super) fn insert(&mut self, unit: UnitId, what: T) -> Option<(UnitId, T)> {
        self.remove(&unit);
        self.by_age.insert(self.next, unit.clone());
        self.by_unit.insert(unit, (self.next, what));
        self.next += 1;
        if self.by_unit.len() <= MAX_RELEASED {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first()?;
        let (_, what) = self.by_unit.remove(&oldest)?;
        Some((oldest, what))
    }

    pub(super) fn get(&self, unit: &UnitId) -> Option<&T> {
        self.by_unit.get(unit).map(|(_, what)| what)
    }

    pub(super) fn get_mut(&mut self, unit: &UnitId) -> Option<&mut T> {
        self.by_unit.get_mut(unit).map(|(_, what)| what)
    }

    pub(super) fn units(&self) -> impl Iterator<Item = &UnitId> {
        self.by_unit.keys()
    }

    pub(super) fn remove(&mut self, unit: &UnitId) {
        if let Some((age, _)) = self.by_unit.remove(unit) {
            self.by_age.remove(&age);
        }
    }
}

impl Workceptor {
    /// What is said of an ID that no unit has. Clients and classic nodes match on the beginning.
    pub(super) fn unknown(&self, text: &str) -> String {
        let mut answer = unknown_unit(text);
        if self.is_released(text) {
            answer.push_str(": already released");
        }
        answer
    }

    /// Whether a unit of this name was released here.
    pub(super) fn is_released(&self, text: &str) -> bool {
        UnitId::parse(text).is_some_and(|id| self.released.get(&id).is_some())
    }

    /// The tombstone of a unit that is about to go.
    pub(super) fn tombstone(&self, id: &UnitId, unit: &Unit) -> Tombstone {
        Tombstone {
            unit: id.clone(),
            at: self.now.wall,
            state: unit.record.state,
            has_run: unit.has_run(),
            owed: owed(id, unit),
        }
    }

    /// A unit is gone.
    pub(super) fn bury(&mut self, tombstone: Tombstone) {
        let forgotten = self.released.insert(tombstone.unit.clone(), tombstone);
        if let Some((id, Tombstone { owed: Some(owed), .. })) = forgotten {
            self.forget_debt(&id, &owed);
            let node = owed.node;
            self.log(
                Severity::Warning,
                format!("unit {id}: released by force, node {node} could not be told, and too many others were released since"),
            );
        }
    }

    /// A submitter has released a unit, or ended one that is not here: its submission may be under way on a session of before,
    /// and must not make a unit that nobody wants. After a restart there is no such session.
    pub(super) fn bar(&mut self, text: &str) {
        if let Some(id) = UnitId::parse(text) {
            self.barred.insert(id, ());
        }
    }

    /// Why a submitter cannot have a unit of this name.
    pub(super) fn refuses(&self, text: &str) -> Option<String> {
        let id = UnitId::parse(text)?;
        let has_run = self.released.get(&id).is_some_and(|tombstone| tombstone.has_run);
        let is_over = has_run || self.barred.get(&id).is_some();
        is_over.then(|| self.unknown(text))
    }
}

fn owed(id: &UnitId, unit: &Unit) -> Option<Owed> {
    let extra = unit.record.extra.remote()?;
    unit.remote.as_ref().filter(|remote| remote.owes)?;
    let name = Some(extra.remote_unit_id.as_str()).filter(|name| !name.is_empty());
    Some(Owed {
        node: extra.remote_node.clone(),
        tls_client: extra.tls_client.clone(),
        unit: name.unwrap_or(id.as_str()).into(),
        sign_work: extra.sign_work,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> UnitId {
        UnitId::parse(&format!("unit{number}")).unwrap()
    }

    #[test]
    fn lines_are_read_as_written_and_torn_ones_are_none() {
        let owed = Owed {
            node: "exec".into(),
            tls_client: "mine".into(),
            unit: "X1".into(),
            sign_work: true,
        };
        for owed in [None, Some(owed)] {
            let tombstone = Tombstone {
                unit: id(1),
                at: Wall::from_secs(1_730_203_265),
                state: State::Canceled,
                has_run: true,
                owed,
            };
            let line = tombstone.to_line();
            assert_eq!(Tombstone::parse(&line), Some(tombstone));
            for end in 0..line.len() - 1 {
                assert_eq!(Tombstone::parse(&line[..end]), None, "{end}");
            }
        }
        let plain = br#"{"Unit":"a1","Released":"2024-10-29T12:01:05Z","State":2,"HasRun":true}"#;
        let read = Tombstone::parse(plain).unwrap();
        assert_eq!(
            (read.at, read.state),
            (Wall::from_secs(1_730_203_265), State::Succeeded)
        );
        for bad in [&b""[..], b"[]", br#"{"Unit":"../x","Released":"2024-10-29T12:01:05Z"}"#] {
            assert_eq!(Tombstone::parse(bad), None);
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut memory = Memory::default();
        for number in 0..MAX_RELEASED {
            assert_eq!(memory.insert(id(number), number), None);
        }
        // Anew, and so not the oldest any more.
        assert_eq!(memory.insert(id(0), 7), None);
        assert_eq!(memory.insert(id(MAX_RELEASED), 8), Some((id(1), 1)));
        assert_eq!((memory.get(&id(0)), memory.get(&id(1))), (Some(&7), None));
        memory.remove(&id(0));
        assert_eq!(memory.by_age.len(), MAX_RELEASED - 1);
        assert_eq!(memory.by_unit.len(), MAX_RELEASED - 1);
    }
}
