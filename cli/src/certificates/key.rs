//! RSA keys: made, read, written, used.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding, RsaParameters, UnparsedPublicKey};
use x509_parser::oid_registry::{OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, Oid};

use super::{Result, ToolError, der, pem};

/// A key pair.
pub(super) struct Key {
    pair: KeyPair,
    /// `RSAPrivateKey` of PKCS#1.
    pkcs1: Vec<u8>,
}

impl Key {
    /// A new key. Sizes are those of the library.
    pub(super) fn generate(bits: i64) -> Result<Self> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => {
                return Err(ToolError::new(format!(
                    "bits must be 2048, 3072, 4096 or 8192, not {bits}"
                )));
            }
        };
        let failed = |_| ToolError::new("the key could not be made");
        let pair = KeyPair::generate(size).map_err(failed)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        let pkcs1 =
            der::private_key_in_pkcs8(pkcs8.as_ref()).ok_or_else(|| ToolError::new("the key could not be written"))?;
        Ok(Self { pair, pkcs1 })
    }

    /// The one key in a file, PKCS#1 or PKCS#8.
    pub(super) fn read(path: &str) -> Result<Self> {
        let block = pem::read_one(path, &[pem::RSA_KEY, pem::KEY], "private key")?;
        let parsed = match block.tag() {
            pem::RSA_KEY => KeyPair::from_der(block.contents()),
            _ => KeyPair::from_pkcs8(block.contents()),
        };
        let pair = parsed.map_err(|error| {
            ToolError::new(format!(
                "private key in {path}: {error} (keys are RSA, with 2048 to 8192 bits)"
            ))
        })?;
        Ok(Self {
            pair,
            pkcs1: block.into_contents(),
        })
    }

    /// `RSA PRIVATE KEY`; for keys that were made here.
    pub(super) fn to_pem(&self) -> Vec<u8> {
        pem::write(pem::RSA_KEY, &self.pkcs1)
    }

    /// `RSAPublicKey` of PKCS#1.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(algorithm.encoding(), &SystemRandom::new(), message, &mut signature)
            .map_err(|_| ToolError::new("the signature could not be made"))?;
        Ok(signature)
    }
}

/// RSA signatures after PKCS#1 v1.5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    pub(super) fn of(oid: &Oid<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.oid() == *oid)
    }

    fn oid(self) -> Oid<'static> {
        match self {
            Self::Sha256 => OID_PKCS1_SHA256WITHRSA,
            Self::Sha384 => OID_PKCS1_SHA384WITHRSA,
            Self::Sha512 => OID_PKCS1_SHA512WITHRSA,
        }
    }

    /// Its arcs.
    pub(super) const fn arcs(self) -> &'static [u64] {
        match self {
            Self::Sha256 => &[1, 2, 840, 113_549, 1, 1, 11],
            Self::Sha384 => &[1, 2, 840, 113_549, 1, 1, 12],
            Self::Sha512 => &[1, 2, 840, 113_549, 1, 1, 13],
        }
    }

    /// The name a user sees.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256-RSA",
            Self::Sha384 => "SHA384-RSA",
            Self::Sha512 => "SHA512-RSA",
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Sha256 => &signature::RSA_PKCS1_SHA256,
            Self::Sha384 => &signature::RSA_PKCS1_SHA384,
            Self::Sha512 => &signature::RSA_PKCS1_SHA512,
        }
    }

    /// Whether a signature is that of this public key (`RSAPublicKey`, 2048 bits or more).
    pub(super) fn verifies(self, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let parameters: &'static RsaParameters = match self {
            Self::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        };
        UnparsedPublicKey::new(parameters, public)
            .verify(message, signature)
            .is_ok()
    }
}
