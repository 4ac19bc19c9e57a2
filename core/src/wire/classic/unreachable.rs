//! The payload of unreachable messages (`wire.md` §18).

use alloc::string::String;
use alloc::vec::Vec;

use super::json::{Reader, key_is, write_string};
use super::route::read_text;
use crate::wire::WireError;

/// Says that a data message could not be delivered, and why. Travels as payload of a data message from `unreach` to `unreach`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unreachable {
    /// Source node of the offending message.
    pub from_node: String,
    /// Its destination node.
    pub to_node: String,
    /// Its source service.
    pub from_service: String,
    /// Its destination service.
    pub to_service: String,
    /// One of the texts below, or whatever a stranger wrote.
    pub problem: String,
}

impl Unreachable {
    /// Nobody listens on the destination service.
    pub const SERVICE_UNKNOWN: &'static str = "service unknown";
    /// The message ran out of hops.
    pub const MESSAGE_EXPIRED: &'static str = "message expired";
    /// A firewall rule rejected the message.
    pub const BLOCKED_BY_FIREWALL: &'static str = "blocked by firewall";
    /// A link on the way does not carry a message of this length. Of ours only: classic nodes lose it.
    pub const TOO_LONG: &'static str = "message too long";

    /// Reads a payload, which has no kind byte.
    ///
    /// # Errors
    /// What makes a classic node discard the message: text that is not JSON, a value of the wrong type.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        let mut reader = Reader::new(payload, "unreachable message");
        reader.object(|value, key| match key {
            _ if key_is(key, "FromNode") => read_text(value, &mut message.from_node),
            _ if key_is(key, "ToNode") => read_text(value, &mut message.to_node),
            _ if key_is(key, "FromService") => read_text(value, &mut message.from_service),
            _ if key_is(key, "ToService") => read_text(value, &mut message.to_service),
            _ if key_is(key, "Problem") => read_text(value, &mut message.problem),
            _ => value.skip().map(drop),
        })?;
        reader.end()?;
        Ok(message)
    }

    /// The payload.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = String::with_capacity(160);
        for (key, value) in [
            ("{\"FromNode\":", &self.from_node),
            (",\"ToNode\":", &self.to_node),
            (",\"FromService\":", &self.from_service),
            (",\"ToService\":", &self.to_service),
            (",\"Problem\":", &self.problem),
        ] {
            out.push_str(key);
            write_string(&mut out, value);
        }
        out.push('}');
        out.into_bytes()
    }
}
