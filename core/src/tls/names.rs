//! Node IDs in certificates (`security.md` §8).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use x509_parser::asn1_rs::{Any, Class, FromDer as _, Oid, Tag, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};

/// The otherName type of a node ID.
const NODE_ID: Oid<'static> = oid!(1.3.6.1.4.1.2312.19.1);

/// `otherName` among the kinds of name (RFC 5280 §4.2.1.6).
const OTHER_NAME: Tag = Tag(0);

/// Why the node IDs of a certificate cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NamesError {
    /// It is no X.509 certificate, or bytes follow it.
    NoCertificate,
    /// Its subjectAltName cannot be read, or there are several.
    NoNames,
    /// Its subjectAltName has an otherName that cannot be read.
    OtherName,
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "x509: malformed certificate",
            Self::NoNames => "x509: malformed subjectAltName extension",
            Self::OtherName => "x509: malformed otherName in the subjectAltName extension",
        })
    }
}

impl core::error::Error for NamesError {}

/// The node IDs of a certificate in DER, in their order; none if it has no such names.
///
/// # Errors
/// Without a look at the signature: it is no certificate, or its names cannot be read. One entry that cannot be read spoils
/// them all.
pub fn node_ids(certificate: &[u8]) -> Result<Vec<String>, NamesError> {
    Ok(names(&parse(certificate)?)?.0)
}

/// The node IDs in the content of a subjectAltName extension; `None` for one that no node can have, such as bytes that are no
/// text.
///
/// # Errors
/// As for [`node_ids`].
pub fn node_ids_in(alt_name: &[u8]) -> Result<Vec<Option<String>>, NamesError> {
    match SubjectAlternativeName::from_der(alt_name) {
        Ok(([], extension)) => ids(&extension),
        _ => Err(NamesError::NoNames),
    }
}

fn ids(extension: &SubjectAlternativeName<'_>) -> Result<Vec<Option<String>>, NamesError> {
    let mut names = Vec::new();
    for name in &extension.general_names {
        match name {
            GeneralName::OtherName(kind, value) if *kind == NODE_ID => {
                names.push(text(value).ok_or(NamesError::OtherName)?);
            }
            GeneralName::Invalid(OTHER_NAME, _) => return Err(NamesError::OtherName),
            _ => {}
        }
    }
    Ok(names)
}

/// A certificate and nothing behind it.
pub(super) fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, NamesError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(NamesError::NoCertificate),
    }
}

/// The node IDs, and whether the extension is marked as critical.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Result<(Vec<String>, bool), NamesError> {
    let extension = certificate.subject_alternative_name();
    let Some(extension) = extension.map_err(|_| NamesError::NoNames)? else {
        return Ok((Vec::new(), false));
    };
    let names = ids(extension.value)?.into_iter().flatten().collect();
    Ok((names, extension.critical))
}

/// `[0] EXPLICIT` of any character string that Go understands. `Some(None)`: a string, but none that a node ID can be.
fn text(value: &[u8]) -> Option<Option<String>> {
    let outer = only(value)?;
    if outer.class() != Class::ContextSpecific || outer.tag() != Tag(0) || !outer.header.constructed() {
        return None;
    }
    let string = only(outer.data)?;
    if string.class() != Class::Universal || string.header.constructed() {
        return None;
    }
    let bytes = string.data;
    let is = |allowed: fn(&u8) -> bool| bytes.iter().all(allowed).then_some(());
    match string.tag() {
        Tag::Utf8String => {}
        Tag::PrintableString => is(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(byte))?,
        Tag::Ia5String => is(u8::is_ascii)?,
        Tag::NumericString => is(|byte| byte.is_ascii_digit() || *byte == b' ')?,
        // Go takes their bytes as they are.
        Tag::T61String | Tag::GeneralString => return Some(String::from_utf8(bytes.into()).ok()),
        Tag::BmpString => return utf_16(bytes).map(Some),
        _ => return None,
    }
    String::from_utf8(bytes.into()).ok().map(Some)
}

/// One value, and nothing behind it.
fn only(der: &[u8]) -> Option<Any<'_>> {
    match Any::from_der(der) {
        Ok(([], any)) => Some(any),
        _ => None,
    }
}

