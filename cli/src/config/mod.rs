//! Configuration: command line and file onto one typed [`Config`].
//!
//! `args` and `file` turn text into [`item::Item`]s with the help of the table in `entity`; `build` checks them as a
//! whole; `to_core` says what of the result the core has to know.

mod args;
mod backends;
mod build;
mod certificates;
pub mod entity;
mod error;
pub mod file;
pub mod item;
mod limits;
mod nearest;
pub mod number;
mod scalar;
mod services;
mod table;
mod tls;
pub mod to_core;
mod typed;
pub mod v2;
pub mod value;
pub mod yaml;

#[cfg(test)]
#[path = "production/tests.rs"]
mod production;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use typed::{Backend, Config, Host, Links, Node, Worker, WorkerKind};

use std::path::Path;

use args::Request;
use item::Item;

use crate::certificates::Tool;

/// What the user wants the program to do.
#[derive(Debug)]
pub enum Action {
    /// Print the help.
    Help,
    /// Print the bash completion script.
    Completion,
    /// Print the version.
    Version,
    /// Print the help of dialect 2.
    HelpOfSections,
    /// Run a certificate tool.
    Certificate(Tool),
    /// Run a node.
    Run(Box<Config>),
    /// Do what a file of dialect 2 asks for.
    Sections(Box<v2::Sections>),
}

/// Reads the arguments after the program's name, and the files they name.
///
/// # Errors
/// The text to print after `Error: `.
pub fn load(args: &[String], host: &Host) -> Result<Action, ConfigError> {
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    load_from(args, host, home.as_deref(), &file::contents)
}

/// The same with files from elsewhere; in `home` a file of dialect 2 is looked for if none is named.
///
/// # Errors
/// As for [`load`].
pub fn load_from(
    args: &[String],
    host: &Host,
    home: Option<&Path>,
    open: file::Open<'_>,
) -> Result<Action, ConfigError> {
    if args.iter().any(|arg| arg == v2::SWITCH) {
        let rest: Vec<_> = args.iter().filter(|arg| *arg != v2::SWITCH).cloned().collect();
        return v2::load(&rest, host, home, open);
    }
    let (mut items, config_file) = match args::parse(args, &|path| file::read(path, open))? {
        Request::Help => return Ok(Action::Help),
        Request::Completion => return Ok(Action::Completion),
        Request::Items { items, config_file } => (items, config_file),
    };
    if let Some(item) = items.iter().find(|item| item.entity.exclusive) {
        let name = item.name();
        if items.len() > 1 {
            return Err(ConfigError::new(format!(
                "cannot specify any other options with {name}"
            )));
        }
        if name == "version" {
            return Ok(Action::Version);
        }
        return match certificates::tool(item)? {
            Some(tool) => Ok(Action::Certificate(tool)),
            None => Err(ConfigError::unsupported(name)),
        };
    }
    for entity in entity::ENTITIES.iter().filter(|entity| entity.required) {
        if items.iter().all(|item| item.name() != entity.name) {
            items.push(Item::implicit(entity));
        }
    }
    build::build(&items, host, config_file).map(|config| Action::Run(Box::new(config)))
}
