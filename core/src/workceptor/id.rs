//! The name of a unit, which is also the name of its directory.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::rng::Rng;

/// ASCII letters and digits only (`work.md` §2), so that it can never leave the data directory (`work.md` §19 #2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(Arc<str>);

impl UnitId {
    /// Longest accepted ID in bytes. Release 1.5.5 prefixes its own node ID, so IDs of peers can be long; a directory
    /// name ends at 255.
    pub const MAX_LEN: usize = 200;

    /// Eight random characters; the caller checks that the ID is unused.
    pub fn random(rng: &mut Rng) -> Self {
        let name = rng.name8();
        Self(Arc::from(name.iter().map(|&b| char::from(b)).collect::<String>()))
    }

    /// Accepts what can be a unit ID; `None` for anything else, which then is an unknown unit.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = !text.is_empty() && text.len() <= Self::MAX_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric());
        legal.then(|| Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_and_digits_are_a_unit_id() {
        for bad in ["", "../x", "a/b", ".", "a b", "é", "a.b", &"x".repeat(201)] {
            assert!(UnitId::parse(bad).is_none(), "{bad:?}");
        }
        let id = UnitId::random(&mut Rng::from_seed([7; 32]));
        assert_eq!(id.as_str().len(), 8);
        assert_eq!(UnitId::parse(id.as_str()), Some(id));
    }
}
