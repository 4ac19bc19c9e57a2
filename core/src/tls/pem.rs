//! PEM texts, as they come out of files.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::text;

/// What was in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The file, for error texts.
    pub file: String,
    /// What was in it.
    pub bytes: Vec<u8>,
}

impl Pem {
    /// What was in `file`.
    pub fn new(file: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            file: file.into(),
            bytes: bytes.into(),
        }
    }

    /// All certificates in it; what is none is skipped, as Go does.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(&self.bytes)
            .filter_map(Result::ok)
            .collect()
    }

    fn has_sections(&self) -> bool {
        let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.bytes);
        sections.any(|section| section.is_ok())
    }
}

impl fmt::Debug for Pem {
    /// It may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({:?}, {} bytes)", self.file, self.bytes.len())
    }
}

/// A certificate with its chain, and the key to it.
///
/// # Errors
/// They cannot be read, or do not belong together.
pub(super) fn pair(certificate: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificate.certificates();
    if chain.is_empty() {
        let text = if certificate.has_sections() {
            text::NOT_A_CERTIFICATE
        } else {
            text::NO_CERTIFICATE
        };
        return Err(text.into());
    }
    let der = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if !key.has_sections() => text::NO_KEY.into(),
        pem::Error::NoItemsFound => alloc::format!("no private key that is not encrypted in {}", key.file),
        other => alloc::format!("private key in {}: {other}", key.file),
    })?;
    match CertifiedKey::from_der(chain, der, provider) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(text::OTHER_KEY.into()),
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(alloc::format!("certificate in {}: {error}", certificate.file))
        }
        Err(error) => Err(alloc::format!("private key in {}: {error}", key.file)),
    }
}
