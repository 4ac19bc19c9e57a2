//! The `Ext` key, by which our own nodes recognise each other inside classic messages.

use alloc::string::String;

use super::json::{Reader, key_is, write_unsigned};
use crate::wire::WireError;

/// The version of the extended protocol that this code speaks.
pub const EXT_VERSION: u64 = 1;

/// Value of the `Ext` key of routing updates and advertisements: `{"V":1,"C":3}`, with `"E"` in advertisements.
///
/// Classic nodes ignore the key. They strip it from the routing updates they pass on, but forward advertisements as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Ext {
    /// `V`: newest version of the extended protocol that the origin speaks; at least 1.
    pub version: u64,
    /// `C`: capability bits of the origin.
    pub capabilities: u64,
    /// `E`: the origin's epoch, which an advertisement does not otherwise tell; 0 (left out) in routing updates.
    pub epoch: u64,
}

impl Ext {
    /// Capability bit: every stream service of the node takes native streams besides QUIC.
    pub const STREAMS: u64 = 1;
    /// Capability bit: the node's control service grants the upgrade to a work session.
    pub const WORK_SESSIONS: u64 = 2;
    /// Capability bit: links of the node may be datagrams, which are cut in pieces on the way, and lost as a whole with any of
    /// them, if a frame is longer than 1,352 bytes.
    pub const DATAGRAMS: u64 = 4;

    /// What a node with these capabilities says in its routing updates.
    pub const fn new(capabilities: u64) -> Self {
        Self {
            version: EXT_VERSION,
            capabilities,
            epoch: 0,
        }
    }

    /// What it says in its advertisements.
    pub const fn with_epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Reads a value leniently: what is JSON but no `Ext` of ours counts as absent, so that no message is lost over it.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, WireError> {
        Ok(Self::parse(reader.skip()?).ok().flatten())
    }

    fn parse(text: &[u8]) -> Result<Option<Self>, WireError> {
        let mut ext = Self {
            version: 0,
            capabilities: 0,
            epoch: 0,
        };
        let mut reader = Reader::new(text, "Ext");
        reader.object(|value, key| {
            let field = match key {
                _ if key_is(key, "V") => &mut ext.version,
                _ if key_is(key, "C") => &mut ext.capabilities,
                _ if key_is(key, "E") => &mut ext.epoch,
                _ => return value.skip().map(drop),
            };
            if let Some(number) = value.unsigned()? {
                *field = number;
            }
            Ok(())
        })?;
        reader.end()?;
        Ok((ext.version > 0).then_some(ext))
    }

    pub(super) fn write(&self, out: &mut String) {
        out.push_str(",\"Ext\":{\"V\":");
        write_unsigned(out, self.version);
        out.push_str(",\"C\":");
        write_unsigned(out, self.capabilities);
        if self.epoch != 0 {
            out.push_str(",\"E\":");
            write_unsigned(out, self.epoch);
        }
        out.push('}');
    }
}
