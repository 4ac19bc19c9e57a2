//! Node IDs, their hashes, and small numbers that stand for them inside one router (`wire.md` §5).

use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::id::{NameHash, NodeId};

/// Stands for a node inside one router. Never leaves it, never reused.
pub(super) type Index = u32;

/// The own node.
pub(super) const OWN: Index = 0;

/// Longest node ID that is taken note of, in bytes: that of the extended protocol. Classic nodes have no limit.
pub(super) const MAX_NAME: usize = 1024;

/// Every node name the router has met. Entries are never removed; there is room for a limited number.
#[derive(Debug)]
pub(super) struct Names {
    ids: Vec<(NodeId, NameHash)>,
    by_name: HashMap<NodeId, Index, FixedState>,
    by_hash: HashMap<NameHash, Index, FixedState>,
    limit: usize,
}

impl Names {
    pub(super) fn new(own: NodeId, limit: usize, seed: u64) -> Self {
        let mut names = Self {
            ids: Vec::new(),
            by_name: HashMap::with_hasher(FixedState::with_seed(seed)),
            by_hash: HashMap::with_hasher(FixedState::with_seed(seed)),
            limit: limit.max(1),
        };
        names.add(own);
        names.learn(OWN);
        names
    }

    /// The number of a name, given out now if it is new; `None` if there is no room for another, or it is too long.
    pub(super) fn intern(&mut self, name: &str) -> Option<Index> {
        if let Some(&index) = self.by_name.get(name) {
            return Some(index);
        }
        (self.ids.len() < self.limit && name.len() <= MAX_NAME).then(|| self.add(NodeId::new(name)))
    }

    fn add(&mut self, id: NodeId) -> Index {
        let index = self.ids.len() as Index;
        self.ids.push((id.clone(), id.hash()));
        self.by_name.insert(id, index);
        index
    }

    /// Lets data messages name this node by its hash. On a collision the first name wins.
    pub(super) fn learn(&mut self, index: Index) {
        self.by_hash.entry(self.hash(index)).or_insert(index);
    }

    pub(super) fn find(&self, name: &str) -> Option<Index> {
        self.by_name.get(name).copied()
    }

    /// The node that data messages mean by `hash`.
    pub(super) fn by_hash(&self, hash: NameHash) -> Option<Index> {
        self.by_hash.get(&hash).copied()
    }

    pub(super) fn id(&self, index: Index) -> &NodeId {
        &self.ids[index as usize].0
    }

    pub(super) fn hash(&self, index: Index) -> NameHash {
        self.ids[index as usize].1
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_names_is_bounded() {
        let mut names = Names::new("own".into(), 3, 7);
        assert_eq!(names.intern("own"), Some(OWN));
        assert_eq!((names.intern("a"), names.intern("b")), (Some(1), Some(2)));
        assert_eq!(names.intern("c"), None);
        assert_eq!(names.intern("a"), Some(1));
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn the_length_of_names_is_bounded() {
        let mut names = Names::new("own".into(), 3, 7);
        assert_eq!(names.intern(&"x".repeat(MAX_NAME + 1)), None);
        assert_eq!(names.intern(&"x".repeat(MAX_NAME)), Some(1));
    }

    #[test]
    fn a_name_that_was_only_mentioned_has_no_hash() {
        let mut names = Names::new("own".into(), 10, 7);
        let foo = names.intern("foo").unwrap();
        assert_eq!(names.by_hash(NameHash::of("foo")), None);
        names.learn(foo);
        assert_eq!(names.by_hash(NameHash::of("foo")), Some(foo));
        assert_eq!(names.by_hash(NameHash::of("own")), Some(OWN));
    }
}
