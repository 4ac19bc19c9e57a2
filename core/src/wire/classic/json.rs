//! JSON as Go's standard library reads and writes it (`wire.md` §7).
//!
//! Not `serde_json`, because the differences are observable: Go compares keys without case, keeps the last of duplicate keys,
//! takes `null` for any value, replaces what is not UTF-8 instead of refusing it, rounds floats correctly (costs are compared
//! exactly, `wire.md` §11) and escapes HTML.

mod reader;
mod unquote;
mod writer;

pub use reader::Reader;
pub use writer::{write_float, write_map, write_string, write_unsigned};

/// Whether `key` names the field `name`: without regard to case, as Go folds it (two letters outside ASCII fold into it).
pub fn key_is(key: &str, name: &str) -> bool {
    if key.is_ascii() {
        return key.eq_ignore_ascii_case(name);
    }
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

#[cfg(test)]
mod tests;
