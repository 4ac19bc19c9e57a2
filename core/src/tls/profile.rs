//! What is spoken: versions, suites, groups (`security.md` §4).

use alloc::sync::Arc;
use alloc::vec;

use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

/// In which order cipher suites are offered and chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Suites {
    /// The library's, which Go nodes were tried with; those of TLS 1.2 too.
    Library,
    /// Those of TLS 1.3 only, AES-128-GCM first, being the fastest: between our own nodes.
    Fastest,
}

/// P-256 first: Go nodes with a TLS config accept no X25519, and beginning with it would cost a round trip.
pub(super) fn provider(suites: Suites) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![SECP256R1, SECP384R1, X25519];
    if suites == Suites::Fastest {
        provider.cipher_suites = vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ];
    }
    Arc::new(provider)
}

/// Mesh streams speak no other.
pub(super) const STREAM_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];

/// Links and local sockets: `mintls13` leaves one.
pub(super) const fn link_versions(min_tls13: bool) -> &'static [&'static SupportedProtocolVersion] {
    if min_tls13 { STREAM_VERSIONS } else { LINK_VERSIONS }
}

const LINK_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Nothing of a session outlives it. Its records are made and read in [`open`](super::open).
pub(super) fn forget_sessions_of_client(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
}

/// The same for servers, and what they would give away for later.
pub(super) fn forget_sessions_of_server(config: &mut ServerConfig) {
    config.enable_secret_extraction = true;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}
