//! Dialect 2: a map of sections, chosen by `--config-v2` (`config.md` §9).
//!
//! It becomes the same items as dialect 1 and so the same configuration. Where the classic node passes over a mistake in
//! silence and runs on with less than was asked for, this one says what is wrong and does not start.

mod sections;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::entity;
use super::error::ConfigError;
use super::file;
use super::item::{Draft, Item, Origin};
use super::nearest::suggestion;
use super::yaml::{self, Node, Schema, Yaml};
use super::{Action, Config, Host, build, certificates};
use crate::certificates::Tool;
use sections::{SECTIONS, Section, Shape};

/// The argument that chooses this dialect.
pub const SWITCH: &str = "--config-v2";

/// Said before anything else.
pub const GREETING: &str = "Running v2 cli/config";

/// The help of this dialect.
pub const HELP: &str = "\
Usage: receptor --config-v2 [--config FILE]

   --config FILE: YAML (.yaml, .yml) or JSON (.json); without it receptor.yaml in the home directory
   --version: Show the version
   --help, -h: Show this help
";

/// Extensions of files looked for at home, in the classic order; they are read as YAML whatever they are.
const EXTENSIONS: [&str; 13] = [
    "json",
    "toml",
    "yaml",
    "yml",
    "properties",
    "props",
    "prop",
    "hcl",
    "tfvars",
    "dotenv",
    "env",
    "ini",
    "",
];

/// What a file of this dialect asks for.
#[derive(Debug)]
pub struct Sections {
    /// The file.
    pub file: String,
    /// Certificate tools to run first, in order.
    pub tools: Vec<Tool>,
    /// What the rest makes of a node; `None` if there is no rest.
    pub node: Option<Later>,
}

/// A node whose configuration is still to be checked: the tools may have to write the files that it names.
#[derive(Debug)]
pub struct Later {
    file: String,
    items: Vec<Item>,
    host: Host,
    warnings: Vec<String>,
}

impl Later {
    /// Checks it.
    ///
    /// # Errors
    /// As for dialect 1.
    pub fn build(mut self) -> Result<Config, ConfigError> {
        for entity in entity::ENTITIES.iter().filter(|entity| entity.required) {
            if self.items.iter().all(|item| item.name() != entity.name) {
                self.items.push(Item::implicit(entity));
            }
        }
        let mut config = build::build(&self.items, &self.host, Some(self.file))?;
        config.warnings.extend(self.warnings);
        Ok(config)
    }
}

/// Reads arguments without [`SWITCH`]; `home` is where a file is looked for if none is named.
pub(super) fn load(
    args: &[String],
    host: &Host,
    home: Option<&Path>,
    open: file::Open<'_>,
) -> Result<Action, ConfigError> {
    let mut file = None;
    let mut version = false;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(Action::HelpOfSections),
            "--version" => version = true,
            "--config" => {
                let missing = || ConfigError::new("flag needs an argument: --config");
                file = Some(rest.next().ok_or_else(missing)?.clone());
            }
            _ => match arg.strip_prefix("--config=") {
                Some(path) => file = Some(path.to_owned()),
                None if arg.starts_with('-') => {
                    let hint = suggestion(arg.trim_start_matches('-'), ["config", "version", "help"].into_iter());
                    return Err(ConfigError::new(format!("unknown flag: {arg}{hint}")));
                }
                // Ignored, as in the classic node.
                None => {}
            },
        }
    }
    if version {
        return Ok(Action::Version);
    }
    let (path, is_json) = match file {
        Some(path) => {
            let is_json = is_json(&path)?;
            (path, is_json)
        }
        None => (find(home)?, false),
    };
    let bytes = file::bytes(&path, open)?;
    sections(&path, &bytes, is_json, host).map(|sections| Action::Sections(Box::new(sections)))
}

/// By its extension. The classic node takes files of other kinds for empty ones.
fn is_json(path: &str) -> Result<bool, ConfigError> {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("yaml" | "yml") => Ok(false),
        Some("json") => Ok(true),
        Some(other) if EXTENSIONS.contains(&other) => Err(ConfigError::new(format!(
            "error loading config file: {path}: .{other} files are not supported; write it as .yaml or .json"
        ))),
        _ => Err(ConfigError::new(format!(
            "error loading config file: {path}: its name must end in .yaml, .yml or .json"
        ))),
    }
}

fn find(home: Option<&Path>) -> Result<String, ConfigError> {
    let names = EXTENSIONS.iter().map(|extension| match *extension {
        "" => "receptor".to_owned(),
        extension => format!("receptor.{extension}"),
    });
    let found: Option<PathBuf> = home.and_then(|home| names.map(|name| home.join(name)).find(|path| path.is_file()));
    match found {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None => Err(ConfigError::new(
            "Could not locate config file (default is $HOME/receptor.yaml)",
        )),
    }
}

