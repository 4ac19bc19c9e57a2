//! The routing update (`wire.md` §8).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::ext::Ext;
use super::json::{Reader, key_is, write_float, write_map, write_string, write_unsigned};
use crate::wire::{KIND_ROUTE, WireError};

/// One node's neighbours and costs, and who passed them on.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RoutingUpdate {
    /// The node that the update describes.
    pub node_id: String,
    /// Eight random characters, fresh per update.
    pub update_id: String,
    /// Identifies one run of that node.
    pub epoch: u64,
    /// Counts the updates of this run.
    pub sequence: u64,
    /// Accepted neighbours and link costs; `None` is Go's nil map, written `null`.
    pub connections: Option<BTreeMap<String, f64>>,
    /// The node that put this copy on this link; never send an update without it (`wire.md` §23).
    pub forwarding_node: String,
    /// 0, or the epoch of an impostor (`wire.md` §12.5).
    pub suspected_duplicate: u64,
    /// Present if the origin, and every node that passed the update on, is one of ours.
    pub ext: Option<Ext>,
}

impl RoutingUpdate {
    /// Reads a frame, kind byte included.
    ///
    /// # Errors
    /// What makes a classic node discard the message: text that is not JSON, a value of the wrong type.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        const WHAT: &str = "routing update";
        let mut update = Self::default();
        let mut reader = Reader::new(super::body(frame, KIND_ROUTE, WHAT)?, WHAT);
        reader.object(|value, key| update.read_field(value, key))?;
        reader.end()?;
        Ok(update)
    }

    fn read_field(&mut self, value: &mut Reader<'_>, key: &str) -> Result<(), WireError> {
        match key {
            _ if key_is(key, "NodeID") => read_text(value, &mut self.node_id),
            _ if key_is(key, "UpdateID") => read_text(value, &mut self.update_id),
            _ if key_is(key, "UpdateEpoch") => read_unsigned(value, &mut self.epoch),
            _ if key_is(key, "UpdateSequence") => read_unsigned(value, &mut self.sequence),
            _ if key_is(key, "Connections") => {
                let mut read = BTreeMap::new();
                let some = value.object(|cost, node| {
                    read.insert(node.into(), cost.float()?.unwrap_or(0.0));
                    Ok(())
                })?;
                merge(&mut self.connections, some.then_some(read));
                Ok(())
            }
            _ if key_is(key, "ForwardingNode") => read_text(value, &mut self.forwarding_node),
            _ if key_is(key, "SuspectedDuplicate") => read_unsigned(value, &mut self.suspected_duplicate),
            _ if key_is(key, "Ext") => {
                self.ext = Ext::read(value)?;
                Ok(())
            }
            _ => value.skip().map(drop),
        }
    }

    /// The frame, kind byte included.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = String::with_capacity(192 + self.connections.as_ref().map_or(0, |c| c.len() * 32));
        out.push(char::from(KIND_ROUTE));
        out.push_str("{\"NodeID\":");
        write_string(&mut out, &self.node_id);
        out.push_str(",\"UpdateID\":");
        write_string(&mut out, &self.update_id);
        out.push_str(",\"UpdateEpoch\":");
        write_unsigned(&mut out, self.epoch);
        out.push_str(",\"UpdateSequence\":");
        write_unsigned(&mut out, self.sequence);
        out.push_str(",\"Connections\":");
        write_map(&mut out, self.connections.as_ref(), |out, &cost| write_float(out, cost));
        out.push_str(",\"ForwardingNode\":");
        write_string(&mut out, &self.forwarding_node);
        out.push_str(",\"SuspectedDuplicate\":");
        write_unsigned(&mut out, self.suspected_duplicate);
        if let Some(ext) = &self.ext {
            ext.write(&mut out);
        }
        out.push('}');
        out.into_bytes()
    }
}

/// `null` leaves a field as it was: zero, or what an earlier duplicate of the key said.
pub(super) fn read_text(value: &mut Reader<'_>, field: &mut String) -> Result<(), WireError> {
    if let Some(text) = value.string()? {
        *field = text.into_owned();
    }
    Ok(())
}

fn read_unsigned(value: &mut Reader<'_>, field: &mut u64) -> Result<(), WireError> {
    if let Some(number) = value.unsigned()? {
        *field = number;
    }
    Ok(())
}

/// As in Go, a duplicate map adds to the map that is there, and `null` makes it nil.
pub(super) fn merge<V>(field: &mut Option<BTreeMap<String, V>>, read: Option<BTreeMap<String, V>>) {
    match (field.as_mut(), read) {
        (Some(map), Some(read)) => map.extend(read),
        (_, read) => *field = read,
    }
}
