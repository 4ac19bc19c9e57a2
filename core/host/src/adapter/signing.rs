//! Tokens of signed work: made and verified with keys from files. What they say and when they are good the core decides.

use std::fs::File;
use std::io::Read as _;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto, decode};
use receptor_core::node::io::TaskResult;

use crate::error_text::os_text;

/// The header of all tokens made here, byte for byte the classic one.
const HEADER: &[u8] = br#"{"alg":"RS512","typ":"JWT"}"#;

/// What is accepted in the header of others.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Largest key file in bytes: a key of 8192 bits takes 7 KiB.
const MAX_FILE: usize = 64 << 10;

/// Bytes of the DER form of the smallest key, 2048 bits; the modulus alone takes 256.
const MIN_PUBLIC: usize = 256;

/// [`Task::Sign`](receptor_core::node::io::Task::Sign), on a thread that may block.
pub fn sign_token(key_file: &str, claims: &str) -> TaskResult {
    signed(key_file, claims).map_or_else(TaskResult::Failed, TaskResult::Signed)
}

/// [`Task::Verify`](receptor_core::node::io::Task::Verify), on a thread that may block.
pub fn verify_token(key_file: &str, token: &str) -> TaskResult {
    let key = match public_key(key_file) {
        Ok(key) => key,
        Err(text) => return TaskResult::Failed(text),
    };
    TaskResult::Verified(claims(&key, token))
}

/// Whether a file holds a key that work can be signed with.
///
/// # Errors
/// Why not.
pub fn check_private_key(file: &str) -> Result<(), String> {
    signed(file, "{}").map(|_| ())
}

/// Whether a file holds a key that signatures can be verified with.
///
/// # Errors
/// Why not.
pub fn check_public_key(file: &str) -> Result<(), String> {
    public_key(file).map(|_| ())
}

fn signed(key_file: &str, claims: &str) -> Result<String, String> {
    let pem = read(key_file, &["RSA PRIVATE KEY", "PRIVATE KEY"], "private")?;
    let unusable = |error: Error| format!("{key_file}: no usable RSA private key: {error}");
    let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(unusable)?;
    let encode = |part: &[u8]| BASE64URL_NOPAD.encode(part);
    let message = format!("{}.{}", encode(HEADER), encode(claims.as_bytes()));
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::RS512).map_err(unusable)?;
    Ok(format!("{message}.{signature}"))
}

fn public_key(file: &str) -> Result<DecodingKey, String> {
    let pem = read(file, &["PUBLIC KEY"], "public")?;
    let unusable = |error: Error| format!("{file}: no usable RSA public key: {error}");
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(unusable)?;
    if key.try_get_as_bytes().map_err(unusable)?.len() < MIN_PUBLIC {
        return Err(format!("{file}: the RSA key is shorter than 2048 bits"));
    }
    Ok(key)
}

fn claims(key: &DecodingKey, token: &str) -> Result<String, String> {
    let mut validation = Validation::new(Algorithm::RS512);
    validation.algorithms = ALGORITHMS.into();
    // The core looks at these, against the clock that it was told.
    validation.required_spec_claims.clear();
    (
        validation.validate_exp,
        validation.validate_nbf,
        validation.validate_aud,
    ) = (false, false, false);
    let data = decode::<serde_json::Value>(token, key, &validation).map_err(|error| go_text(&error))?;
    Ok(data.claims.to_string())
}

/// In the words of the Go library where it has any for this.
fn go_text(error: &Error) -> String {
    match error.kind() {
        ErrorKind::InvalidToken => "token contains an invalid number of segments".to_owned(),
        ErrorKind::InvalidSignature => "crypto/rsa: verification error".to_owned(),
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "key is of invalid type".to_owned()
        }
        _ => error.to_string(),
    }
}

/// The text of a file that holds one PEM block, with one of these labels.
fn read(path: &str, labels: &[&str], kind: &str) -> Result<String, String> {
    let opened = File::open(path).map_err(|error| format!("open {path}: {}", os_text(&error)))?;
    let mut bytes = Vec::new();
    opened
        .take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("read {path}: {}", os_text(&error)))?;
    if bytes.len() > MAX_FILE {
        return Err(format!("{path}: larger than {MAX_FILE} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("no {kind} keys in file {path}"))?;
    let blocks = text.matches("-----BEGIN ").count();
    let is_there = labels
        .iter()
        .any(|label| text.contains(&format!("-----BEGIN {label}-----")));
    match (blocks, is_there) {
        (1, true) => Ok(text),
        (2.., true) => Err(format!("multiple keys in file {path}")),
        _ => Err(format!("no {kind} keys in file {path}")),
    }
}

#[cfg(test)]
mod tests;