/// Reads the content of the file called `path`.
fn sections(path: &str, bytes: &[u8], is_json: bool, host: &Host) -> Result<Sections, ConfigError> {
    let reader = Reader { path };
    let document = if is_json {
        value::from_json(bytes).map(Some)
    } else {
        yaml::parse_as(bytes, Schema::Modern)
    };
    let document = document.map_err(|error| reader.fault(error.line, &error.text))?;
    let entries = match document.map(|node| (node.line, node.value)) {
        None | Some((_, Yaml::Null)) => Vec::new(),
        Some((line, value)) => reader.map(line, value)?,
    };
    let mut found: BTreeMap<&'static str, (usize, Node)> = BTreeMap::new();
    for (key, line, value) in entries {
        if key == "version" {
            if !matches!(value.value, Yaml::Int(_) | Yaml::Null) {
                return Err(reader.fault(line, "version is not a number"));
            }
            continue;
        }
        let section = SECTIONS.iter().find(|section| section.has_key(&key)).ok_or_else(|| {
            let hint = suggestion(&key, SECTIONS.iter().map(|section| section.key));
            reader.fault(line, &format!("unknown section {key}{hint}"))
        })?;
        if found.insert(section.key, (line, value)).is_some() {
            return Err(reader.fault(line, &format!("section {} is given twice", section.key)));
        }
    }
    let mut warnings = Vec::new();
    let (mut tools, mut items) = (Vec::new(), Vec::new());
    // In the order of the table, which is the classic one.
    for section in SECTIONS {
        let Some((line, value)) = found.remove(section.key) else {
            continue;
        };
        for item in reader.items(section, line, value)? {
            match certificates::tool(&item)? {
                Some(tool) => tools.push(tool),
                None if item.name() == "local-only" && !item.bool("local") => warnings.push(format!(
                    "local-only has no effect without local: true ({})",
                    item.origin
                )),
                None => items.push(item),
            }
        }
    }
    let is_empty = items.is_empty() && warnings.is_empty();
    let node = (!is_empty).then(|| Later {
        file: path.to_owned(),
        items,
        host: host.clone(),
        warnings,
    });
    Ok(Sections {
        file: path.to_owned(),
        tools,
        node,
    })
}

struct Reader<'a> {
    path: &'a str,
}

impl Reader<'_> {
    fn fault(&self, line: usize, text: &str) -> ConfigError {
        ConfigError::new(format!("error loading config file: {}:{line}: {text}", self.path))
    }

    /// A map with keys in lower case: key, its line, value.
    fn map(&self, line: usize, value: Yaml) -> Result<Vec<(String, usize, Node)>, ConfigError> {
        let Yaml::Map(entries) = value else {
            let hint = match value {
                Yaml::List(_) => " (a list is of the first dialect, without --config-v2)",
                _ => "",
            };
            return Err(self.fault(line, &format!("{} where a map is expected{hint}", value.tag())));
        };
        // Of keys that came with a merge the last one is the own one.
        let mut keys: BTreeMap<String, (String, usize)> = BTreeMap::new();
        let mut all: Vec<(String, usize, Node)> = Vec::new();
        for (key, value) in entries {
            let Yaml::Text(text) = key.value else {
                return Err(self.fault(key.line, "a key is not text"));
            };
            let lower = text.to_lowercase();
            match keys.get(&lower) {
                Some((other, at)) if *other == text => all[*at].2 = value,
                Some((other, _)) => {
                    return Err(self.fault(key.line, &format!("{text} and {other} are the same key")));
                }
                None => {
                    keys.insert(lower.clone(), (text, all.len()));
                    all.push((lower, key.line, value));
                }
            }
        }
        Ok(all)
    }

    fn items(&self, section: &Section, line: usize, value: Node) -> Result<Vec<Item>, ConfigError> {
        match (section.shape, value.value) {
            (_, Yaml::Null) => Ok(Vec::new()),
            (Shape::List, Yaml::List(nodes)) => {
                let one = |node: Node| self.item(section, node.line, node.value);
                nodes.into_iter().map(one).collect()
            }
            (_, value @ Yaml::Map(_)) => Ok(vec![self.item(section, line, value)?]),
            (shape, other) => Err(self.fault(
                line,
                &format!(
                    "section {} is {} where {} is expected",
                    section.key,
                    other.tag(),
                    shape.label()
                ),
            )),
        }
    }

    fn item(&self, section: &Section, line: usize, value: Yaml) -> Result<Item, ConfigError> {
        let entity = entity::find(section.entity).expect("the table of sections names entities");
        let origin = Origin::File {
            path: self.path.into(),
            line,
        };
        let mut draft = Draft::new(entity, origin);
        for (key, line, node) in self.map(line, value)? {
            let param = entity.param(&key).ok_or_else(|| {
                let hint = suggestion(&key, entity.params.iter().map(|param| param.name));
                self.fault(line, &format!("unknown parameter {key} in {}{hint}", section.key))
            })?;
            let value = value::read(param, &node)
                .map_err(|error| self.fault(line, &format!("{key} in {}: {error}", section.key)))?;
            if let Some(value) = value {
                draft.set(param, value);
            }
        }
        for (name, default) in section.defaults {
            let param = entity.param(name).expect("the table of sections names parameters");
            if draft.value(param).is_none() {
                let value = super::value::Value::from_text(param.kind, default, None);
                draft.set(param, value.expect("defaults of the table are valid"));
            }
        }
        draft
            .finish()
            .map_err(|error| self.fault(line, &format!("{}: {error}", section.key)))
    }
}
