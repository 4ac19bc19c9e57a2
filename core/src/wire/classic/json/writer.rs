//! Compact JSON, appended to a string.

use alloc::string::String;
use core::fmt::Write as _;

/// Appends a string with its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Appends a number. What JSON cannot express (NaN, infinities) becomes `null`, which readers take for 0.
pub fn write_float(out: &mut String, value: f64) {
    let magnitude = value.abs();
    // Writing to a string cannot fail.
    let _ = if !value.is_finite() {
        out.write_str("null")
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let start = out.len();
        let written = write!(out, "{value:e}");
        if let Some(e) = out[start..].find('e')
            && !out[start + e..].starts_with("e-")
        {
            out.insert(start + e + 1, '+');
        }
        written
    } else {
        write!(out, "{value}")
    };
}

/// Appends an unsigned integer.
pub fn write_unsigned(out: &mut String, value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends a map with its entries in the order of the iterator; `None` is a nil map.
pub fn write_map<'m, V: 'm>(
    out: &mut String,
    map: Option<impl IntoIterator<Item = (&'m String, &'m V)>>,
    mut write: impl FnMut(&mut String, &V),
) {
    let Some(map) = map else {
        out.push_str("null");
        return;
    };
    out.push('{');
    for (i, (key, value)) in map.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}
