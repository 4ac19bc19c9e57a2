//! The sections of dialect 2 and the entities of dialect 1 that they are.

/// How a section is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// One map.
    Map,
    /// A list of maps; a map alone is a list of one.
    List,
}

impl Shape {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Map => "a map",
            Self::List => "a list of maps",
        }
    }
}

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name, in lower case.
    pub(super) key: &'static str,
    pub(super) shape: Shape,
    /// What each map of it is.
    pub(super) entity: &'static str,
    /// Parameters that need not be given here, or have another value then: in the form of the command line.
    pub(super) defaults: &'static [(&'static str, &'static str)],
}

impl Section {
    /// Whether a file may call it so, in lower case.
    pub(super) fn has_key(&self, key: &str) -> bool {
        // The classic node's documentation has the second name, which the node itself ignores.
        self.key == key || (self.key == "iprouters" && key == "ip-routers")
    }

    const fn with(mut self, defaults: &'static [(&'static str, &'static str)]) -> Self {
        self.defaults = defaults;
        self
    }
}

const fn map(key: &'static str) -> Section {
    Section {
        key,
        shape: Shape::Map,
        entity: key,
        defaults: &[],
    }
}

const fn list(key: &'static str, entity: &'static str) -> Section {
    Section {
        key,
        shape: Shape::List,
        entity,
        defaults: &[],
    }
}

/// All of them, in the order in which the classic node takes them.
pub(super) static SECTIONS: &[Section] = &[
    map("cert-init").with(&[("bits", "0")]),
    list("cert-makereqs", "cert-makereq"),
    list("cert-signreqs", "cert-signreq"),
    map("node"),
    map("trace"),
    map("log-level"),
    list("control-services", "control-service"),
    list("tls-clients", "tls-client").with(&[("cert", ""), ("key", "")]),
    list("tls-servers", "tls-server"),
    list("work-commands", "work-command"),
    list("work-kubernetes", "work-kubernetes").with(&[("deletepodonrestart", "false")]),
    map("work-signing"),
    map("work-verification"),
    map("work-limits"),
    list("iprouters", "ip-router"),
    list("tcp-clients", "tcp-client"),
    list("tcp-servers", "tcp-server"),
    list("udp-clients", "udp-client"),
    list("udp-servers", "udp-server"),
    list("unix-socket-clients", "unix-socket-client"),
    list("unix-socket-servers", "unix-socket-server"),
    list("tcp-listeners", "tcp-listener"),
    list("udp-listeners", "udp-listener"),
    list("ws-listeners", "ws-listener"),
    list("tcp-peers", "tcp-peer"),
    list("udp-peers", "udp-peer"),
    list("ws-peers", "ws-peer"),
    map("local-only"),
];

#[cfg(test)]
mod tests {
    use super::super::super::entity;
    use super::super::super::value::Value;
    use super::*;

    #[test]
    fn every_section_is_an_entity_and_every_entity_a_section() {
        for section in SECTIONS {
            let entity = entity::find(section.entity).unwrap_or_else(|| panic!("{}", section.entity));
            for (name, default) in section.defaults {
                let param = entity.param(name).unwrap();
                assert!(Value::from_text(param.kind, default, None).is_ok());
            }
        }
        let without: Vec<_> = entity::ENTITIES
            .iter()
            .map(|entity| entity.name)
            .filter(|name| SECTIONS.iter().all(|section| section.entity != *name))
            .collect();
        assert_eq!(without, ["version", "command-service", "work-python", "command-runner"]);
    }
}
