//! Certificates and requests in DER, with the extensions in the order in which classic nodes have them (`security.md` §14).
//!
//! Written by hand on an encoder, because subjects and names are copied from other files byte for byte.

use aws_lc_rs::digest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der, parse_der};

use super::key::Algorithm;

const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const RSA_ENCRYPTION: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];
const NODE_ID: &[u64] = &[1, 3, 6, 1, 4, 1, 2312, 19, 1];

/// One extension: its type, whether it is critical, its value.
pub(super) struct Extension {
    oid: &'static [u64],
    is_critical: bool,
    value: Vec<u8>,
}

/// What is in a certificate.
pub(super) struct Content<'a> {
    /// Seconds since 1970, the classic serial number.
    pub(super) serial: u64,
    pub(super) algorithm: Algorithm,
    /// `Name` of the issuer.
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// `Name` of the subject.
    pub(super) subject: &'a [u8],
    /// `SubjectPublicKeyInfo`.
    pub(super) public_key: &'a [u8],
    pub(super) extensions: &'a [Extension],
}

fn oid(writer: DERWriter<'_>, arcs: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(arcs));
}

fn algorithm(writer: DERWriter<'_>, arcs: &[u64]) {
    writer.write_sequence(|seq| {
        oid(seq.next(), arcs);
        seq.next().write_null();
    });
}

/// A subject with a common name only.
pub(super) fn name(common_name: &str) -> Vec<u8> {
    let is_printable = common_name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            seq.next().write_set(|set| {
                set.next().write_sequence(|seq| {
                    oid(seq.next(), COMMON_NAME);
                    if is_printable {
                        seq.next().write_printable_string(common_name);
                    } else {
                        seq.next().write_utf8string(common_name);
                    }
                });
            });
        });
    })
}

/// `SubjectPublicKeyInfo` of an `RSAPublicKey`.
pub(super) fn public_key_info(public: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            algorithm(seq.next(), RSA_ENCRYPTION);
            seq.next().write_bitvec_bytes(public, public.len() * 8);
        });
    })
}

/// The `RSAPrivateKey` inside a PKCS#8 `PrivateKeyInfo`.
pub(super) fn private_key_in_pkcs8(pkcs8: &[u8]) -> Option<Vec<u8>> {
    parse_der(pkcs8, |reader| {
        reader.read_sequence(|seq| {
            seq.next().read_i64()?;
            seq.next().read_der()?;
            seq.next().read_bytes()
        })
    })
    .ok()
}

/// A subjectAltName in the order of the classic tools: DNS names, IP addresses, node IDs (`security.md` §8).
pub(super) fn alt_names(names: &super::Names) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            for dns in &names.dns {
                let implicit = |writer: DERWriter<'_>| writer.write_ia5_string(dns);
                seq.next().write_tagged_implicit(Tag::context(2), implicit);
            }
            for ip in &names.ips {
                let octets = match ip.to_canonical() {
                    std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                    std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                let implicit = |writer: DERWriter<'_>| writer.write_bytes(&octets);
                seq.next().write_tagged_implicit(Tag::context(7), implicit);
            }
            for node in &names.nodes {
                seq.next().write_tagged_implicit(Tag::context(0), |writer| {
                    writer.write_sequence(|seq| {
                        oid(seq.next(), NODE_ID);
                        let string = |writer: DERWriter<'_>| writer.write_utf8string(node);
                        seq.next().write_tagged(Tag::context(0), string);
                    });
                });
            }
        });
    })
}

/// Extensions in the order of the classic tools.
pub(super) fn authority_extensions(key_id: &[u8]) -> Vec<Extension> {
    let key_id = construct_der(|writer| writer.write_bytes(key_id));
    let constraints = construct_der(|writer| writer.write_sequence(|seq| seq.next().write_bool(true)));
    vec![
        // digitalSignature, keyCertSign
        Extension::new(KEY_USAGE, true, vec![0x03, 0x02, 0x02, 0x84]),
        Extension::new(EXTENDED_KEY_USAGE, false, both_uses()),
        Extension::new(BASIC_CONSTRAINTS, true, constraints),
        Extension::new(SUBJECT_KEY_ID, false, key_id),
    ]
}

/// The same of a certificate for a node: `authority` is the key ID of its issuer, if that has one; `names` and whether they
/// are critical come from the request.
pub(super) fn node_extensions(authority: Option<&[u8]>, names: &[u8], is_critical: bool) -> Vec<Extension> {
    let mut extensions = vec![
        // digitalSignature
        Extension::new(KEY_USAGE, true, vec![0x03, 0x02, 0x07, 0x80]),
        Extension::new(EXTENDED_KEY_USAGE, false, both_uses()),
    ];
    if let Some(id) = authority {
        let value = construct_der(|writer| {
            writer.write_sequence(|seq| {
                let implicit = |writer: DERWriter<'_>| writer.write_bytes(id);
                seq.next().write_tagged_implicit(Tag::context(0), implicit);
            });
        });
        extensions.push(Extension::new(AUTHORITY_KEY_ID, false, value));
    }
    extensions.push(Extension::new(SUBJECT_ALT_NAME, is_critical, names.to_vec()));
    extensions
}

fn both_uses() -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            oid(seq.next(), CLIENT_AUTH);
            oid(seq.next(), SERVER_AUTH);
        });
    })
}

