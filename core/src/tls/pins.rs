//! Fingerprints of certificates that are accepted (`security.md` §10).

use alloc::string::String;
use alloc::vec::Vec;

use aws_lc_rs::digest::{SHA224, SHA256, SHA384, SHA512, digest};

use super::text;

/// Digests of leaf certificates, any of which is enough. None at all: every certificate is.
#[derive(Clone, Default, Debug)]
pub(super) struct Pins(Vec<Vec<u8>>);

impl Pins {
    /// From texts: hexadecimal digits, with colons or without.
    ///
    /// # Errors
    /// Not 32 or 64 bytes, or no digits.
    pub(super) fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, String> {
        let pins: Result<Vec<_>, _> = texts.iter().map(|text| parse(text.as_ref())).collect();
        Ok(Self(pins?))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this leaf is one of those that are wanted.
    pub(super) fn allow(&self, leaf: &[u8]) -> Result<(), &'static str> {
        let mut is_one = self.is_empty();
        for pin in &self.0 {
            let algorithm = match pin.len() {
                28 => &SHA224,
                32 => &SHA256,
                48 => &SHA384,
                64 => &SHA512,
                _ => return Err("pinned certificate must have a length of 28, 32, 48 or 64 bytes"),
            };
            is_one |= digest(algorithm, leaf).as_ref() == pin;
        }
        is_one.then_some(()).ok_or("presented certificate is not pinned")
    }
}

fn parse(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|&digit| digit != ':')
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let (pairs, rest) = digits.as_deref().map(<[u8]>::as_chunks::<2>).ok_or(text::PIN_DIGITS)?;
    if !rest.is_empty() {
        return Err(text::PIN_DIGITS.into());
    }
    if !matches!(pairs.len(), 32 | 64) {
        return Err(text::PIN_LENGTH.into());
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn texts_of_openssl_and_bare_digits_are_read() {
        let colons = "AB:cd:".repeat(16);
        let pins = Pins::parse(&[colons.trim_end_matches(':'), &"00".repeat(64)]).unwrap();
        assert_eq!(pins.0, [[0xab, 0xcd].repeat(16), vec![0; 64]]);
    }

    #[test]
    fn other_texts_are_refused_in_the_classic_words() {
        for text in [
            "",
            "00",
            &"00".repeat(20),
            &"00".repeat(28),
            &"00".repeat(48),
            &"00".repeat(65),
        ] {
            assert_eq!(Pins::parse(&[text]).unwrap_err(), text::PIN_LENGTH, "{text}");
        }
        for text in ["zz", "0", &"0".repeat(63), &"-1".repeat(32), "é"] {
            assert_eq!(Pins::parse(&[text]).unwrap_err(), text::PIN_DIGITS, "{text}");
        }
    }

    #[test]
    fn any_pin_of_any_kind_is_enough() {
        let leaf = b"a certificate";
        for algorithm in [&SHA224, &SHA256, &SHA384, &SHA512] {
            let wanted = digest(algorithm, leaf).as_ref().to_vec();
            let other = vec![0; wanted.len()];
            assert_eq!(Pins(vec![other.clone(), wanted]).allow(leaf), Ok(()));
            assert!(Pins(vec![other]).allow(leaf).is_err());
        }
        assert_eq!(Pins::default().allow(leaf), Ok(()));
        // SHA-1 proves nothing.
        assert!(
            Pins(vec![
                digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, leaf)
                    .as_ref()
                    .to_vec()
            ])
            .allow(leaf)
            .is_err()
        );
    }
}
