//! Texts of TLS configs that users of Go nodes know (`config.md` §6.6, §6.7; `security.md` §5, §9).

use alloc::string::String;

/// In front of whatever is wrong with a TLS server config.
pub const SERVER_PREFIX: &str = "error preparing tls server config: ";
/// In front of whatever is wrong with a TLS client config.
pub const CLIENT_PREFIX: &str = "error preparing tls client config: ";
/// In front of why a file of client CAs cannot be read.
pub const CLIENT_CAS: &str = "error reading client CAs file: ";
/// In front of why a file of root CAs cannot be read.
pub const ROOT_CAS: &str = "error reading root CAs file: ";

pub(super) const ONE_OF_TWO: &str = "cert and key must both be supplied or neither";
pub(super) const NO_CERTIFICATE: &str = "tls: failed to find any PEM data in certificate input";
pub(super) const NOT_A_CERTIFICATE: &str = "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched";
pub(super) const NO_KEY: &str = "tls: failed to find any PEM data in key input";
pub(super) const OTHER_KEY: &str = "tls: private key does not match public key";
pub(super) const PIN_LENGTH: &str =
    "error decoding fingerprints: fingerprints must be 32 or 64 bytes for sha256 or sha512";
pub(super) const PIN_DIGITS: &str = "error decoding fingerprints: error decoding fingerprint";
pub(super) const INSECURE: &str = "insecure connection to secure service";

/// A name that no config has.
#[must_use]
pub fn unknown(name: &str) -> String {
    alloc::format!("unknown TLS config {name}")
}

/// What `rustls` says of a peer's certificate or has heard of ours, in words for users.
#[must_use]
pub fn plain(error: &str) -> String {
    if let Some(alert) = error.strip_prefix("received fatal alert: ") {
        return alloc::format!("tls:{}", words(alert));
    }
    let Some(reason) = error.strip_prefix("invalid peer certificate: ") else {
        return error.into();
    };
    let own = reason
        .strip_prefix("Other(OtherError(")
        .and_then(|rest| rest.strip_suffix("))"));
    match (own, reason) {
        (Some(own), _) => own.into(),
        (None, "UnknownIssuer") => "x509: certificate signed by unknown authority".into(),
        (None, "InvalidPurpose") => "x509: certificate specifies an incompatible key usage".into(),
        (None, "UnhandledCriticalExtension") => "x509: unhandled critical extension".into(),
        (None, "BadEncoding") => "x509: malformed certificate".into(),
        (None, other) => alloc::format!("x509: {other}"),
    }
}

/// `BadCertificate` as ` bad certificate`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.ends_with(|last: char| last == 'c' && letter == 'A') {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_plain_words() {
        for (error, text) in [
            ("received fatal alert: BadCertificate", "tls: bad certificate"),
            ("received fatal alert: UnknownCA", "tls: unknown ca"),
            (
                "invalid peer certificate: UnknownIssuer",
                "x509: certificate signed by unknown authority",
            ),
            (
                "invalid peer certificate: Other(OtherError(no (good) one))",
                "no (good) one",
            ),
            ("invalid peer certificate: Expired", "x509: Expired"),
            ("peer sent no certificates", "peer sent no certificates"),
        ] {
            assert_eq!(plain(error), text);
        }
    }
}
