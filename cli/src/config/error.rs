//! The one error of configuration: a text for the user.

use std::fmt;

/// Why a configuration is refused. Printed as `Error: TEXT`, the classic texts being in `config.md` §5.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Something the classic node has and this program does not have yet.
    pub fn unsupported(name: impl fmt::Display) -> Self {
        Self(format!("not supported yet: {name}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
