//! What is known of an entity and its parameters.
//!
//! Parsing, help, suggestions and completion all read the one table of these in `table`.

pub use super::table::ENTITIES;

/// A configuration entity: one `--NAME` or one item of a file.
#[derive(Debug)]
pub struct Entity {
    /// Its name, in lower case.
    pub name: &'static str,
    /// One line for the help.
    pub about: &'static str,
    /// Where the help lists it.
    pub section: Section,
    /// Whether this program has it.
    pub support: Support,
    /// Created with its defaults when absent.
    pub required: bool,
    /// At most once.
    pub singleton: bool,
    /// Must be the only item of a configuration.
    pub exclusive: bool,
    /// Not in the help.
    pub hidden: bool,
    /// Its parameters.
    pub params: &'static [Param],
}

/// A parameter of an entity.
#[derive(Debug)]
pub struct Param {
    /// Its name, in lower case.
    pub name: &'static str,
    /// One line for the help.
    pub about: &'static str,
    /// Type of its value.
    pub kind: Kind,
    /// Value when absent, in the form of the command line.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// Whether a value without a name is meant for it.
    pub bare: bool,
}

/// Types of parameters (`config.md` §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// An integer.
    Int,
    /// A floating point number.
    Float,
    /// A boolean.
    Bool,
    /// A list of texts.
    Texts,
    /// Numbers by node ID.
    CostMap,
    /// Any values by name.
    AnyMap,
    /// A list of maps of texts, in a file only.
    Maps,
}

impl Kind {
    /// Name for users.
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Texts => "list of string",
            Self::CostMap => "map of string to float",
            Self::AnyMap => "map",
            Self::Maps => "list of maps, file only",
        }
    }
}

/// Sections of the help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// The node itself.
    General,
    /// Definitions that other entities name.
    Resources,
    /// What makes links.
    Backends,
    /// Proxies and the control service.
    Services,
    /// Work types.
    Workers,
    /// Certificate tools.
    Certificates,
}

impl Section {
    /// All, in the order of the help.
    pub const ALL: [Self; 6] = [
        Self::General,
        Self::Resources,
        Self::Backends,
        Self::Services,
        Self::Workers,
        Self::Certificates,
    ];

    /// Heading in the help.
    pub fn title(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Resources => "Resources used by other entities",
            Self::Backends => "Backends",
            Self::Services => "Services",
            Self::Workers => "Workers",
            Self::Certificates => "Certificate tools",
        }
    }
}

/// What this program does about an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// It works.
    Supported,
    /// Does not exist yet: warned about. Without it the mesh is as safe and as connected, and nothing is advertised.
    Unavailable,
    /// Its absence would open or cut the mesh: the program does not start.
    Refused,
}

/// The entity of exactly this name.
pub fn find(name: &str) -> Option<&'static Entity> {
    ENTITIES.iter().find(|entity| entity.name == name)
}

impl Entity {
    /// The parameter of this name, in any letter case.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// The parameter that takes a value without a name.
    pub fn bare(&self) -> Option<&'static Param> {
        self.params.iter().find(|param| param.bare)
    }

    pub(super) const fn new(name: &'static str, section: Section, support: Support, about: &'static str) -> Self {
        let (required, singleton, exclusive, hidden) = (false, false, false, false);
        Self {
            name,
            about,
            section,
            support,
            required,
            singleton,
            exclusive,
            hidden,
            params: &[],
        }
    }

    pub(super) const fn with(mut self, params: &'static [Param]) -> Self {
        self.params = params;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn singleton(mut self) -> Self {
        self.singleton = true;
        self
    }

    pub(super) const fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    pub(super) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

impl Param {
    pub(super) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self {
            name,
            about,
            kind,
            default: None,
            required: false,
            bare: false,
        }
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn bare_value(mut self) -> Self {
        self.bare = true;
        self
    }

    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for (index, entity) in ENTITIES.iter().enumerate() {
            assert!(
                ENTITIES[..index].iter().all(|other| other.name != entity.name),
                "{} twice",
                entity.name
            );
            assert!(
                entity.params.iter().filter(|param| param.bare).count() <= 1,
                "{}",
                entity.name
            );
            for (index, param) in entity.params.iter().enumerate() {
                let name = format!("{} {}", entity.name, param.name);
                assert!(
                    entity.params[..index].iter().all(|other| other.name != param.name),
                    "{name} twice"
                );
                assert!(!(param.required && param.default.is_some()), "{name}");
                assert_eq!(param.name.to_ascii_lowercase(), param.name, "{name}");
            }
        }
    }
}
