//! What a user sees of names in a request. It comes from a stranger: control characters are shown as escapes.

use std::fmt::Write as _;

use x509_parser::oid_registry::Oid;
use x509_parser::x509::X509Name;

/// A text without anything that a terminal would obey.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        // Marks that change the direction of writing are not control characters, but hide as well.
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A subject after RFC 2253, the last part first, as the classic node shows it.
pub(super) fn show(name: &X509Name<'_>) -> String {
    let rdns: Vec<_> = name.iter_rdn().collect();
    let parts = rdns.iter().rev().map(|rdn| {
        let attributes = rdn.iter().map(|attribute| match attribute.as_str() {
            Ok(text) => format!("{}={}", short(attribute.attr_type()), escape(text)),
            Err(_) => {
                let mut hex = format!("{}=#", short(attribute.attr_type()));
                for byte in attribute.attr_value().data {
                    let _ = write!(hex, "{byte:02x}");
                }
                hex
            }
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn short(oid: &Oid<'_>) -> String {
    let id = oid.to_id_string();
    let name = match id.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.17" => "POSTALCODE",
        _ => return id,
    };
    name.to_owned()
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(c);
    }
    visible(&out)
}
