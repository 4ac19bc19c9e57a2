//! TLS between nodes that no TLS config was named for (`security.md` §7): who only listens or forwards cannot read, but
//! nobody knows who is at the other end.
//!
//! The listener shows a throw-away certificate with a fixed common name, and proves that it has the key. Every dialler takes
//! exactly such certificates, so a listener with a config of its own is refused: it expects to be verified.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::names::parse;
use super::profile::{STREAM_VERSIONS, Suites, forget_sessions_of_client, forget_sessions_of_server, provider};
use super::text::INSECURE;
use super::trust::refused;

/// The common name of throw-away certificates.
pub const COMMON_NAME: &str = "netceptor-insecure-common-name";

/// For ends that dial.
///
/// # Errors
/// If the cryptography does not start.
pub fn client_config(alpn: &[u8], suites: Suites) -> Result<ClientConfig, Error> {
    let provider = provider(suites);
    let verifier = Arc::new(AnyThrowAway(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(NoTime))
        .with_protocol_versions(STREAM_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = false;
    forget_sessions_of_client(&mut config);
    Ok(config)
}

/// For ends that were dialled: with a certificate whose common name is [`COMMON_NAME`], and its key in PKCS#8.
///
/// # Errors
/// If they do not fit.
pub fn server_config(alpn: &[u8], suites: Suites, certificate: Vec<u8>, key: Vec<u8>) -> Result<ServerConfig, Error> {
    let key = PrivateKeyDer::Pkcs8(key.into());
    let mut config = ServerConfig::builder_with_details(provider(suites), Arc::new(NoTime))
        .with_protocol_versions(STREAM_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    forget_sessions_of_server(&mut config);
    Ok(config)
}

/// Nothing here depends on the time: no certificate is judged by its validity, and no session outlives its stream.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

/// Takes a server if any of its certificates is a throw-away one, and no other. That it owns the key to its first one is
/// checked as always.
#[derive(Debug)]
struct AnyThrowAway(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyThrowAway {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if core::iter::once(end_entity).chain(intermediates).any(is_throw_away) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused(INSECURE))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn is_throw_away(certificate: &CertificateDer<'_>) -> bool {
    let Ok(certificate) = parse(certificate) else {
        return false;
    };
    let mut names = certificate.subject().iter_common_name();
    names.any(|name| name.as_str() == Ok(COMMON_NAME))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn named(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn only_the_agreed_name_is_taken() {
        let (own, other) = (named(COMMON_NAME), named("other"));
        assert!(is_throw_away(&own));
        assert!(!is_throw_away(&other));
        assert!(!is_throw_away(&named(&COMMON_NAME[1..])));
        assert!(!is_throw_away(&CertificateDer::from(b"garbage".to_vec())));
        let verifier = AnyThrowAway(provider(Suites::Library));
        let name = ServerName::try_from("receptor").unwrap();
        let verify = |certificate: &CertificateDer<'_>, more: &[CertificateDer<'_>]| {
            verifier.verify_server_cert(certificate, more, &name, &[], UnixTime::now())
        };
        assert!(verify(&own, &[]).is_ok());
        assert!(verify(&other, core::slice::from_ref(&own)).is_ok());
        let error = verify(&other, &[]).unwrap_err();
        assert_eq!(super::super::text::plain(&alloc::format!("{error}")), INSECURE);
    }
}
