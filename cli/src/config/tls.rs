//! TLS configs (`config.md` §6.6, §6.7).

use receptor_host::tls_files::{TlsClient, TlsServer};

use super::item::Item;

/// What a `tls-server` says.
pub(super) fn server(item: &Item) -> TlsServer {
    TlsServer {
        name: item.text("name").into(),
        cert: item.text("cert").into(),
        key: item.text("key").into(),
        require_client_cert: item.bool("requireclientcert"),
        client_cas: item.text("clientcas").into(),
        pinned_client_certs: item.texts("pinnedclientcert").unwrap_or_default().to_vec(),
        skip_receptor_names_check: item.bool("skipreceptornamescheck"),
        min_tls13: item.bool("mintls13"),
    }
}

/// What a `tls-client` says.
pub(super) fn client(item: &Item) -> TlsClient {
    TlsClient {
        name: item.text("name").into(),
        cert: item.text("cert").into(),
        key: item.text("key").into(),
        root_cas: item.text("rootcas").into(),
        insecure_skip_verify: item.bool("insecureskipverify"),
        pinned_server_certs: item.texts("pinnedservercert").unwrap_or_default().to_vec(),
        skip_receptor_names_check: item.bool("skipreceptornamescheck"),
        min_tls13: item.bool("mintls13"),
    }
}
