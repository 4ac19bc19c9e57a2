//! Service advertisements of all nodes, the own ones included, and tombstones of withdrawn ones (`wire.md` §9, §16).
//!
//! Two times belong to an entry. Its *version* orders what the origin said; nodes of ours compare that among themselves.
//! Its *classic time* is the newest `Time` that classic nodes have been told: it runs ahead of the version when a border
//! refreshes an advertisement for them every minute, and whatever is said to them next must be later still.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use super::names::{Index, Names, OWN};
use crate::time::{Instant, Wall};
use crate::wire::classic::{AdvertTime, Advertisement};
use crate::wire::extended::Digest;

/// A service of a node.
pub(super) type Key = (Index, Arc<str>);

/// Bytes of text that all advertisements together may hold: 64 MiB.
const MAX_TEXT: usize = 64 << 20;

/// Longest service name kept, in bytes. Legal ones have at most 8.
pub(super) const MAX_SERVICE: usize = 255;

/// How long a refresh by another border makes an own one needless.
const REFRESHED: Duration = Duration::from_secs(90);

/// `status` shows times of live advertisements at most this old.
const SHOWN_AGE: u64 = 60_000_000_000;

/// One advertisement, or the tombstone of one (`cancel`).
#[derive(Debug)]
pub(super) struct Entry {
    /// As the origin said it; its time is the version.
    pub(super) advert: Advertisement,
    classic_time: i128,
    refreshed: Option<Instant>,
}

impl Entry {
    /// Whether one of our nodes is the origin. Such advertisements are refreshed by borders, not by flooding.
    fn is_ours(&self) -> bool {
        self.advert.ext.is_some()
    }

    /// The message for classic nodes.
    pub(super) fn classic(&self) -> Advertisement {
        let mut advert = self.advert.clone();
        if self.classic_time != advert.time.nanos() {
            advert.time = at(self.classic_time);
        }
        advert
    }

    /// The time to show: of our nodes' services at most a minute old while the origin is reachable (`lost` is `None`), and
    /// as it was then when it no longer is.
    fn shown(&self, wall: Wall, reachable: bool, lost: Option<Wall>) -> AdvertTime {
        let until = match lost {
            _ if reachable => wall,
            Some(lost) => lost,
            None => return self.advert.time.clone(),
        };
        if !self.is_ours() {
            return self.advert.time.clone();
        }
        let version = self.advert.time.wall().as_nanos();
        let Some(age) = until.as_nanos().checked_sub(version) else {
            return self.advert.time.clone();
        };
        AdvertTime::from_wall(Wall::from_nanos(version + age / SHOWN_AGE * SHOWN_AGE))
    }
}

fn at(nanos: i128) -> AdvertTime {
    AdvertTime::from_wall(Wall::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)))
}

fn says_the_same(a: &Advertisement, b: &Advertisement) -> bool {
    (a.cancel, a.conn_type) == (b.cancel, b.conn_type)
        && (a.cancel || (&a.tags, &a.work_commands) == (&b.tags, &b.work_commands))
}

fn weight(advert: &Advertisement) -> usize {
    let tags = advert.tags.iter().flatten().map(|(k, v)| k.len() + v.len());
    let work = advert.work_commands.iter().flatten().map(|w| w.work_type.len());
    64 + advert.service.len() + tags.chain(work).map(|n| n + 48).sum::<usize>()
}

/// What an advertisement on offer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AdvertOffer {
    /// Not later than what is known.
    Stale,
    /// Later, but says nothing new: of interest to classic nodes.
    Refresh,
    /// News, now stored.
    News,
    /// News, but there is no room.
    Full,
}

/// All advertisements, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct Adverts {
    entries: BTreeMap<Key, Entry>,
    digest: Digest,
    limit: usize,
    bytes: usize,
    /// Tombstones, the oldest first.
    tombs: BTreeSet<(i128, Key)>,
    /// The latest time of a tombstone that had to be forgotten. What is older and not known may have been withdrawn, and it
    /// may be coming around once more.
    horizon: i128,
}

