//! Certificates for tests, in files.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};

/// The otherName type of a node ID (`security.md` §8).
const NODE_ID: [u64; 9] = [1, 3, 6, 1, 4, 1, 2312, 19, 1];

/// One that signs certificates, in a directory of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    /// File of its certificate.
    pub cert: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// A certificate and its key, both in files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the certificate.
    pub cert: String,
    /// File of the key, PKCS#8.
    pub key: String,
}

fn text(path: &Path) -> String {
    path.to_str().expect("scratch paths are text").to_owned()
}

fn write(path: &Path, content: &str) -> String {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text(path)
}

impl Authority {
    /// A new one, whose files are in `dir/name`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let key = KeyPair::generate().expect("a key");
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            cert: write(&dir.join("ca.crt"), &cert),
            dir,
        }
    }

    /// The certificate of a node, good for `localhost` and 127.0.0.1, too.
    pub fn node(&self, node: &str) -> Identity {
        self.issue(node, &[node])
    }

    /// A certificate that names these nodes.
    pub fn issue(&self, file: &str, nodes: &[&str]) -> Identity {
        let mut params = named(file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().expect("a legal name")),
            SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        ];
        let names = nodes
            .iter()
            .map(|&node| SanType::OtherName((NODE_ID.into(), node.into())));
        params.subject_alt_names.extend(names);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity {
            cert: write(&self.dir.join(format!("{file}.crt")), &cert),
            key: write(&self.dir.join(format!("{file}.key")), &key.serialize_pem()),
        }
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Go nodes refuse what is valid for longer than they can tell.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}