fn utf_16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect();
    // Go drops a zero at the end.
    let units = units.strip_suffix(&[0]).unwrap_or(&units);
    String::from_utf16(units).ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// A certificate with this subjectAltName.
    fn with_names(names: &[u8]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names.to_vec());
        params.custom_extensions = vec![extension];
        params
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let (pairs, _) = digits.as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(byte).collect()
    }

    /// One otherName of a node ID with this value inside `[0] EXPLICIT`.
    fn node(value: &[u8]) -> Vec<u8> {
        let length = |length: usize| match length {
            0..=0x7f => vec![length as u8],
            _ => vec![0x82, (length >> 8) as u8, length as u8],
        };
        let explicit = [&[0xa0][..], &length(value.len()), value].concat();
        let inner = [&hex("06 09 2b 06 01 04 01 92 08 13 01")[..], &explicit].concat();
        let entry = [&[0xa0][..], &length(inner.len()), &inner].concat();
        [&[0x30][..], &length(entry.len()), &entry].concat()
    }

    fn string(tag: u8, text: &[u8]) -> Vec<u8> {
        [&[tag, text.len() as u8][..], text].concat()
    }

    #[test]
    fn the_bytes_of_the_specification_are_read() {
        let foo = hex("30 14 a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 66 6f 6f");
        assert_eq!(node_ids(&with_names(&foo)).unwrap(), ["foo"]);
        let both = hex("30 39 82 09 6c 6f 63 61 6c 68 6f 73 74 87 04 7f 00 00 01
             a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 66 6f 6f
             a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 62 61 72"
            .replace('\n', "")
            .as_str());
        assert_eq!(node_ids(&with_names(&both)).unwrap(), ["foo", "bar"]);
        assert_eq!(node_ids(&with_names(&hex("30 00"))).unwrap(), [""; 0]);
        let none = CertificateParams::default()
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        assert_eq!(node_ids(none.der()).unwrap(), [""; 0]);
    }

    #[test]
    fn every_string_that_go_understands_is_a_name() {
        for tag in [12, 19, 22, 20, 18, 27] {
            let digits = node_ids(&with_names(&node(&string(tag, b"12 3")))).unwrap();
            assert_eq!(digits, ["12 3"], "tag {tag}");
        }
        assert_eq!(
            node_ids(&with_names(&node(&string(12, "nöde".as_bytes())))).unwrap(),
            ["nöde"]
        );
        let wide: Vec<u8> = "nöde\0".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(node_ids(&with_names(&node(&string(30, &wide)))).unwrap(), ["nöde"]);
        let long = "x".repeat(300);
        let value = [&[12, 0x82, 1, 44][..], long.as_bytes()].concat();
        assert_eq!(node_ids(&with_names(&node(&value))).unwrap(), [long]);
    }

    #[test]
    fn what_is_no_string_spoils_all_names() {
        let wrong: [&[u8]; 9] = [
            &[4, 1, b'x'],               // OCTET STRING
            &[12, 1, 0xff],              // not UTF-8
            &[22, 1, 0xe9],              // not ASCII
            &[18, 1, b'x'],              // not a digit
            &[19, 1, b'@'],              // not printable
            &[30, 1, b'x'],              // half a character
            &[12, 1, b'x', 12, 1, b'y'], // two
            &[12, 5, b'x'],              // cut
            &[],
        ];
        for value in wrong {
            assert_eq!(
                node_ids(&with_names(&node(value))),
                Err(NamesError::OtherName),
                "{value:?}"
            );
        }
        // No node ID has such bytes, but others may be there.
        assert_eq!(node_ids(&with_names(&node(&string(20, &[0xe9])))).unwrap(), [""; 0]);
        // Of other kinds of otherName nothing is asked.
        let other = hex("30 0a a0 08 06 03 2a 03 04 04 01 78");
        assert_eq!(node_ids(&with_names(&other)).unwrap(), [""; 0]);
        assert_eq!(
            node_ids(&with_names(&hex("30 03 a0 01 06"))),
            Err(NamesError::OtherName)
        );
        assert_eq!(node_ids(&with_names(b"junk")), Err(NamesError::NoNames));
    }

    #[test]
    fn a_cut_or_changed_certificate_gives_no_panic() {
        let der = with_names(&node(&string(12, b"node")));
        assert!(node_ids(b"").is_err());
        for end in 0..der.len() {
            assert!(node_ids(&der[..end]).is_err(), "{end}");
            let mut changed = der.clone();
            for value in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
                changed[end] = value;
                let _ = node_ids(&changed);
            }
        }
        assert_eq!(node_ids(&[&der[..], &[0]].concat()), Err(NamesError::NoCertificate));
    }
}
