//! The one error of configuration: a text for the user.

use std::fmt;

/// Characters of a text that are shown.
const MAX_LENGTH: usize = 1000;

/// Why a configuration is refused. Printed as `Error: TEXT`, the classic texts being in `config.md` §5.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of this text. Texts quote what users wrote, so they are kept to one line of bounded length.
    pub fn new(text: impl AsRef<str>) -> Self {
        let mut line = String::new();
        let mut chars = text.as_ref().chars();
        for c in chars.by_ref().take(MAX_LENGTH) {
            if c.is_control() {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
        }
        if chars.next().is_some() {
            line.push('…');
        }
        Self(line)
    }

    /// Something the classic node has and this program does not have yet.
    pub fn unsupported(name: impl fmt::Display) -> Self {
        Self::new(format!("not supported yet: {name}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_short_line() {
        assert_eq!(ConfigError::new("a\nb\u{1b}é").to_string(), "a\\nb\\u{1b}é");
        assert_eq!(
            ConfigError::new("x".repeat(5000)).to_string().chars().count(),
            MAX_LENGTH + 1
        );
    }
}
