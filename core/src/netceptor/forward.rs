//! The forwarding table: where a data frame goes, by the hash of its destination.

use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::names::{Index, Names, OWN};
use super::paths::Path;
use crate::id::{LinkId, NameHash};
use crate::time::Wall;

/// Where a data frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// It is for this node.
    Local,
    /// To the next hop over this link.
    Via(LinkId),
    /// There is no route.
    None,
}

/// Next hops by destination. Looked up for every frame, rebuilt when paths change.
#[derive(Debug)]
pub(super) struct Forwarding {
    table: HashMap<NameHash, Route, FixedState>,
    paths: Vec<Option<Path>>,
    /// When a node became unreachable, by index; `None` for those that are reachable or never were.
    lost: Vec<Option<Wall>>,
}

impl Forwarding {
    pub(super) fn new(own: NameHash, seed: u64) -> Self {
        let mut table = HashMap::with_hasher(FixedState::with_seed(seed));
        table.insert(own, Route::Local);
        Self {
            table,
            paths: Vec::new(),
            lost: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn route(&self, destination: NameHash) -> Route {
        self.table.get(&destination).copied().unwrap_or(Route::None)
    }

    pub(super) fn path(&self, node: Index) -> Option<Path> {
        self.paths.get(node as usize).copied().flatten()
    }

    /// When a node was last reachable: `None` if it is now or never was.
    pub(super) fn lost_at(&self, node: Index) -> Option<Wall> {
        self.lost.get(node as usize).copied().flatten()
    }

    /// Next hops by node.
    pub(super) fn routes(&self) -> impl Iterator<Item = (Index, Path)> {
        (0..).zip(&self.paths).filter_map(|(node, path)| Some((node, (*path)?)))
    }

    /// Takes newly computed paths, and leaves the old ones in their place. Returns whether anything changed.
    pub(super) fn replace(&mut self, names: &Names, wall: Wall, paths: &mut Vec<Option<Path>>) -> bool {
        if self.paths == *paths {
            return false;
        }
        self.lost.resize(paths.len().max(self.lost.len()), None);
        core::mem::swap(&mut self.paths, paths);
        for (node, lost) in (0..).zip(&mut self.lost) {
            match self.paths.get(node as usize).copied().flatten() {
                Some(_) => *lost = None,
                None if paths.get(node as usize).copied().flatten().is_some() => *lost = Some(wall),
                None => {}
            }
        }
        self.fill(names);
        true
    }

    /// Takes all routes over a link out at once. Returns whether there were any.
    pub(super) fn forget_link(&mut self, names: &Names, wall: Wall, link: LinkId) -> bool {
        let mut paths = self.paths.clone();
        for path in &mut paths {
            if path.is_some_and(|p| p.link == link) {
                *path = None;
            }
        }
        self.replace(names, wall, &mut paths)
    }

    fn fill(&mut self, names: &Names) {
        self.table.clear();
        for (node, path) in (0..).zip(&self.paths) {
            let hash = names.hash(node);
            // Of two names with one hash the first has it.
            if let Some(path) = path
                && names.by_hash(hash) == Some(node)
            {
                self.table.insert(hash, Route::Via(path.link));
            }
        }
        self.table.insert(names.hash(OWN), Route::Local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_lost_link_takes_its_routes_along_and_the_time_is_kept() {
        let mut names = Names::new("own".into(), 9, 1);
        for name in ["a", "b"] {
            let index = names.intern(name).unwrap();
            names.learn(index);
        }
        let via = |link| {
            Some(Path {
                next: 1,
                link: LinkId(link),
                is_ours: false,
                is_small: false,
            })
        };
        let mut table = Forwarding::new(names.hash(OWN), 1);
        let wall = Wall::from_secs(5);
        assert!(table.replace(&names, wall, &mut vec![None, via(1), via(2)]));
        assert!(!table.replace(&names, wall, &mut vec![None, via(1), via(2)]));
        assert_eq!(table.route(NameHash::of("b")), Route::Via(LinkId(2)));
        assert!(table.forget_link(&names, wall, LinkId(2)));
        assert_eq!(table.route(NameHash::of("b")), Route::None);
        assert_eq!(table.route(NameHash::of("a")), Route::Via(LinkId(1)));
        assert_eq!(table.route(NameHash::of("own")), Route::Local);
        assert_eq!(table.lost_at(2), Some(wall));
        assert_eq!(table.lost_at(1), None);
    }
}
