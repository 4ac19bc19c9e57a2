//! The command line of dialect 1: `--ENTITY [PARAM=VALUE | VALUE] …` (`config.md` §2).

use super::entity::{self, ENTITIES, Entity};
use super::error::ConfigError;
use super::item::{Draft, Item, Origin};
use super::nearest::suggestion;
use super::value::Value;

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// Print the help.
    Help,
    /// Print the completion script.
    Completion,
    /// Act on items.
    Items {
        /// In order, files inserted where they were named.
        items: Vec<Item>,
        /// The first file named as `--config` or `-c`, for `reload` (`config.md` §5).
        config_file: Option<String>,
    },
}

/// Reads a command line; `open` reads a configuration file.
///
/// # Errors
/// Any text of `config.md` §5, steps 1 to 5.
pub(super) fn parse(
    args: &[String],
    open: &dyn Fn(&str) -> Result<Vec<Item>, ConfigError>,
) -> Result<Request, ConfigError> {
    if args.is_empty() {
        return Ok(Request::Help);
    }
    let mut parser = Parser {
        items: Vec::new(),
        draft: None,
    };
    let mut config_file = None;
    let mut file_option: Option<&str> = None;
    for arg in args {
        if arg.is_empty() {
            return Err(ConfigError::new("empty argument"));
        }
        if let Some(name) = entity_argument(arg) {
            parser.close()?;
            file_option = None;
            match name.to_ascii_lowercase().as_str() {
                "help" | "h" => return Ok(Request::Help),
                "bash-completion" => return Ok(Request::Completion),
                "config" | "c" => file_option = Some(arg),
                lower => parser.open(name, entity::find(lower))?,
            }
        } else if let Some(option) = file_option.take() {
            parser.items.extend(open(arg)?);
            if config_file.is_none() && matches!(option, "--config" | "-c") {
                config_file = Some(arg.clone());
            }
        } else {
            parser.value(arg)?;
        }
    }
    parser.close()?;
    Ok(Request::Items {
        items: parser.items,
        config_file,
    })
}

/// What follows the dashes.
fn entity_argument(arg: &str) -> Option<&str> {
    arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))
}

struct Parser {
    items: Vec<Item>,
    draft: Option<Draft>,
}

impl Parser {
    fn open(&mut self, name: &str, entity: Option<&'static Entity>) -> Result<(), ConfigError> {
        let Some(entity) = entity else {
            let names = ENTITIES
                .iter()
                .filter(|entity| !entity.hidden)
                .map(|entity| entity.name);
            let hint = suggestion(name, names.chain(["help", "config"]));
            return Err(ConfigError::new(format!(
                "command error: unknown config type {name}{hint}"
            )));
        };
        if entity.singleton && self.items.iter().any(|item| item.name() == entity.name) {
            return Err(ConfigError::new(format!(
                "directive \"{}\" is only allowed once",
                entity.name
            )));
        }
        self.draft = Some(Draft::new(entity, Origin::CommandLine));
        Ok(())
    }

    fn value(&mut self, arg: &str) -> Result<(), ConfigError> {
        let Some(draft) = &mut self.draft else {
            return Err(ConfigError::new("parameter specified before command"));
        };
        let (param, text) = match arg.split_once('=') {
            Some((name, text)) => {
                let param = draft.entity.param(name).ok_or_else(|| {
                    let hint = suggestion(name, draft.entity.params.iter().map(|param| param.name));
                    ConfigError::new(format!("config error: unknown field name {name}{hint}"))
                })?;
                (param, text)
            }
            None => {
                let wrong = || ConfigError::new("config error: command does not allow bare values");
                (draft.entity.bare().ok_or_else(wrong)?, arg)
            }
        };
        let value = Value::from_text(param.kind, text, draft.value(param)).map_err(|error| {
            ConfigError::new(format!("error setting config value for field {}: {error}", param.name))
        })?;
        draft.set(param, value);
        Ok(())
    }

    fn close(&mut self) -> Result<(), ConfigError> {
        if let Some(draft) = self.draft.take() {
            let name = draft.entity.name;
            let item = draft
                .finish()
                .map_err(|error| ConfigError::new(format!("error in --{name}: {error}")))?;
            self.items.push(item);
        }
        Ok(())
    }
}
