//! What a string means: escapes undone, bytes that are not UTF-8 replaced.

use alloc::borrow::Cow;
use alloc::string::String;

/// The value of what stands between two quotes, already checked by `scan_string`.
pub(super) fn unquote(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\')
        && let Ok(text) = core::str::from_utf8(raw)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(escape) = rest.iter().position(|&b| b == b'\\') {
        push_lossy(&mut text, &rest[..escape]);
        let (c, len) = unescape(&rest[escape..]);
        text.push(c);
        rest = &rest[escape + len..];
    }
    push_lossy(&mut text, rest);
    Cow::Owned(text)
}

/// The character of the escape sequence that `raw` starts with, and the length of the sequence.
fn unescape(raw: &[u8]) -> (char, usize) {
    let simple = match raw.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescape_unicode(raw),
        Some(&other) => char::from(other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (simple, raw.len().min(2))
}

fn unescape_unicode(raw: &[u8]) -> (char, usize) {
    let unit = |at: usize| raw.get(at..).and_then(hex4);
    let Some(first) = unit(2) else {
        return (char::REPLACEMENT_CHARACTER, raw.len().min(2));
    };
    if let Some(c) = char::from_u32(first) {
        return (c, 6);
    }
    // A surrogate: only a high one followed by a low one is a character. A second one that does not fit stands for itself.
    if (0xd800..0xdc00).contains(&first)
        && raw.get(6..8) == Some(b"\\u")
        && let Some(second @ 0xdc00..0xe000) = unit(8)
        && let Some(c) = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    {
        return (c, 12);
    }
    (char::REPLACEMENT_CHARACTER, 6)
}

/// The number that four hex digits at the start of `raw` make.
pub(super) fn hex4(raw: &[u8]) -> Option<u32> {
    raw.first_chunk::<4>()?
        .iter()
        .try_fold(0, |value, &b| Some(value << 4 | char::from(b).to_digit(16)?))
}

/// Appends text; each byte that is not part of a character becomes U+FFFD.
fn push_lossy(text: &mut String, raw: &[u8]) {
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}
