//! Own services on offer, and what is heard of others' (`wire.md` §16).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::adverts::{AdvertOffer, Key, MAX_SERVICE};
use super::names::{Index, OWN};
use super::{MAX_AHEAD, Router};
use crate::id::LinkId;
use crate::time::{Now, Wall};
use crate::wire::classic::{AdvertTime, Advertisement, Ext, WorkCommand};

/// Services that others think we have: more at one time are not answered.
pub(super) const MAX_STRAYS: usize = 256;

/// Between hearing of a service that we do not have and withdrawing it. A restarted node may be about to offer it.
const STRAY_DELAY: Duration = Duration::from_secs(5);

/// A service of this node that is advertised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnService {
    conn_type: u8,
    tags: Option<BTreeMap<String, String>>,
    work_commands: Option<Vec<WorkCommand>>,
}

impl Router {
    /// Advertises a service of this node, or changes what is said of it. Between our nodes at once, without repetition.
    pub fn advertise(
        &mut self,
        now: Now,
        service: &str,
        conn_type: u8,
        tags: Option<BTreeMap<String, String>>,
        work_commands: Option<Vec<WorkCommand>>,
    ) {
        let offered = OwnService {
            conn_type,
            tags,
            work_commands,
        };
        let name: Arc<str> = Arc::from(service);
        if self.own_services.get(&name) != Some(&offered) {
            self.own_services.insert(name.clone(), offered);
            self.publish(now, &name);
        }
    }

    /// Withdraws the advertisement of a service of this node. Harmless if there is none.
    pub fn withdraw(&mut self, now: Now, service: &str) {
        if self.own_services.remove(service).is_some() {
            self.publish(now, service);
        }
    }

    /// After the beginning of a run: advertisements name the run.
    pub(super) fn publish_all(&mut self, now: Now) {
        let names: Vec<Arc<str>> = self.own_services.keys().cloned().collect();
        for name in names {
            self.publish(now, &name);
        }
    }

    /// Says what is true of an own service, later than anything that was said of it before.
    fn publish(&mut self, now: Now, service: &str) {
        if !self.own.has_begun() {
            return;
        }
        let latest = self.adverts.latest(OWN, service).map_or(0, |t| t + 1);
        let nanos = u64::try_from(latest.max(0))
            .unwrap_or(u64::MAX)
            .max(now.wall.as_nanos());
        let offered = self.own_services.get(service);
        let advert = Advertisement {
            node_id: self.node_id().as_str().into(),
            service: service.into(),
            time: AdvertTime::from_wall(Wall::from_nanos(nanos)),
            conn_type: match offered {
                Some(offered) => offered.conn_type,
                None => self.adverts.get(OWN, service).map_or(0, |e| e.advert.conn_type),
            },
            tags: offered.and_then(|o| o.tags.clone()),
            work_commands: offered.and_then(|o| o.work_commands.clone()),
            cancel: offered.is_none(),
            ext: Some(Ext::new(self.capabilities).with_epoch(self.own.epoch)),
        };
        match self.adverts.store(&self.names, OWN, advert) {
            AdvertOffer::Full => self.log_adverts_full(now.mono),
            _ => {
                self.database_changed = now.mono;
                self.mark_advert(now, &(OWN, service.into()), None);
            }
        }
    }

    /// An advertisement or withdrawal came over an accepted link in the classic form.
    pub fn on_advert(&mut self, now: Now, from: LinkId, frame: &[u8]) {
        if !self.neighbours.contains_key(&from) {
            return;
        }
        let advert = match Advertisement::parse(frame) {
            Ok(advert) => advert,
            Err(error) => {
                self.log_limited(now.mono, || alloc::format!("service advertisement ignored: {error}"));
                return;
            }
        };
        let Some(node) = self.acceptable(now, &advert) else {
            return;
        };
        let key: Key = (node, advert.service.as_str().into());
        if node == OWN {
            self.on_own_advert(now, &key, &advert);
            return;
        }
        let offer = self.adverts.offer_classic(&self.names, now.mono, node, advert);
        match offer {
            AdvertOffer::Stale => return,
            AdvertOffer::Full => {
                self.log_adverts_full(now.mono);
                return;
            }
            AdvertOffer::Refresh => {}
            AdvertOffer::News => {
                self.database_changed = now.mono;
                self.mark(now, Some(from), |n| n.extended && n.dirty_adverts.insert(key.clone()));
            }
        }
        for link in self.links(false) {
            if link != from {
                self.send(link, frame);
            }
        }
    }

