//! The roots that certificates are verified against, and the chain to one of them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error, OtherError, RootCertStore};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};
use x509_parser::extensions::ExtendedKeyUsage;

use super::names::parse;

/// What a peer must be able to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// It was dialled.
    Server,
    /// It dials.
    Client,
}

/// Certificates that are trusted without proof.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// What is no certificate in here is left out, as Go does.
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self {
            anchors: store,
            certificates,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whom a client may have its certificate from.
    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        self.anchors.subjects()
    }

    /// Whether a chain leads from the leaf to one of them, each link of it valid now and for this purpose.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        // As in Go: what is trusted itself needs no issuer, and may be a CA.
        if self.certificates.contains(leaf) {
            return verify_trusted(leaf, now, purpose);
        }
        let certificate = EndEntityCert::try_from(leaf).map_err(refusal)?;
        certificate
            .verify_for_usage(algorithms.all, &self.anchors.roots, others, now, purpose, None, None)
            .map(|_| ())
            .map_err(refusal)
    }
}

/// `webpki` looks at issuers only, so what it would check of this one certificate is checked here.
fn verify_trusted(leaf: &CertificateDer<'_>, now: UnixTime, purpose: Purpose) -> Result<(), Error> {
    let certificate = parse(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > certificate.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if purpose.is_in(usage.value) => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose.into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

impl Purpose {
    fn is_in(self, usage: &ExtendedKeyUsage<'_>) -> bool {
        usage.any
            || match self {
                Self::Server => usage.server_auth,
                Self::Client => usage.client_auth,
            }
    }
}

/// `anyExtendedKeyUsage` (RFC 5280 §4.2.1.12).
const ANY_USAGE: [usize; 5] = [2, 5, 29, 37, 0];

impl ExtendedKeyUsageValidator for Purpose {
    /// Every purpose is good where a certificate names none, and where it names `anyExtendedKeyUsage`, which `webpki` alone
    /// does not know.
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let wanted = match self {
            Self::Server => KeyUsage::SERVER_AUTH_REPR,
            Self::Client => KeyUsage::CLIENT_AUTH_REPR,
        };
        let mut is_empty = true;
        for usage in usages {
            is_empty = false;
            let usage = usage?.to_decoded_oid();
            if usage == wanted || usage == ANY_USAGE {
                return Ok(());
            }
        }
        // What `webpki` says instead names what was wanted and found, but cannot be made outside of it for two purposes.
        #[expect(deprecated)]
        is_empty.then_some(()).ok_or(webpki::Error::RequiredEkuNotFound)
    }
}

/// An error of `webpki` in the words of `rustls`, which chooses the alert by them.
fn refusal(error: webpki::Error) -> Error {
    use webpki::Error as E;
    #[expect(deprecated)]
    let error = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        // The latter: an authority of the same name, but with another key, say one that was made anew.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        E::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        E::RequiredEkuNotFound => CertificateError::InvalidPurpose,
        other => return refused(alloc::format!("certificate chain: {other:?}")),
    };
    error.into()
}

/// A reason of our own.
pub(super) fn refused(reason: impl Into<String>) -> Error {
    CertificateError::Other(OtherError(Arc::new(Reason(reason.into())))).into()
}

/// `rustls` shows it by [`Debug`](fmt::Debug) only; see [`plain`](super::text::plain).
struct Reason(String);

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Reason {}
