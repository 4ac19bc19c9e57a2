//! `cert-makereq`.

use super::key::{Algorithm, Key};
use super::{MakeRequest, RequestKey, Result, ToolError, der, files, pem};

/// Makes a request, and a key if there is none yet.
pub(super) fn make(request: &MakeRequest) -> Result<()> {
    if request.common_name.is_empty() {
        return Err(ToolError::new("must provide CommonName"));
    }
    if let Some(dns) = request.names.dns.iter().find(|name| !name.is_ascii()) {
        return Err(ToolError::new(format!("DNS name {dns} is not ASCII")));
    }
    let (key, out_key) = match &request.key {
        RequestKey::Existing(path) => {
            files::not_over(&request.out_request, &[path])?;
            (Key::read(path)?, None)
        }
        RequestKey::New { bits, out_key } => (Key::generate(*bits)?, Some(out_key)),
    };
    let content = der::request(
        &der::name(&request.common_name),
        &der::public_key_info(key.public()),
        &der::alt_names(&request.names),
    );
    let algorithm = Algorithm::Sha256;
    let signed = der::signed(&content, algorithm, &key.sign(algorithm, &content)?);
    let text = pem::write(pem::REQUEST, &signed);
    match out_key {
        Some(out_key) => files::write(&[(&request.out_request, &text), (out_key, &key.to_pem())]),
        None => files::write(&[(&request.out_request, &text)]),
    }
}
