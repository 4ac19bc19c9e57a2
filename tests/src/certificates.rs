//! An authority for tests, and TLS configs with its certificates.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};
use receptor_core::id::NodeId;
use receptor_core::tls::{ClientSettings, Configs, Pem, ServerSettings};
use receptor_host::adapter::Tls;
use rustls::time_provider::DefaultTimeProvider;

/// Arc of a name that is a node ID (`security.md` §8).
const NODE_ID: [u64; 9] = [1, 3, 6, 1, 4, 1, 2312, 19, 1];

/// Who signs the certificates of a test.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// What a certificate is to be for.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    nodes: &'a [&'a str],
    is_elsewhere: bool,
    is_expired: bool,
}

impl<'a> Leaf<'a> {
    /// These nodes, on this machine, now.
    pub const fn of(nodes: &'a [&'a str]) -> Self {
        Self {
            nodes,
            is_elsewhere: false,
            is_expired: false,
        }
    }

    /// On another machine.
    #[must_use]
    pub const fn for_another_host(mut self) -> Self {
        self.is_elsewhere = true;
        self
    }

    /// Until the year 2021.
    #[must_use]
    pub const fn expired(mut self) -> Self {
        self.is_expired = true;
        self
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: String,
    /// The key, PKCS#8.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::named("test authority")
    }
}

impl Authority {
    /// One of this name; two of one name have different keys.
    pub fn named(common: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

impl Authority {
    /// A certificate for these nodes, on this machine, of a server and a client.
    pub fn issue(&self, nodes: &[&str]) -> Identity {
        self.sign(Leaf::of(nodes))
    }

    /// A certificate as it is asked for, of a server and a client.
    pub fn sign(&self, leaf: Leaf<'_>) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = name("leaf");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if leaf.is_expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        params.subject_alt_names = if leaf.is_elsewhere {
            vec![SanType::DnsName("elsewhere.invalid".try_into().expect("a name"))]
        } else {
            vec![
                SanType::IpAddress([127, 0, 0, 1].into()),
                SanType::DnsName("localhost".try_into().expect("a name")),
            ]
        };
        for &node in leaf.nodes {
            let kind = NODE_ID.to_vec();
            params.subject_alt_names.push(SanType::OtherName((kind, node.into())));
        }
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    fn pem(&self) -> Pem {
        Pem::new("ca.crt", self.pem.clone())
    }

    /// Configs `server`, which asks for no certificate, `mutual`, which does, and `client`, all with this identity.
    pub fn configs(&self, own: &str, identity: &Identity) -> Arc<Tls> {
        let Identity { cert, key } = identity;
        let cert = Pem::new("own.crt", cert.clone());
        let key = Pem::new("own.key", key.clone());
        let mut server = ServerSettings::new("server", cert.clone(), key.clone());
        server.skip_receptor_names_check = true;
        let mut mutual = ServerSettings::new("mutual", cert.clone(), key.clone());
        mutual.skip_receptor_names_check = true;
        mutual.require_client_cert = true;
        mutual.client_cas = Some(self.pem());
        let mut client = ClientSettings::new("client");
        client.cert = Some(cert);
        client.key = Some(key);
        client.root_cas = Some(self.pem());
        client.skip_receptor_names_check = true;
        let mut anyone = client.clone();
        anyone.name = "anyone".into();
        anyone.root_cas = None;
        anyone.insecure_skip_verify = true;
        let configs = Configs::new(
            &NodeId::new(own),
            &[server, mutual],
            &[client, anyone],
            None,
            Arc::new(DefaultTimeProvider),
        );
        Arc::new(Tls::new(configs.expect("good settings")))
    }

    /// The configs of a node whose certificate names it.
    pub fn node(&self, id: &str) -> Arc<Tls> {
        self.configs(id, &self.issue(&[id]))
    }
}
