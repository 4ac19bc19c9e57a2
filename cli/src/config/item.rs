//! One configured entity with its values.

use std::collections::BTreeMap;
use std::fmt;

use super::entity::{Entity, Param};
use super::value::Value;

/// An entity with its parameters: typed, complete, defaults filled in.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub entity: &'static Entity,
    /// Where it comes from.
    pub origin: Origin,
    values: BTreeMap<&'static str, Value>,
}

/// Where an item was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Command line.
    CommandLine,
    /// A file.
    File {
        /// As the user wrote its name.
        path: String,
        /// From 1.
        line: usize,
    },
    /// Not given at all.
    Implicit,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Implicit => f.write_str("default"),
        }
    }
}

/// An item whose parameters are still coming.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) entity: &'static Entity,
    origin: Origin,
    values: BTreeMap<&'static str, Value>,
}

impl Draft {
    pub(super) fn new(entity: &'static Entity, origin: Origin) -> Self {
        Self {
            entity,
            origin,
            values: BTreeMap::new(),
        }
    }

    pub(super) fn value(&self, param: &Param) -> Option<&Value> {
        self.values.get(param.name)
    }

    pub(super) fn set(&mut self, param: &'static Param, value: Value) {
        self.values.insert(param.name, value);
    }

    /// The item, or the text that says which required parameters are missing.
    pub(super) fn finish(mut self) -> Result<Item, String> {
        let given = |param: &Param| self.values.contains_key(param.name);
        let missing: Vec<_> = self
            .entity
            .params
            .iter()
            .filter(|param| param.required && !given(param))
            .map(|param| param.name)
            .collect();
        match missing.len() {
            0 => {}
            1 => return Err(format!("required parameter missing: {}", missing[0])),
            _ => return Err(format!("required parameters missing: {}", missing.join(", "))),
        }
        for param in self.entity.params {
            if let Some(default) = param.default {
                self.values.entry(param.name).or_insert_with(|| {
                    Value::from_text(param.kind, default, None).expect("defaults of the table are valid")
                });
            }
        }
        Ok(Item {
            entity: self.entity,
            origin: self.origin,
            values: self.values,
        })
    }
}

impl Item {
    /// The item of an entity nobody mentioned.
    pub(super) fn implicit(entity: &'static Entity) -> Self {
        Draft::new(entity, Origin::Implicit)
            .finish()
            .expect("implicit entities require nothing")
    }

    /// The entity's name.
    pub fn name(&self) -> &'static str {
        self.entity.name
    }

    /// A text; empty if absent.
    pub fn text(&self, param: &str) -> &str {
        match self.values.get(param) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// An integer; 0 if absent.
    pub fn int(&self, param: &str) -> i64 {
        match self.values.get(param) {
            Some(Value::Int(value)) => *value,
            _ => 0,
        }
    }

    /// A number; 0 if absent.
    pub fn float(&self, param: &str) -> f64 {
        match self.values.get(param) {
            Some(Value::Float(value)) => *value,
            _ => 0.0,
        }
    }

    /// A boolean; false if absent.
    pub fn bool(&self, param: &str) -> bool {
        matches!(self.values.get(param), Some(Value::Bool(true)))
    }

    /// A list of texts, if given.
    pub fn texts(&self, param: &str) -> Option<&[String]> {
        match self.values.get(param) {
            Some(Value::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// Numbers by name, if given.
    pub fn costs(&self, param: &str) -> Option<&BTreeMap<String, f64>> {
        match self.values.get(param) {
            Some(Value::Costs(costs)) => Some(costs),
            _ => None,
        }
    }

    /// Maps of texts; none if absent. `None` stands for a value that is no text.
    pub fn maps(&self, param: &str) -> &[Vec<(String, Option<String>)>] {
        match self.values.get(param) {
            Some(Value::Maps(maps)) => maps,
            _ => &[],
        }
    }

    /// Whether something that is not empty was given for a parameter without a default.
    pub fn has(&self, param: &str) -> bool {
        match self.values.get(param) {
            None | Some(Value::Unread { empty: true }) => false,
            Some(Value::Text(text)) => !text.is_empty(),
            Some(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entity;
    use super::*;

    #[test]
    fn every_default_of_the_table_is_valid() {
        for entity in entity::ENTITIES {
            for param in entity.params {
                if let Some(default) = param.default {
                    assert!(
                        Value::from_text(param.kind, default, None).is_ok(),
                        "{} {}: {default}",
                        entity.name,
                        param.name
                    );
                }
            }
            assert!(
                !entity.required || entity.params.iter().all(|param| !param.required),
                "{}",
                entity.name
            );
        }
    }
}
