//! Names and identifiers.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use highway::{HighwayHash, HighwayHasher, Key};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A node ID: UTF-8 text compared byte for byte (`wire.md` §1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Takes any text: what *peers* call themselves is not checked (`wire.md` §1), the own ID is ([`NodeId::check_own`]).
    pub fn new(id: &str) -> Self {
        Self(Arc::from(id))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash that stands for this ID in data messages.
    pub fn hash(&self) -> NameHash {
        NameHash::of(&self.0)
    }

    /// Whether `name` is the alias of the own node, in any letter case.
    pub fn is_localhost(name: &str) -> bool {
        name.eq_ignore_ascii_case("localhost")
    }

    /// Checks an ID meant for the own node.
    ///
    /// # Errors
    /// The text of the classic node: a reserved ID, or a character outside `a-z A-Z 0-9 . - _ @ :`.
    pub fn check_own(id: &str) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':');
        if !id.chars().all(legal) {
            return Err(alloc::format!(
                "node id can only contain a-z, A-Z, 0-9 or special characters . - _ @ : but received: {id}"
            ));
        }
        if Self::is_localhost(id) {
            return Err("node ID \"localhost\" is reserved".into());
        }
        Ok(())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl From<&str> for NodeId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl core::borrow::Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|s| Self(Arc::from(s)))
    }
}

/// HighwayHash-64 of a node ID under the all-zero key; big endian on the wire (`wire.md` §5).
///
/// The key is public, so collisions can be made: never use this value as the hash of a hash table.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameHash(pub u64);

impl NameHash {
    /// Hashes a name. Costs tens of nanoseconds: hash when a name is interned, never per frame.
    pub fn of(name: &str) -> Self {
        Self(HighwayHasher::new(Key([0; 4])).hash64(name.as_bytes()))
    }
}

impl fmt::Debug for NameHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A service name: 1 to 8 bytes, zero-padded as on the wire (`wire.md` §6).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName([u8; 8]);

impl ServiceName {
    /// The ping responder of every node.
    pub const PING: Self = Self(*b"ping\0\0\0\0");
    /// Where unreachable messages go.
    pub const UNREACH: Self = Self(*b"unreach\0");
    /// The control service's default name.
    pub const CONTROL: Self = Self(*b"control\0");

    /// Checks a name given by a user.
    ///
    /// # Errors
    /// Longer than 8 bytes, with the classic text. Empty is legal here and means "choose one".
    pub fn new(name: &str) -> Result<Self, &'static str> {
        if name.len() > 8 {
            return Err("service name too long");
        }
        let mut bytes = [0; 8];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(bytes))
    }

    /// The eight wire bytes.
    pub const fn from_wire(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight wire bytes.
    pub const fn to_wire(self) -> [u8; 8] {
        self.0
    }

    /// The name without its padding; trailing zeros are stripped, embedded ones kept.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
        &self.0[..end]
    }

    /// Whether no name was given.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 8]
    }

    /// Whether the name belongs to the node itself and cannot be listened on (`wire.md` §19).
    pub fn is_reserved(&self) -> bool {
        matches!(*self, Self::PING | Self::UNREACH)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

macro_rules! number_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u64);
    )*};
}

number_id! {
    /// One session with a neighbour over one backend connection. Chosen by the adapter, never used twice.
    LinkId;
    /// One configured backend: a listener or a peer to dial. The index in the configuration.
    BackendId;
    /// One configured service that ties local sockets to mesh streams. The index in the configuration.
    ServiceIndex;
    /// One command of the application, chosen by the adapter and echoed in its one reply.
    CommandId;
    /// One task the core asked of the adapter, echoed in its one result.
    TaskId;
    /// One local byte pipe between the adapter and the core: a control connection or an application's mesh stream.
    PipeId;
    /// One datagram port of an application.
    PortId;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `wire.md` §5.
    #[test]
    fn name_hash_matches_the_published_vectors() {
        for (name, hash) in [
            ("", 0x7035_da75_b9d5_4469),
            ("a", 0xbd6e_fba9_eb78_e61f),
            ("foo", 0xef7a_78b6_7f92_bdf7),
            ("control", 0x3bde_e1e3_b5f2_dbcd),
            ("execution-node-01.example.org", 0x1983_4bdc_9790_d390),
            ("0123456789abcdef0123456789abcdefX", 0xb835_c381_dc45_4560),
            ("nœud-é", 0x98a2_03e2_4df1_0e7e),
        ] {
            assert_eq!(NameHash::of(name).0, hash, "{name}");
        }
    }

    #[test]
    fn service_names_are_padded_and_bounded() {
        assert_eq!(ServiceName::new("control"), Ok(ServiceName::CONTROL));
        assert_eq!(ServiceName::new("12345678").unwrap().as_bytes(), b"12345678");
        assert_eq!(ServiceName::new("123456789"), Err("service name too long"));
    }

    #[test]
    fn own_ids_are_checked_before_the_reserved_name() {
        assert!(NodeId::check_own("edge7.example.net").is_ok());
        assert!(NodeId::check_own("LocalHost").unwrap_err().contains("reserved"));
        assert!(NodeId::check_own("a b").unwrap_err().ends_with("received: a b"));
    }
}
