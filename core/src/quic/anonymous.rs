//! TLS where no configuration is named: encrypted, but nobody proves who they are (`wire.md` §21.2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

/// The subject of every certificate of this mode; a listener with another one is a secure service.
const COMMON_NAME: &str = "netceptor-insecure-common-name";

/// Both sides must offer it.
const ALPN: &[u8] = b"netceptor";

/// What this side calls every server. Node IDs need not be legal server names, and nobody looks at it.
pub(super) const SERVER_NAME: &str = "netceptor";

/// P-256 first: Go nodes with a TLS profile of theirs accept no X25519, and starting with it would cost a round trip.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = alloc::vec![
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
        aws_lc_rs::kx_group::X25519,
    ];
    Arc::new(provider)
}

/// For dialling: takes any server whose certificate has the agreed name.
pub(super) fn client() -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = AgreedName(Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alloc::vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// For listening, with a certificate made now.
pub(super) fn server() -> Result<ServerConfig, Error> {
    let (certificate, key) = certificate().map_err(|error| Error::General(alloc::format!("{error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(alloc::vec![certificate], key)?;
    config.alpn_protocols = alloc::vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

fn certificate() -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((certificate.der().clone(), key.into()))
}

/// Accepts a server if any of its certificates has [`COMMON_NAME`]; when it was made does not matter. That it owns the
/// key is checked as always.
#[derive(Debug)]
struct AgreedName(Arc<CryptoProvider>);

impl ServerCertVerifier for AgreedName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if core::iter::once(end_entity).chain(intermediates).any(has_agreed_name) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn has_agreed_name(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let mut names = certificate.subject().iter_common_name();
    names.any(|name| name.as_str() == Ok(COMMON_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agreed_name_is_taken() {
        let (own, _) = certificate().unwrap();
        assert!(has_agreed_name(&own));
        let other = CertificateParams::default()
            .self_signed(&KeyPair::generate().unwrap())
            .unwrap();
        assert!(!has_agreed_name(other.der()));
        assert!(!has_agreed_name(&CertificateDer::from(b"garbage".to_vec())));
        let verifier = AgreedName(provider());
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let verify = |certificate: &CertificateDer<'_>| {
            verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
        };
        assert!(verify(&own).is_ok());
        assert!(verify(other.der()).is_err());
    }
}
