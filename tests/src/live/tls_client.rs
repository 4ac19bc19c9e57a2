//! TLS as an ordinary program speaks it: from a plain socket, blocking, by rustls alone.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Identity, PATIENCE};

fn certificates(file: &str) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file).expect("the file is there");
    found.map(|certificate| certificate.expect("a certificate")).collect()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(&identity.key).expect("a key")
}

/// A client connected to `address`, which trusts the authority in the file `ca`. The handshake is done with the first bytes.
pub fn tls_client(address: &str, ca: &str, identity: Option<&Identity>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(certificates(&identity.cert), key(identity))
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let name = ServerName::try_from("localhost").expect("a legal name");
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).expect("a connection"),
        socket,
    )
}

/// The next connection of a listener, whose handshake is done with the first bytes.
pub fn tls_accept(listener: &TcpListener, identity: &Identity) -> StreamOwned<ServerConnection, TcpStream> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_no_client_auth();
    let config = builder
        .with_single_cert(certificates(&identity.cert), key(identity))
        .expect("a pair");
    let (socket, _) = listener.accept().expect("somebody connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    StreamOwned::new(ServerConnection::new(Arc::new(config)).expect("a connection"), socket)
}
