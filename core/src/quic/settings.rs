//! What Go nodes expect of QUIC (`wire.md` §21.3, §21.4, §21.10).

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::message::DialTls;
use crate::id::NameHash;
use crate::tls::{Configs, Peer, Suites, anonymous, text};

/// Both sides must offer it.
const ALPN: &[u8] = b"netceptor";

/// What this side calls every server. Node IDs need not be legal server names, and nobody looks at it.
pub(super) const SERVER_NAME: &str = "netceptor";

/// Largest packet, in bytes: Go cuts what is longer, and it is lost (`wire.md` §21.4).
pub(super) const MAX_PACKET: u16 = 1452;

/// Packets at the start, and the least of a path.
const MIN_PACKET: u16 = 1200;

/// How much larger a packet must be before it is worth a probe. quinn's own value would never try Go's limit.
const MTU_STEP: u16 = 200;

/// Silence that ends a connection.
const IDLE: Duration = Duration::from_secs(30);

/// The dialling side keeps the connection alive.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Bytes a peer may send that nobody has read: what one connection may make us hold. 10 MiB/s at a round trip of 100 ms.
const RECEIVE_WINDOW: u32 = 1 << 20;

/// Bytes sent and not acknowledged: what one connection may hold of its own.
const SEND_WINDOW: u64 = 1 << 20;

/// For all connections of one endpoint.
#[derive(Debug)]
pub(super) struct Settings {
    client: ClientConfig,
    pub(super) server: Arc<ServerConfig>,
    /// Without it no name leads to a config.
    pub(super) configs: Option<Arc<Configs>>,
}

impl Settings {
    /// With the anonymous mode only.
    pub(super) fn anonymous() -> Result<Self, rustls::Error> {
        let client = client_config(anonymous::client_config(ALPN, Suites::Library)?)?;
        let (certificate, key) = throw_away().map_err(|error| rustls::Error::General(alloc::format!("{error}")))?;
        let server = anonymous::server_config(ALPN, Suites::Library, certificate, key)?;
        Ok(Self {
            client,
            server: Arc::new(server_config(server)?),
            configs: None,
        })
    }

    /// For one dial.
    pub(super) fn client(&self, tls: Option<&DialTls>) -> Result<ClientConfig, String> {
        let Some(DialTls { config, peer }) = tls else {
            return Ok(self.client.clone());
        };
        let configs = self.configs.as_ref().ok_or_else(|| text::unknown(config))?;
        let peer = Peer::Node(peer.as_str().into());
        let tls = configs.stream_client(config, peer, Suites::Library, &[ALPN])?;
        client_config(Arc::unwrap_or_clone(tls)).map_err(|error| error.to_string())
    }

    /// For one connection from a node, of which only the hash is known here.
    pub(super) fn server(&self, tls: Option<&str>, from: NameHash) -> Result<Arc<ServerConfig>, String> {
        let Some(config) = tls else {
            return Ok(Arc::clone(&self.server));
        };
        let configs = self.configs.as_ref().ok_or_else(|| text::unknown(config))?;
        let tls = configs.stream_server(config, Peer::Hash(from), Suites::Library, &[ALPN])?;
        let server = server_config(Arc::unwrap_or_clone(tls)).map_err(|error| error.to_string())?;
        Ok(Arc::new(server))
    }

    /// For the `quinn-proto` endpoint of one service.
    pub(super) fn endpoint(seed: [u8; 32]) -> Arc<EndpointConfig> {
        let mut config = EndpointConfig::default();
        config
            .supported_versions(alloc::vec![1])
            .grease_quic_bit(false)
            .rng_seed(Some(seed));
        // Refused only below the least packet of QUIC.
        let _ = config.max_udp_payload_size(MAX_PACKET);
        Arc::new(config)
    }
}

fn client_config(tls: rustls::ClientConfig) -> Result<ClientConfig, rustls::Error> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| no_first_suite())?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(Some(KEEPALIVE), 0)));
    Ok(config)
}

fn server_config(tls: rustls::ServerConfig) -> Result<ServerConfig, rustls::Error> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| no_first_suite())?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.migration(false).transport_config(Arc::new(transport(None, 1)));
    Ok(config)
}

fn no_first_suite() -> rustls::Error {
    rustls::Error::General("no cipher suite for the first packets".into())
}

/// A certificate made now, and its key.
fn throw_away() -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, anonymous::COMMON_NAME);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().to_vec(), key.serialize_der()))
}

fn transport(keepalive: Option<Duration>, incoming_streams: u8) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_PACKET).minimum_change(MTU_STEP);
    let mut config = TransportConfig::default();
    config
        .initial_mtu(MIN_PACKET)
        .min_mtu(MIN_PACKET)
        .mtu_discovery_config(Some(mtu))
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(keepalive)
        .max_concurrent_bidi_streams(VarInt::from(incoming_streams))
        .max_concurrent_uni_streams(VarInt::from(0u8))
        .stream_receive_window(VarInt::from(RECEIVE_WINDOW))
        .receive_window(VarInt::from(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(false);
    config
}