impl Adverts {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            digest: Digest::default(),
            limit,
            bytes: 0,
            tombs: BTreeSet::new(),
            horizon: i128::MIN,
        }
    }

    pub(super) fn get(&self, node: Index, service: &str) -> Option<&Entry> {
        // Ranges over a borrowed pair are not possible, and a short name is cheap to copy.
        self.entries.get(&(node, Arc::from(service)))
    }

    pub(super) fn by_key(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Everything, tombstones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Live advertisements.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().filter(|(_, entry)| !entry.advert.cancel)
    }

    /// Of live advertisements. Tombstones do not count: they may be forgotten at different times.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Takes an advertisement that came over a link between our nodes.
    pub(super) fn offer(&mut self, names: &Names, node: Index, advert: Advertisement) -> AdvertOffer {
        match self.get(node, &advert.service) {
            Some(known) if advert.time <= known.advert.time => AdvertOffer::Stale,
            _ => self.store(names, node, advert),
        }
    }

    /// Takes an advertisement as classic nodes send it.
    pub(super) fn offer_classic(
        &mut self,
        names: &Names,
        now: Instant,
        node: Index,
        advert: Advertisement,
    ) -> AdvertOffer {
        let key = (node, Arc::from(advert.service.as_str()));
        let Some(known) = self.entries.get_mut(&key) else {
            return self.store(names, node, advert);
        };
        let time = advert.time.nanos();
        if time <= known.classic_time.max(known.advert.time.nanos()) {
            return AdvertOffer::Stale;
        }
        let ours = known.is_ours() && advert.ext.is_some();
        if ours && says_the_same(&known.advert, &advert) {
            known.classic_time = time;
            known.refreshed = Some(now);
            return AdvertOffer::Refresh;
        }
        self.store(names, node, advert)
    }

    /// Replaces what is known; the version is the caller's concern.
    pub(super) fn store(&mut self, names: &Names, node: Index, mut advert: Advertisement) -> AdvertOffer {
        if advert.cancel {
            // What a tombstone need not keep.
            (advert.tags, advert.work_commands) = (None, None);
        }
        let key: Key = (node, Arc::from(advert.service.as_str()));
        let old = self.entries.get(&key);
        let freed = old.map_or(0, |old| weight(&old.advert));
        let old_is_known = old.is_some();
        let time = advert.time.nanos();
        let classic_time = old.map_or(time, |old| time.max(old.classic_time + 1));
        if !old_is_known && advert.cancel && time <= self.horizon {
            return AdvertOffer::Stale;
        }
        let full = |adverts: &Self| {
            let count = adverts.entries.len() + usize::from(!adverts.entries.contains_key(&key));
            count > adverts.limit || adverts.bytes - freed + weight(&advert) > MAX_TEXT
        };
        // What this node itself offers always has room: the embedding program limits it.
        while full(self) && (node != OWN || advert.cancel) {
            // Nothing is forgotten for the sake of a withdrawal of what was not known, nor of what may be withdrawn itself:
            // each would make the other pass for news again, and neither would die out.
            let worth_it = old_is_known || (!advert.cancel && time > self.horizon);
            if !worth_it || !self.bury_oldest(&key) {
                return AdvertOffer::Full;
            }
        }
        self.remove(names, &key);
        self.bytes += weight(&advert);
        if advert.cancel {
            self.tombs.insert((time, key.clone()));
        } else {
            self.toggle(names, &key, &advert);
        }
        self.entries.insert(
            key,
            Entry {
                advert,
                classic_time,
                refreshed: None,
            },
        );
        AdvertOffer::News
    }

    fn toggle(&mut self, names: &Names, key: &Key, advert: &Advertisement) {
        let stamp = match advert.ext {
            Some(_) => u64::try_from(advert.time.nanos().max(0)).unwrap_or(u64::MAX),
            None => 0,
        };
        self.digest.toggle_advert(names.id(key.0).as_str(), &key.1, stamp);
    }

    fn remove(&mut self, names: &Names, key: &Key) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= weight(&old.advert);
            if old.advert.cancel {
                self.tombs.remove(&(old.advert.time.nanos(), key.clone()));
            } else {
                self.toggle(names, key, &old.advert);
            }
        }
    }

    /// Makes room by forgetting the oldest tombstone other than `keep`. `false` if there is none.
    fn bury_oldest(&mut self, keep: &Key) -> bool {
        let Some((time, key)) = self.tombs.iter().find(|(_, key)| key != keep).cloned() else {
            return false;
        };
        if let Some(old) = self.entries.remove(&key) {
            self.bytes -= weight(&old.advert);
        }
        self.horizon = self.horizon.max(time);
        self.tombs.remove(&(time, key))
    }

    /// Notes that the classic side has heard a later time for an entry, without any news.
    pub(super) fn rise_above(&mut self, key: &Key, time: i128) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.classic_time = entry.classic_time.max(time);
        }
    }

    /// The latest time said of a service anywhere.
    pub(super) fn latest(&self, node: Index, service: &str) -> Option<i128> {
        let entry = self.get(node, service)?;
        Some(entry.classic_time.max(entry.advert.time.nanos()))
    }

    /// The minute's refresh for classic nodes of what one of our nodes advertises, or `None` if it is not this node's turn:
    /// the origin is classic, or another border did it lately.
    pub(super) fn refresh(&mut self, key: &Key, now: Instant, wall: Wall) -> Option<Advertisement> {
        let entry = self.entries.get_mut(key)?;
        let done = entry.refreshed.is_some_and(|at| now.since(at) < REFRESHED);
        if entry.advert.cancel || !entry.is_ours() || done {
            return None;
        }
        let shown = entry.shown(wall, true, None).nanos();
        entry.classic_time = shown.max(entry.classic_time + 1);
        Some(entry.classic())
    }

    /// The time that `status` shows, see [`Entry::shown`].
    pub(super) fn shown_time(entry: &Entry, wall: Wall, reachable: bool, lost: Option<Wall>) -> String {
        entry.shown(wall, reachable, lost).as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::classic::Ext;
    use alloc::format;
    use alloc::string::ToString;

    fn advert(secs: u64, cancel: bool, ours: bool) -> Advertisement {
        Advertisement {
            node_id: "a".into(),
            service: "svc".into(),
            time: AdvertTime::from_wall(Wall::from_secs(secs)),
            cancel,
            ext: ours.then(|| Ext::new(1).with_epoch(5)),
            ..Advertisement::default()
        }
    }

    fn with_node() -> (Names, Adverts) {
        let mut names = Names::new("own".into(), 10, 1);
        names.intern("a");
        (names, Adverts::new(3))
    }

    #[test]
    fn a_withdrawal_is_taken_once_and_never_revived() {
        let (names, mut adverts) = with_node();
        let mut offer = |secs, cancel| adverts.offer_classic(&names, Instant::ZERO, 1, advert(secs, cancel, false));
        assert_eq!(offer(10, false), AdvertOffer::News);
        assert_eq!(offer(10, false), AdvertOffer::Stale);
        assert_eq!(offer(20, true), AdvertOffer::News);
        assert_eq!(offer(20, true), AdvertOffer::Stale);
        assert_eq!(offer(15, false), AdvertOffer::Stale);
        assert_eq!(offer(21, false), AdvertOffer::News);
    }

    #[test]
    fn a_refresh_of_our_kind_is_no_news_and_leaves_the_digest_alone() {
        let (names, mut adverts) = with_node();
        assert_eq!(adverts.offer(&names, 1, advert(10, false, true)), AdvertOffer::News);
        let digest = adverts.digest();
        let refresh = advert(70, false, true);
        assert_eq!(
            adverts.offer_classic(&names, Instant::ZERO, 1, refresh),
            AdvertOffer::Refresh
        );
        assert_eq!(adverts.digest(), digest);
        assert_eq!(
            adverts.offer(&names, 1, advert(20, true, true)),
            AdvertOffer::News,
            "the version counts"
        );
        let told = adverts.get(1, "svc").unwrap().classic();
        assert!(
            told.time.nanos() > 70_000_000_000,
            "classic nodes hear a later time than before"
        );
        assert_eq!(adverts.digest(), Digest::default());
    }

    #[test]
    fn refreshes_for_classic_nodes_rise_strictly() {
        let (names, mut adverts) = with_node();
        adverts.offer(&names, 1, advert(10, false, true));
        let key: Key = (1, "svc".into());
        let mut last = 0;
        for secs in [11, 12, 70, 71, 130, 5] {
            let told = adverts.refresh(&key, Instant::ZERO, Wall::from_secs(secs)).unwrap();
            assert!(told.time.nanos() > last);
            last = told.time.nanos();
        }
        assert!(last < 131_000_000_000);
    }

    #[test]
    fn shown_times_are_at_most_a_minute_old_and_freeze() {
        let (names, mut adverts) = with_node();
        adverts.offer(&names, 1, advert(10, false, true));
        let entry = adverts.get(1, "svc").unwrap();
        let show = |secs, reachable, lost: Option<u64>| {
            Adverts::shown_time(entry, Wall::from_secs(secs), reachable, lost.map(Wall::from_secs))
        };
        assert_eq!(show(69, true, None), "1970-01-01T00:00:10Z");
        assert_eq!(show(3610, true, None), "1970-01-01T01:00:10Z");
        assert_eq!(show(9999, false, Some(75)), "1970-01-01T00:01:10Z");
        assert_eq!(show(9999, false, None), "1970-01-01T00:00:10Z");
    }

    #[test]
    fn tombstones_make_room_and_live_ones_do_not() {
        let (names, mut adverts) = with_node();
        let named = |n: u64, cancel| Advertisement {
            service: format!("s{n}"),
            ..advert(n, cancel, false)
        };
        for n in 1..=3 {
            assert_eq!(adverts.offer(&names, 1, named(n, n == 2)), AdvertOffer::News);
        }
        assert_eq!(adverts.offer(&names, 1, named(4, false)), AdvertOffer::News);
        assert!(adverts.get(1, "s2").is_none());
        assert_eq!(adverts.offer(&names, 1, named(5, false)), AdvertOffer::Full);
        assert_eq!(
            adverts.offer(&names, 1, named(6, true)),
            AdvertOffer::Full,
            "nothing to withdraw"
        );
        let left: alloc::vec::Vec<_> = adverts.iter().map(|(k, _)| k.1.to_string()).collect();
        assert_eq!(left, ["s1", "s3", "s4"]);
    }

    #[test]
    fn what_was_forgotten_for_want_of_room_is_no_news_when_it_comes_around_again() {
        let (names, mut adverts) = with_node();
        let named = |service: u64, secs: u64, cancel| Advertisement {
            service: format!("s{service}"),
            ..advert(secs, cancel, false)
        };
        let mut round = |turn: u64| {
            let mut news = 0;
            for service in 0..20 {
                for cancel in [false, true] {
                    let said = named(service, 10 + 2 * service + u64::from(cancel), cancel);
                    let offer = adverts.offer_classic(&names, Instant::from_millis(turn), 1, said);
                    news += usize::from(offer == AdvertOffer::News);
                }
            }
            news
        };
        assert_eq!(round(1), 40, "each is news once");
        assert_eq!((round(2), round(3)), (0, 0));
    }
}