    /// Checks what is the same for both forms, and merges capabilities before anything is dropped as a duplicate.
    pub(super) fn acceptable(&mut self, now: Now, advert: &Advertisement) -> Option<Index> {
        let ahead = i128::from((now.wall + MAX_AHEAD).as_nanos());
        let bad = if advert.node_id.is_empty() || advert.service.is_empty() {
            "no name"
        } else if advert.service.len() > MAX_SERVICE {
            "its service name is too long"
        } else if advert.time.nanos() > ahead {
            "its time is more than 24 h ahead"
        } else {
            let node = self.names.intern(&advert.node_id);
            if node.is_none() {
                self.log_full(now.mono);
            }
            if let (Some(node), Some(ext)) = (node, advert.ext)
                && ext.epoch != 0
                && !self.is_ahead(now, ext.epoch)
            {
                self.learn_capabilities(now, node, ext.epoch, ext.capabilities);
            }
            return node;
        };
        self.log_limited(now.mono, || {
            alloc::format!("service advertisement of node {:?} ignored: {bad}", advert.node_id)
        });
        None
    }

    /// Somebody tells us of a service of ours: an echo, a border's refresh, or a relic of an earlier run, which nobody but
    /// us can withdraw.
    pub(super) fn on_own_advert(&mut self, now: Now, key: &Key, advert: &Advertisement) {
        let time = advert.time.nanos();
        if self.adverts.latest(OWN, &key.1).is_some_and(|latest| time <= latest) {
            return;
        }
        if self.is_true(key, advert) {
            self.adverts.rise_above(key, time);
        } else if self.strays.len() < MAX_STRAYS || self.strays.contains_key(&key.1) {
            self.strays.insert(key.1.clone(), time);
            self.strays_due.request(now.mono + STRAY_DELAY);
        }
    }

    /// Whether an advertisement of a service of ours says what we say.
    fn is_true(&self, key: &Key, advert: &Advertisement) -> bool {
        match self.own_services.get(&key.1) {
            Some(own) => {
                !advert.cancel
                    && own.conn_type == advert.conn_type
                    && own.tags == advert.tags
                    && own.work_commands == advert.work_commands
            }
            None => advert.cancel,
        }
    }

    /// Says the truth about services of which something else was heard.
    pub(super) fn withdraw_strays(&mut self, now: Now) {
        for (service, time) in core::mem::take(&mut self.strays) {
            let key: Key = (OWN, service.clone());
            if self.adverts.by_key(&key).is_none() {
                // A place to note the time in, so that the withdrawal is later.
                let relic = Advertisement {
                    node_id: self.node_id().as_str().into(),
                    service: service.as_ref().into(),
                    cancel: true,
                    ..Advertisement::default()
                };
                self.adverts.store(&self.names, OWN, relic);
            }
            self.adverts.rise_above(&key, time);
            self.publish(now, &service);
        }
    }

    /// Every minute, for classic neighbours: own advertisements and those of our other reachable nodes.
    pub(super) fn refresh_adverts(&mut self, now: Now) {
        let classic = self.links(false);
        if classic.is_empty() || !self.own.has_begun() {
            return;
        }
        let live = self.adverts.live().map(|(key, _)| key.clone());
        let keys: Vec<Key> = live
            .filter(|key| key.0 == OWN || self.forwarding.path(key.0).is_some())
            .collect();
        for key in keys {
            let Some(advert) = self.adverts.refresh(&key, now.mono, now.wall) else {
                continue;
            };
            let frame = advert.emit();
            for &link in &classic {
                if self.neighbours[&link].peer != key.0 {
                    self.send(link, &frame);
                }
            }
        }
    }
}
