//! A configuration file of dialect 1: a YAML list of entities (`config.md` §3).

use std::fs::File;
use std::io::{self, Read};

use receptor_host::error_text::os_text;

use super::entity::{self, ENTITIES, Entity};
use super::error::ConfigError;
use super::item::{Draft, Item, Origin};
use super::nearest::suggestion;
use super::value::Value;
use super::yaml::{self, Node, Yaml};

/// Largest file read, in bytes. Configurations have some kilobytes.
pub const MAX_FILE: usize = 16 << 20;

/// Where files come from: the content of the one of this name.
pub type Open<'a> = &'a dyn Fn(&str) -> io::Result<Vec<u8>>;

/// Reads a file.
///
/// # Errors
/// Any of the file texts of `config.md` §5, with file and line.
pub fn read(path: &str, open: Open<'_>) -> Result<Vec<Item>, ConfigError> {
    parse(path, &bytes(path, open)?)
}

pub(super) fn bytes(path: &str, open: Open<'_>) -> Result<Vec<u8>, ConfigError> {
    let failed = |error| ConfigError::new(format!("error loading config file: open {path}: {}", os_text(&error)));
    open(path).map_err(failed)
}

/// Reads the content of the file called `path`.
///
/// # Errors
/// As for [`read`].
pub fn parse(path: &str, bytes: &[u8]) -> Result<Vec<Item>, ConfigError> {
    let fault = |fault: Fault| {
        ConfigError::new(format!(
            "error loading config file: {path}:{}: {}",
            fault.line, fault.text
        ))
    };
    let document =
        yaml::parse(bytes).map_err(|error| fault(Fault::new(error.line, format!("yaml: {}", error.text))))?;
    let nodes = match document.map(|node| (node.line, node.value)) {
        None | Some((_, Yaml::Null)) => Vec::new(),
        Some((_, Yaml::List(nodes))) => nodes,
        Some((line, other)) => return Err(fault(not_a_list(line, &other))),
    };
    let mut items: Vec<Item> = Vec::new();
    for node in &nodes {
        let item = item(path, node).map_err(fault)?;
        if item.entity.singleton && items.iter().any(|earlier| earlier.name() == item.name()) {
            let text = format!("only one {} directive is allowed", item.name());
            return Err(fault(Fault::new(node.line, text)));
        }
        items.push(item);
    }
    Ok(items)
}

struct Fault {
    line: usize,
    text: String,
}

impl Fault {
    fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

fn not_a_list(line: usize, value: &Yaml) -> Fault {
    let hint = if matches!(value, Yaml::Map(_)) {
        " (a map is of the second dialect, --config-v2)"
    } else {
        ""
    };
    let text = format!(
        "yaml: unmarshal errors: cannot unmarshal {} into a list of entities{hint}",
        value.tag()
    );
    Fault::new(line, text)
}

fn item(path: &str, node: &Node) -> Result<Item, Fault> {
    match &node.value {
        Yaml::Text(name) => {
            let draft = draft(path, name, node.line)?;
            finish(draft, node.line)
        }
        Yaml::Map(entries) => {
            let Some((key, value)) = entries.last() else {
                return Err(Fault::new(node.line, "unknown config file format"));
            };
            let Yaml::Text(name) = &key.value else {
                return Err(Fault::new(key.line, "section key is not a string"));
            };
            if let Some((other, _)) = entries.iter().find(|(other, _)| other.value != key.value) {
                // Most often the parameters are not indented enough; then the second key is the wrong one.
                let line = other.line.max(key.line);
                return Err(Fault::new(line, "config format invalid: item has multiple names"));
            }
            let mut draft = draft(path, name, key.line)?;
            parameters(&mut draft, value)?;
            finish(draft, key.line)
        }
        _ => Err(Fault::new(node.line, "unknown config file format")),
    }
}

fn draft(path: &str, name: &str, line: usize) -> Result<Draft, Fault> {
    let entity = entity::find(name).ok_or_else(|| unknown_entity(name, line))?;
    Ok(Draft::new(
        entity,
        Origin::File {
            path: path.into(),
            line,
        },
    ))
}

fn unknown_entity(name: &str, line: usize) -> Fault {
    let hint = suggestion(
        name,
        ENTITIES
            .iter()
            .filter(|entity| !entity.hidden)
            .map(|entity| entity.name),
    );
    let text = format!("could not get config type for command {name}: unknown config type {name}{hint}");
    Fault::new(line, text)
}

fn parameters(draft: &mut Draft, node: &Node) -> Result<(), Fault> {
    let entity = draft.entity;
    match &node.value {
        Yaml::Null => Ok(()),
        Yaml::Text(_) => {
            let name = entity.name;
            let wrong = || {
                let text = format!("could not get barevalue for command {name}: command does not allow bare values");
                Fault::new(node.line, text)
            };
            parameter(draft, entity.bare().ok_or_else(wrong)?.name, node.line, node)
        }
        Yaml::Map(entries) => entries.iter().try_for_each(|(key, value)| match &key.value {
            Yaml::Text(name) => parameter(draft, name, key.line, value),
            _ => Err(invalid(entity, key.line)),
        }),
        _ => Err(invalid(entity, node.line)),
    }
}

fn invalid(entity: &Entity, line: usize) -> Fault {
    Fault::new(line, format!("invalid config format for {}", entity.name))
}

fn parameter(draft: &mut Draft, name: &str, line: usize, node: &Node) -> Result<(), Fault> {
    let entity = draft.entity;
    let param = entity.param(name).ok_or_else(|| {
        let hint = suggestion(name, entity.params.iter().map(|param| param.name));
        let text = format!(
            "field {name} not defined for command {}: unknown field name {name}{hint}",
            entity.name
        );
        Fault::new(line, text)
    })?;
    let value = Value::from_yaml(param.kind, node).map_err(|error| {
        Fault::new(
            line,
            format!("error setting field {name} in command {}: {error}", entity.name),
        )
    })?;
    if let Some(value) = value {
        draft.set(param, value);
    }
    Ok(())
}

fn finish(draft: Draft, line: usize) -> Result<Item, Fault> {
    let name = draft.entity.name;
    draft
        .finish()
        .map_err(|error| Fault::new(line, format!("error in {name}: {error}")))
}

pub(super) fn contents(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than the limit tells a file at the limit from one above it, and ends an endless device.
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Err(io::Error::other(format!("file is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}
