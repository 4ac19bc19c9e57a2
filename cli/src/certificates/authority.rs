//! `cert-init` and `cert-signreq`.

use std::fmt::Write as _;
use std::io::{BufRead, Read as _};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::key::{Algorithm, Key};
use super::subject::{show, visible};
use super::{Init, Names, Result, SignRequest, Terminal, ToolError, Validity, der, files, names, pem};

/// Bits of a key if nobody says how many.
const DEFAULT_BITS: i64 = 2048;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1000;

/// Makes an authority: a key and a certificate that it signs itself.
pub(super) fn init(init: &Init, now: Timestamp) -> Result<()> {
    if init.common_name.is_empty() {
        return Err(ToolError::new("must provide CommonName"));
    }
    let (not_before, not_after) = init.validity.resolve(now, 10)?;
    let bits = if init.bits == 0 { DEFAULT_BITS } else { init.bits };
    let key = Key::generate(bits)?;
    let name = der::name(&init.common_name);
    let algorithm = Algorithm::Sha256;
    let content = der::certificate(&der::Content {
        serial: serial(now),
        algorithm,
        issuer: &name,
        not_before,
        not_after,
        subject: &name,
        public_key: &der::public_key_info(key.public()),
        extensions: &der::authority_extensions(&der::key_id(key.public())),
    });
    let signed = der::signed(&content, algorithm, &key.sign(algorithm, &content)?);
    files::write(&[
        (&init.out_cert, &pem::write(pem::CERTIFICATE, &signed)),
        (&init.out_key, &key.to_pem()),
    ])
}

/// Shows a request and, if the user agrees, signs it.
pub(super) fn sign(sign: &SignRequest, now: Timestamp, terminal: &mut Terminal<'_>) -> Result<()> {
    files::not_over(&sign.out_cert, &[&sign.request, &sign.ca_cert, &sign.ca_key])?;
    let (not_before, not_after) = sign.validity.resolve(now, 1)?;
    let authority = pem::read_one(&sign.ca_cert, &[pem::CERTIFICATE], "certificate")?;
    let Ok(([], authority)) = X509Certificate::from_der(authority.contents()) else {
        return Err(ToolError::new(format!("certificate in {} is malformed", sign.ca_cert)));
    };
    let key = Key::read(&sign.ca_key)?;
    check_authority(sign, &authority, &key)?;
    let request = pem::read_one(&sign.request, &[pem::REQUEST], "certificate request")?;
    let Ok(([], request)) = X509CertificationRequest::from_der(request.contents()) else {
        let text = format!("certificate request in {} is malformed", sign.request);
        return Err(ToolError::new(text));
    };
    let request = Request::read(&request)?;
    if !sign.is_verified {
        ask(&request, terminal)?;
    }
    let key_id = authority.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let content = der::certificate(&der::Content {
        serial: serial(now),
        algorithm: request.algorithm,
        issuer: authority.subject().as_raw(),
        not_before,
        not_after,
        subject: request.parsed.certification_request_info.subject.as_raw(),
        public_key: request.parsed.certification_request_info.subject_pki.raw,
        extensions: &der::node_extensions(key_id, request.alt_names.value, request.alt_names.critical),
    });
    let signature = key.sign(request.algorithm, &content)?;
    let signed = der::signed(&content, request.algorithm, &signature);
    files::write(&[(&sign.out_cert, &pem::write(pem::CERTIFICATE, &signed))])
}

/// Certificates of anything else nobody would accept.
fn check_authority(sign: &SignRequest, authority: &X509Certificate<'_>, key: &Key) -> Result<()> {
    if !authority.is_ca() {
        let text = format!("the certificate in {} is not that of an authority", sign.ca_cert);
        return Err(ToolError::new(text));
    }
    if authority.public_key().subject_public_key.data.as_ref() != key.public() {
        let (key, cert) = (&sign.ca_key, &sign.ca_cert);
        let text = format!("the private key in {key} does not belong to the certificate in {cert}");
        return Err(ToolError::new(text));
    }
    Ok(())
}

