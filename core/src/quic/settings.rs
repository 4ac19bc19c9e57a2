//! What Go nodes expect of QUIC (`wire.md` §21.3, §21.4, §21.10).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::tls::{Suites, anonymous};

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
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) client: ClientConfig,
    pub(super) server: Arc<ServerConfig>,
}

impl Settings {
    /// `tls` is `None` for the anonymous mode, of which there is no other yet.
    pub(super) fn anonymous() -> Result<Self, rustls::Error> {
        let suite = |_| rustls::Error::General("no cipher suite for the first packets".into());
        let crypto = QuicClientConfig::try_from(anonymous::client_config(ALPN, Suites::Library)?).map_err(suite)?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(transport(Some(KEEPALIVE), 0)));
        let (certificate, key) = throw_away().map_err(|error| rustls::Error::General(alloc::format!("{error}")))?;
        let server = anonymous::server_config(ALPN, Suites::Library, certificate, key)?;
        let crypto = QuicServerConfig::try_from(server).map_err(suite)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.migration(false).transport_config(Arc::new(transport(None, 1)));
        Ok(Self {
            client,
            server: Arc::new(server),
        })
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
