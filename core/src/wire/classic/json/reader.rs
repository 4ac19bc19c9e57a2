//! A pull parser.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::unquote::{hex4, unquote};
use crate::wire::WireError;

/// Go's limit on nested lists and objects.
pub(super) const MAX_DEPTH: usize = 10_000;

/// Reads one JSON text from front to back.
///
/// Methods that read a value answer `None` (or `false`) for `null`, which leaves a Go field as it was.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `input`; `what` names the message in errors.
    pub fn new(input: &'a [u8], what: &'static str) -> Self {
        Self { input, at: 0, what }
    }

    /// Reads an object, calling `field` once per key with the reader at the value. `field` must read or skip it.
    ///
    /// # Errors
    /// Anything else than an object or `null`, and whatever `field` answers.
    pub fn object<F>(&mut self, mut field: F) -> Result<bool, WireError>
    where
        F: FnMut(&mut Self, &str) -> Result<(), WireError>,
    {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(true);
        }
        loop {
            self.blank();
            let key = self.quoted("a key")?;
            self.expect(b':', "a colon")?;
            field(self, &key)?;
            if self.eat(b'}') {
                return Ok(true);
            }
            self.expect(b',', "a comma or the end of the object")?;
        }
    }

    /// Reads a list, calling `item` with the reader at each element. `item` must read or skip it.
    ///
    /// # Errors
    /// Anything else than a list or `null`, and whatever `item` answers.
    pub fn array<F>(&mut self, mut item: F) -> Result<bool, WireError>
    where
        F: FnMut(&mut Self) -> Result<(), WireError>,
    {
        if self.null()? {
            return Ok(false);
        }
        self.expect(b'[', "a list")?;
        if self.eat(b']') {
            return Ok(true);
        }
        loop {
            item(self)?;
            if self.eat(b']') {
                return Ok(true);
            }
            self.expect(b',', "a comma or the end of the list")?;
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// Anything else than a string or `null`.
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, WireError> {
        if self.null()? {
            Ok(None)
        } else {
            self.quoted("a string").map(Some)
        }
    }

    /// Reads a string and gives what stands between its quotes, escapes and all.
    ///
    /// # Errors
    /// Anything else than a string or `null`.
    pub fn raw_string(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        if self.null()? {
            return Ok(None);
        }
        let start = self.at;
        self.scan_string("a string")?;
        Ok(Some(&self.input[start + 1..self.at - 1]))
    }

    /// Reads an unsigned integer exactly; `1.0`, `1e3` and negative numbers are none.
    ///
    /// # Errors
    /// Anything else than such an integer or `null`.
    pub fn unsigned(&mut self) -> Result<Option<u64>, WireError> {
        const EXPECTED: &str = "an unsigned 64-bit integer";
        if self.null()? {
            return Ok(None);
        }
        let start = self.at;
        let token = self.number(EXPECTED)?;
        token.parse().map(Some).map_err(|_| self.error_at(EXPECTED, start))
    }

    /// Reads a number.
    ///
    /// # Errors
    /// Anything else than a finite number or `null`.
    pub fn float(&mut self) -> Result<Option<f64>, WireError> {
        const EXPECTED: &str = "a number";
        if self.null()? {
            return Ok(None);
        }
        let start = self.at;
        match self.number(EXPECTED)?.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(self.error_at("a number in range", start)),
        }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// Anything else than those or `null`.
    pub fn boolean(&mut self) -> Result<Option<bool>, WireError> {
        if self.null()? {
            Ok(None)
        } else if self.literal(b"true") {
            Ok(Some(true))
        } else if self.literal(b"false") {
            Ok(Some(false))
        } else {
            Err(self.error("true or false"))
        }
    }

    /// Reads any value and gives its text.
    ///
    /// # Errors
    /// Text that is not JSON, or nested more than 10,000 deep.
    pub fn skip(&mut self) -> Result<&'a [u8], WireError> {
        self.blank();
        let start = self.at;
        // One entry per open list or object: its closing byte.
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.blank();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if !self.eat(b'}') {
                        open.push(b'}');
                        self.key_and_colon()?;
                        self.check_depth(&open)?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if !self.eat(b']') {
                        open.push(b']');
                        self.check_depth(&open)?;
                        continue;
                    }
                }
                Some(b'"') => self.scan_string("a value")?,
                _ if self.literal(b"null") || self.literal(b"true") || self.literal(b"false") => {}
                _ => {
                    self.number("a value")?;
                }
            }
            while let Some(&close) = open.last() {
                if self.eat(close) {
                    open.pop();
                    continue;
                }
                self.expect(b',', "a comma or the end")?;
                if close == b'}' {
                    self.key_and_colon()?;
                }
                break;
            }
            if open.is_empty() {
                return Ok(&self.input[start..self.at]);
            }
        }
    }

    /// Checks that nothing but white space is left.
    ///
    /// # Errors
    /// Anything else.
    pub fn end(mut self) -> Result<(), WireError> {
        self.blank();
        if self.at == self.input.len() {
            Ok(())
        } else {
            Err(self.error("the end of the message"))
        }
    }

    fn key_and_colon(&mut self) -> Result<(), WireError> {
        self.blank();
        self.scan_string("a key")?;
        self.expect(b':', "a colon")
    }

    fn check_depth(&self, open: &[u8]) -> Result<(), WireError> {
        if open.len() > MAX_DEPTH {
            return Err(WireError::TooMany {
                what: "nested JSON values",
                limit: MAX_DEPTH,
            });
        }
        Ok(())
    }

    fn error(&self, expected: &'static str) -> WireError {
        self.error_at(expected, self.at)
    }

    fn error_at(&self, expected: &'static str, at: usize) -> WireError {
        WireError::Json {
            what: self.what,
            expected,
            at,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), WireError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    fn literal(&mut self, text: &[u8]) -> bool {
        let found = self.input[self.at..].starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn null(&mut self) -> Result<bool, WireError> {
        self.blank();
        Ok(self.literal(b"null"))
    }

    /// Moves behind the string that starts here, checking its form but not its encoding.
    fn scan_string(&mut self, expected: &'static str) -> Result<(), WireError> {
        if self.peek() != Some(b'"') {
            return Err(self.error(expected));
        }
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') if hex4(&self.input[self.at + 1..]).is_some() => self.at += 5,
                        _ => return Err(self.error("an escape sequence")),
                    }
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.error("the end of the string")),
            }
        }
    }

    fn quoted(&mut self, expected: &'static str) -> Result<Cow<'a, str>, WireError> {
        let start = self.at;
        self.scan_string(expected)?;
        Ok(unquote(&self.input[start + 1..self.at - 1]))
    }

    /// Moves behind the number that starts here and gives its text.
    fn number(&mut self, expected: &'static str) -> Result<&'a str, WireError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits(expected)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("a digit")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits("a digit")?;
        }
        core::str::from_utf8(&self.input[start..self.at]).map_err(|_| self.error_at(expected, start))
    }

    fn digits(&mut self, expected: &'static str) -> Result<(), WireError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.error(expected))
        } else {
            Ok(())
        }
    }
}
