//! The common name in a certificate's subject, and no more of X.509 than that takes (RFC 5280 §4.1).

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The version of a certificate, which may be missing.
const VERSION: u8 = 0xa0;

/// The text of the last common name of the subject, as its bytes; `None` if there is none, or this is no certificate.
pub(super) fn common_name(certificate: &[u8]) -> Option<&[u8]> {
    let mut outer = Der(certificate);
    let mut whole = Der(outer.take(SEQUENCE)?);
    let mut body = Der(whole.take(SEQUENCE)?);
    if body.peek() == Some(VERSION) {
        body.take(VERSION)?;
    }
    body.take(INTEGER)?;
    // Signature algorithm, issuer, validity.
    for _ in 0..3 {
        body.take(SEQUENCE)?;
    }
    let mut subject = Der(body.take(SEQUENCE)?);
    let mut found = None;
    while !subject.0.is_empty() {
        let mut parts = Der(subject.take(SET)?);
        while !parts.0.is_empty() {
            let mut part = Der(parts.take(SEQUENCE)?);
            if part.take(OBJECT_IDENTIFIER)? == COMMON_NAME {
                found = Some(part.any()?.1);
            }
        }
    }
    found
}

/// What is left of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|&(found, _)| found == tag).map(|(_, value)| value)
    }

    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // A certificate is at most 16 MiB long (RFC 8446 §4.4.2).
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::stream::secure::tests::certificate;

    #[test]
    fn the_name_is_found() {
        let (der, _) = certificate("netceptor-insecure-common-name");
        assert_eq!(common_name(&der), Some(&b"netceptor-insecure-common-name"[..]));
        let (der, _) = certificate(&"x".repeat(200));
        assert_eq!(common_name(&der), Some(vec![b'x'; 200].as_slice()));
    }

    #[test]
    fn a_cut_or_changed_certificate_gives_no_panic() {
        let (der, _) = certificate("name");
        for end in 0..der.len() {
            let _ = common_name(&der[..end]);
            let mut changed = der.clone();
            for value in [0, 0x30, 0x7f, 0x80, 0x83, 0xff] {
                changed[end] = value;
                let _ = common_name(&changed);
            }
        }
    }
}
