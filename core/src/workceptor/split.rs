//! Splitting of parameter strings into words (`work.md` §8.3).

use alloc::string::String;
use alloc::vec::Vec;

/// Why a parameter string cannot be split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitError {
    /// A quote is still open at the end.
    OpenQuote,
    /// A backslash is the last character.
    OpenEscape,
}

impl SplitError {
    /// The classic text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::OpenQuote => "EOF found when expecting closing quote",
            Self::OpenEscape => "EOF found after escape character",
        }
    }
}

#[derive(Clone, Copy)]
enum Mode {
    Between,
    Comment,
    Word,
    Escape,
    Single,
    Double,
    DoubleEscape,
}

/// Splits like the classic node: blanks separate, `'…'` is literal, `"…"` and plain text know the backslash, which is
/// always dropped, and `#` at the start of a word comments out the rest of the line. Nothing is expanded.
///
/// # Errors
/// An open quote or a trailing backslash.
pub fn split_words(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut mode = Mode::Between;
    for c in text.chars() {
        let blank = matches!(c, ' ' | '\t' | '\r' | '\n');
        mode = match (mode, c) {
            (Mode::Between, _) if blank => Mode::Between,
            (Mode::Between, '#') => Mode::Comment,
            (Mode::Comment, '\n') => Mode::Between,
            (Mode::Comment, _) => Mode::Comment,
            (Mode::Word, _) if blank => {
                words.push(core::mem::take(&mut word));
                Mode::Between
            }
            (Mode::Between | Mode::Word, '\\') => Mode::Escape,
            (Mode::Between | Mode::Word, '\'') => Mode::Single,
            (Mode::Single, '\'') | (Mode::Double, '"') => Mode::Word,
            (Mode::Single, _) => {
                word.push(c);
                Mode::Single
            }
            (Mode::Between | Mode::Word, '"') => Mode::Double,
            (Mode::Double, '\\') => Mode::DoubleEscape,
            (Mode::Double | Mode::DoubleEscape, _) => {
                word.push(c);
                Mode::Double
            }
            (Mode::Between | Mode::Word | Mode::Escape, _) => {
                word.push(c);
                Mode::Word
            }
        };
    }
    match mode {
        Mode::Between | Mode::Comment => {}
        Mode::Word => words.push(word),
        Mode::Single | Mode::Double => return Err(SplitError::OpenQuote),
        Mode::Escape | Mode::DoubleEscape => return Err(SplitError::OpenEscape),
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_the_classic_node_does() {
        for (text, words) in [
            ("", &[][..]),
            (" \t\r\n", &[]),
            ("a b\tc\r\nd", &["a", "b", "c", "d"]),
            ("-c 'echo $HOME | cat'", &["-c", "echo $HOME | cat"]),
            (r#"a"b c"d'e f'g"#, &["ab cde fg"]),
            (r#""a\nb\"c" 'a\b'"#, &["anb\"c", "a\\b"]),
            (r"a\ b \'", &["a b", "'"]),
            (r#""" '' x"#, &["", "", "x"]),
            ("a # b c\nd e#f", &["a", "d", "e#f"]),
            ("#all", &[]),
            ("\u{e9}t\u{e9}\u{a0}x", &["\u{e9}t\u{e9}\u{a0}x"]),
        ] {
            assert_eq!(split_words(text).unwrap(), words, "{text:?}");
        }
    }

    #[test]
    fn names_what_is_left_open() {
        for (text, error) in [
            ("'a", "EOF found when expecting closing quote"),
            ("a\"b", "EOF found when expecting closing quote"),
            ("a\\", "EOF found after escape character"),
            ("\"a\\", "EOF found after escape character"),
        ] {
            assert_eq!(split_words(text).unwrap_err().text(), error, "{text:?}");
        }
    }
}