/// A request that can be signed.
struct Request<'a> {
    parsed: &'a X509CertificationRequest<'a>,
    algorithm: Algorithm,
    bits: usize,
    alt_names: &'a X509Extension<'a>,
    names: Names,
}

impl<'a> Request<'a> {
    fn read(parsed: &'a X509CertificationRequest<'a>) -> Result<Self> {
        let info = &parsed.certification_request_info;
        let Some(alt_names) = alt_names(parsed) else {
            return Err(no_names());
        };
        let names = names::read(alt_names.value)?;
        if names == Names::default() {
            return Err(no_names());
        }
        let Ok(PublicKey::RSA(key)) = info.subject_pki.parsed() else {
            return Err(ToolError::new("the request is not for an RSA key"));
        };
        let Some(algorithm) = Algorithm::of(parsed.signature_algorithm.oid()) else {
            let text = format!(
                "the request is signed with algorithm {}; it must be RSA with SHA-256, SHA-384 or SHA-512",
                parsed.signature_algorithm.oid().to_id_string()
            );
            return Err(ToolError::new(text));
        };
        // The classic node does not look. Who asks must have the key.
        let public = &info.subject_pki.subject_public_key.data;
        if !algorithm.verifies(public, info.raw, &parsed.signature_value.data) {
            let text = "the signature of the request is wrong, or its key has less than 2048 bits";
            return Err(ToolError::new(text));
        }
        Ok(Self {
            parsed,
            algorithm,
            bits: key.key_size(),
            alt_names,
            names,
        })
    }
}

fn no_names() -> ToolError {
    ToolError::new("cannot sign: no names found in certificate")
}

fn alt_names<'a>(request: &'a X509CertificationRequest<'a>) -> Option<&'a X509Extension<'a>> {
    let attributes = request.certification_request_info.iter_attributes();
    let mut extensions = attributes
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(requested.extensions.iter()),
            _ => None,
        })
        .flatten();
    extensions.find(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME)
}

/// Shows a request and asks whether to sign it.
fn ask(request: &Request<'_>, terminal: &mut Terminal<'_>) -> Result<()> {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_request(&mut text, request);
    let failed = |error: std::io::Error| ToolError::new(format!("asking: {error}"));
    terminal.output.write_all(text.as_bytes()).map_err(failed)?;
    terminal.output.flush().map_err(failed)?;
    let mut answer = String::new();
    (&mut *terminal.input as &mut dyn BufRead)
        .take(MAX_ANSWER)
        .read_line(&mut answer)
        .map_err(failed)?;
    let word = answer.split_whitespace().next().unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ToolError::new("user declined")),
    }
}

fn write_request(text: &mut String, request: &Request<'_>) -> std::fmt::Result {
    writeln!(text, "Requested certificate:")?;
    let subject = &request.parsed.certification_request_info.subject;
    writeln!(text, "  Subject: {}", show(subject))?;
    writeln!(text, "  Encryption Algorithm: RSA ({} bits)", request.bits)?;
    writeln!(text, "  Signature Algorithm: {}", request.algorithm.name())?;
    writeln!(text, "  Names:")?;
    for name in &request.names.dns {
        writeln!(text, "    DNS Name: {}", visible(name))?;
    }
    for ip in &request.names.ips {
        writeln!(text, "    IP Address: {ip}")?;
    }
    for node in &request.names.nodes {
        writeln!(text, "    Receptor Node ID: {}", visible(node))?;
    }
    write!(text, "Sign certificate (yes/no)? ")
}

fn serial(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or_default()
}

impl Validity {
    fn resolve(self, now: Timestamp, years: i64) -> Result<(Timestamp, Timestamp)> {
        let later = || {
            let later = now.to_zoned(TimeZone::UTC).checked_add(years.years());
            later.map(|at| at.timestamp()).unwrap_or(Timestamp::MAX)
        };
        let not_before = self.not_before.unwrap_or(now);
        let not_after = self.not_after.unwrap_or_else(later);
        if not_after <= not_before {
            return Err(ToolError::new(format!(
                "the certificate would be valid from {not_before:.0} to {not_after:.0}, that is never"
            )));
        }
        Ok((not_before, not_after))
    }
}
