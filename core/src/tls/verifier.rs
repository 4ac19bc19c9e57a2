//! What is asked of a peer's certificate in a handshake (`security.md` §5).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::names::{names, parse};
use super::pins::Pins;
use super::trust::{Purpose, Trust, refused};
use crate::id::{NameHash, NodeId};

/// The node that must be at the other end of a mesh stream.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// The node of this name, exactly as it stands here.
    Node(String),
    /// A node whose name has this hash: what a datagram says of where it comes from.
    Hash(NameHash),
    /// Nobody knows which: no certificate is good enough.
    Unknown,
}

/// Which name the certificate must have.
#[derive(Clone, Debug)]
pub(super) enum Name {
    /// None in particular.
    Any,
    /// That of the host which was dialled; only for servers.
    Host,
    /// That of a node.
    Node(Peer),
}

/// Everything that is asked of one kind of peer.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    /// `None`: nothing at all is verified, but that the peer has the key to what it shows (`insecureskipverify`).
    pub(super) trust: Option<Arc<Trust>>,
    /// Whom clients may have their certificate from; none where there are too many to tell.
    pub(super) hints: Arc<[DistinguishedName]>,
    pub(super) pins: Arc<Pins>,
}

/// One handshake's verifier.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) demands: Demands,
    pub(super) name: Name,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        host: Option<&ServerName<'_>>,
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), Error> {
        let Some(trust) = &self.demands.trust else {
            return Ok(());
        };
        let certificate = parse(leaf).map_err(|error| refused(alloc::format!("{error}")))?;
        for other in others {
            parse(other).map_err(|error| refused(alloc::format!("{error}")))?;
        }
        self.demands.pins.allow(leaf).map_err(refused)?;
        trust.verify(leaf, others, now, purpose, &self.algorithms)?;
        match (&self.name, host) {
            (Name::Any, _) => Ok(()),
            (Name::Host, Some(host)) => verify_server_name(&ParsedCertificate::try_from(leaf)?, host),
            // Clients have no host name: an internal contradiction refuses.
            (Name::Host, None) => Err(refused("no host name to verify")),
            (Name::Node(peer), _) => {
                let (names, _) = names(&certificate).map_err(|error| refused(alloc::format!("{error}")))?;
                peer.is_one_of(&names).map_err(refused)
            }
        }
    }
}

impl Peer {
    fn is_one_of(&self, names: &[String]) -> Result<(), String> {
        let (is_one, wanted) = match self {
            Self::Node(node) => (names.contains(node), node.as_str()),
            Self::Hash(hash) => {
                let is_one = names.iter().any(|name| NodeId::new(name).hash() == *hash);
                (is_one, "the node that dials")
            }
            Self::Unknown => (false, "a node whose name is not known"),
        };
        match names {
            _ if is_one => Ok(()),
            [] => Err(alloc::format!(
                "x509: certificate is not valid for any Receptor node IDs, but wanted to match {wanted}"
            )),
            [name] => Err(alloc::format!(
                "x509: certificate is valid for Receptor node ID {name}, not {wanted}"
            )),
            names => Err(alloc::format!(
                "x509: certificate is valid for Receptor node IDs {}, not {wanted}",
                names.join(", ")
            )),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, Some(server_name), now, Purpose::Server)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    /// Also where only `clientcas` is set: the classic node refuses who shows none, if by a roundabout way.
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.demands.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, None, now, Purpose::Client)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