impl Extension {
    fn new(oid: &'static [u64], is_critical: bool, value: Vec<u8>) -> Self {
        Self {
            oid,
            is_critical,
            value,
        }
    }

    fn write(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|seq| {
            oid(seq.next(), self.oid);
            if self.is_critical {
                seq.next().write_bool(true);
            }
            seq.next().write_bytes(&self.value);
        });
    }
}

/// An ID for a public key: the first 160 bits of its SHA-256 (RFC 7093 §2).
pub(super) fn key_id(public: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, public).as_ref()[..20].to_vec()
}

/// The part of a certificate that is signed.
pub(super) fn certificate(content: &Content<'_>) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            seq.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            seq.next().write_u64(content.serial);
            algorithm(seq.next(), content.algorithm.arcs());
            seq.next().write_der(content.issuer);
            seq.next().write_sequence(|seq| {
                seq.next().write_der(&time(content.not_before));
                seq.next().write_der(&time(content.not_after));
            });
            seq.next().write_der(content.subject);
            seq.next().write_der(content.public_key);
            seq.next()
                .write_tagged(Tag::context(3), |writer| extensions(writer, content.extensions));
        });
    })
}

/// The part of a request that is signed.
pub(super) fn request(subject: &[u8], public_key: &[u8], names: &[u8]) -> Vec<u8> {
    let requested = [Extension::new(SUBJECT_ALT_NAME, false, names.to_vec())];
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            seq.next().write_u8(0);
            seq.next().write_der(subject);
            seq.next().write_der(public_key);
            seq.next().write_tagged_implicit(Tag::context(0), |writer| {
                writer.write_set(|set| {
                    set.next().write_sequence(|seq| {
                        oid(seq.next(), EXTENSION_REQUEST);
                        seq.next().write_set(|set| extensions(set.next(), &requested));
                    });
                });
            });
        });
    })
}

fn extensions(writer: DERWriter<'_>, extensions: &[Extension]) {
    writer.write_sequence(|seq: &mut DERWriterSeq<'_>| {
        for extension in extensions {
            extension.write(seq.next());
        }
    });
}

/// What was signed, and its signature.
pub(super) fn signed(content: &[u8], by: Algorithm, signature: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|seq| {
            seq.next().write_der(content);
            algorithm(seq.next(), by.arcs());
            seq.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}

/// UTCTime for the years 1950 to 2049, else GeneralizedTime (RFC 5280 §4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    let full = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    let (tag, text) = match at.year() {
        1950..=2049 => (0x17, &full[2..]),
        _ => (0x18, &full[..]),
    };
    let mut der = vec![tag, text.len() as u8];
    der.extend_from_slice(text.as_bytes());
    der
}

#[cfg(test)]
mod tests {
    use super::super::Names;
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(" ")
    }

    fn names(dns: &[&str], ips: &[&str], nodes: &[&str]) -> Vec<u8> {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        alt_names(&Names {
            dns: texts(dns),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            nodes: texts(nodes),
        })
    }

    /// `security.md` §8.
    #[test]
    fn names_have_the_bytes_of_the_specification() {
        assert_eq!(
            hex(&names(&[], &[], &["foo"])),
            "30 14 a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 66 6f 6f"
        );
        assert_eq!(
            hex(&names(&["localhost"], &["127.0.0.1"], &["foo", "bar"])),
            "30 39 82 09 6c 6f 63 61 6c 68 6f 73 74 87 04 7f 00 00 01 \
             a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 66 6f 6f \
             a0 12 06 09 2b 06 01 04 01 92 08 13 01 a0 05 0c 03 62 61 72"
        );
        assert_eq!(hex(&names(&[], &[], &[])), "30 00");
        assert_eq!(names(&[], &["::ffff:1.2.3.4"], &[]), [0x30, 6, 0x87, 4, 1, 2, 3, 4]);
        assert_eq!(names(&[], &["::1"], &[]).len(), 20);
    }

    #[test]
    fn long_node_ids_have_long_lengths() {
        let node = "n".repeat(300);
        let der = names(&[], &[], &[&node]);
        assert_eq!(
            hex(&der[..27]),
            "30 82 01 43 a0 82 01 3f 06 09 2b 06 01 04 01 92 08 13 01 a0 82 01 30 0c 82 01 2c"
        );
        assert_eq!(&der[27..], node.as_bytes());
    }

    #[test]
    fn times_have_the_form_of_their_century() {
        let time = |text: &str| {
            let der = time(text.parse().unwrap());
            assert_eq!(usize::from(der[1]), der.len() - 2);
            (der[0], String::from_utf8(der[2..].to_vec()).unwrap())
        };
        assert_eq!(time("2049-12-31T23:59:59Z"), (0x17, "491231235959Z".into()));
        assert_eq!(time("2050-01-01T01:00:00+01:00"), (0x18, "20500101000000Z".into()));
        assert_eq!(time("1949-01-01T00:00:00Z"), (0x18, "19490101000000Z".into()));
    }

    #[test]
    fn common_names_are_printable_strings_where_they_can() {
        assert_eq!(hex(&name("a b")), "30 0e 31 0c 30 0a 06 03 55 04 03 13 03 61 20 62");
        assert_eq!(hex(&name("a_b")), "30 0e 31 0c 30 0a 06 03 55 04 03 0c 03 61 5f 62");
    }
}
