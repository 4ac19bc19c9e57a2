//! Names of services on this node: datagram ports, stream services and probes share one space (`wire.md` §20).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use crate::id::{PortId, ServiceName};
use crate::rng::Rng;

/// Who gets the messages for a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A datagram port of the application.
    Port(PortId),
    /// Whoever runs streams; messages come back as [`super::DataVerdict::Deliver`].
    Stream,
    /// A ping under way.
    Probe(u64),
}

/// Services by name, bounded.
#[derive(Debug)]
pub(super) struct Ports {
    by_name: BTreeMap<ServiceName, Owner>,
    limit: usize,
}

impl Ports {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
            limit,
        }
    }

    /// Takes a name; an empty one is chosen at random.
    pub(super) fn open(&mut self, name: &str, owner: Owner, rng: &mut Rng) -> Result<ServiceName, String> {
        if self.by_name.len() >= self.limit {
            return Err(alloc::format!("too many services: limit {}", self.limit));
        }
        let mut service = ServiceName::new(name).map_err(ToString::to_string)?;
        if service.is_empty() {
            // Random names collide once in 2^47; the loop ends.
            loop {
                service = ServiceName::from_wire(rng.name8());
                if !self.by_name.contains_key(&service) {
                    break;
                }
            }
        } else if service.is_reserved() || self.by_name.contains_key(&service) {
            return Err(alloc::format!("service {name} is already listening"));
        }
        self.by_name.insert(service, owner);
        Ok(service)
    }

    pub(super) fn close(&mut self, service: ServiceName) -> Option<Owner> {
        self.by_name.remove(&service)
    }

    pub(super) fn owner(&self, service: ServiceName) -> Option<Owner> {
        self.by_name.get(&service).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_short_and_not_reserved() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut ports = Ports::new(3);
        let mut open = |name| ports.open(name, Owner::Stream, &mut rng).map(|s| s.to_string());
        assert_eq!(open("svc"), Ok("svc".into()));
        assert_eq!(open("svc"), Err("service svc is already listening".into()));
        assert_eq!(open("ping"), Err("service ping is already listening".into()));
        assert_eq!(open("unreach"), Err("service unreach is already listening".into()));
        assert_eq!(open("ninechars"), Err("service name too long".into()));
        let random = open("").unwrap();
        assert!(random.len() == 8 && random.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(open("").unwrap(), random);
        assert_eq!(open("more"), Err("too many services: limit 3".into()));
    }
}
