//! Proxies between local sockets and the mesh (`services.md` §3, §4, §7).

use receptor_core::config::{RemoteService, Service, SocketFile};
use receptor_core::id::ServiceName;
use receptor_core::tls::DEFAULT_CLIENT;
use receptor_host::tcp::split_host_port;

use super::error::ConfigError;
use super::item::Item;
use super::typed::Config;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// The service that `item` configures, after those in `config`.
///
/// # Errors
/// What the classic node says at its start.
pub(super) fn service(item: &Item, config: &Config) -> Result<Service> {
    match item.name() {
        "tcp-server" => tcp_server(item),
        "tcp-client" => {
            let address = item.text("address");
            split_host_port(address).map_err(ConfigError::new)?;
            Ok(Service::TcpClient {
                service: mesh_service(item, config)?,
                address: address.into(),
                tls_server: tls(item, "tlsserver"),
                tls_client: tls(item, "tlsclient"),
            })
        }
        "unix-socket-server" => unix_socket_server(item, config),
        _ => Ok(Service::UnixSocketClient {
            service: mesh_service(item, config)?,
            path: item.text("filename").into(),
            tls: tls(item, "tls"),
        }),
    }
}

/// Whether a service is dialled with the client config that nobody need define.
pub(super) fn wants_default_client(service: &Service) -> bool {
    let name = match service {
        Service::TcpServer { tls_client, .. } | Service::TcpClient { tls_client, .. } => tls_client,
        Service::UnixSocketServer { tls, .. } => tls,
        _ => return false,
    };
    name.as_deref() == Some(DEFAULT_CLIENT)
}

/// What the user should know of a service that can never work as it is.
pub(super) fn warning(service: &Service, item: &Item) -> Option<String> {
    let (Service::TcpServer { remote, .. } | Service::UnixSocketServer { remote, .. }) = service else {
        return None;
    };
    let problem = ServiceName::new(&remote.service).err()?;
    let (entity, name) = (item.name(), &remote.service);
    Some(format!(
        "{entity} cannot connect anybody to {name}: {problem} ({})",
        item.origin
    ))
}

fn tcp_server(item: &Item) -> Result<Service> {
    let port = item.int("port");
    let port = u16::try_from(port).map_err(|_| {
        ConfigError::new(format!(
            "error listening on TCP: listen tcp: address {port}: invalid port"
        ))
    })?;
    let host = item.text("bindaddr");
    // As it is in `address:port`, where an IPv6 address has brackets.
    let bind = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok(Service::TcpServer {
        bind,
        remote: remote(item),
        tls_server: tls(item, "tlsserver"),
        tls_client: tls(item, "tlsclient"),
    })
}

fn unix_socket_server(item: &Item, config: &Config) -> Result<Service> {
    let failed = |why: String| ConfigError::new(format!("error opening Unix socket: {why}"));
    let path = item.text("filename");
    let is_taken = config.services.iter().any(|service| match service {
        Service::UnixSocketServer { socket, .. } => socket.path == path,
        _ => false,
    });
    if is_taken {
        return Err(failed(format!("{path} belongs to another unix-socket-server")));
    }
    Ok(Service::UnixSocketServer {
        socket: SocketFile {
            path: path.into(),
            mode: file_mode(item).map_err(failed)?,
        },
        remote: remote(item),
        tls: tls(item, "tls"),
    })
}

/// The TLS config that a parameter names.
pub(super) fn tls(item: &Item, param: &str) -> Option<String> {
    Some(item.text(param))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// The permission bits of a socket file.
pub(super) fn file_mode(item: &Item) -> Result<u32, String> {
    let mode = item.int("permissions");
    let mode_bits = u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777);
    mode_bits.ok_or_else(|| format!("permissions {mode:#o} are not a file mode"))
}

fn remote(item: &Item) -> RemoteService {
    RemoteService {
        node: item.text("remotenode").into(),
        service: item.text("remoteservice").into(),
    }
}

fn mesh_service(item: &Item, config: &Config) -> Result<ServiceName> {
    let name = item.text("service");
    let failed = |why: String| ConfigError::new(format!("error listening on Receptor network: {why}"));
    let service = ServiceName::new(name).map_err(|_| failed(format!("service name {name} too long")))?;
    let of_proxies = config.services.iter().filter_map(|earlier| match earlier {
        Service::TcpClient { service, .. } | Service::UnixSocketClient { service, .. } => Some(*service),
        _ => None,
    });
    let mut taken = of_proxies.chain(config.control_services.iter().filter_map(|earlier| earlier.service));
    if !service.is_empty() && (service.is_reserved() || taken.any(|taken| taken == service)) {
        return Err(failed(format!("service {name} is already listening")));
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, error};
    use super::*;

    fn remote() -> RemoteService {
        RemoteService {
            node: "far".into(),
            service: "web".into(),
        }
    }

    fn expected() -> [Service; 4] {
        let name = |name| ServiceName::new(name).unwrap();
        [
            Service::TcpServer {
                bind: "0.0.0.0:8080".into(),
                remote: remote(),
                tls_server: None,
                tls_client: Some("out".into()),
            },
            Service::TcpClient {
                service: name("ssh"),
                address: "localhost:22".into(),
                tls_server: Some("in".into()),
                tls_client: Some("out".into()),
            },
            Service::UnixSocketServer {
                socket: SocketFile {
                    path: "/run/a".into(),
                    mode: 0o660,
                },
                remote: remote(),
                tls: Some("out".into()),
            },
            Service::UnixSocketClient {
                service: name("unix"),
                path: "/run/b".into(),
                tls: Some("in".into()),
            },
        ]
    }

    #[test]
    fn both_forms_mean_the_same() {
        let file = config(
            "-c f",
            "- tcp-server: {port: '8080', remotenode: far, RemoteService: web, tlsserver: '', tlsclient: out}\n\
             - tcp-client: {service: ssh, address: 'localhost:22', tlsserver: in, tlsclient: out}\n\
             - unix-socket-server: {filename: /run/a, permissions: 0660, remotenode: far, remoteservice: web, tls: out}\n\
             - unix-socket-client: {service: unix, filename: /run/b, tls: in}\n",
        );
        assert_eq!(file.services, expected());
        let line = config(
            "--tcp-server port=8080 remotenode=far remoteservice=web tlsclient=out \
             --tcp-client service=ssh address=localhost:22 tlsserver=in tlsclient=out \
             --unix-socket-server filename=/run/a permissions=0660 remotenode=far remoteservice=web tls=out \
             --unix-socket-client service=unix filename=/run/b tls=in",
            "",
        );
        assert_eq!(line.services, expected());
        assert!(line.warnings.is_empty());
        let core = line.to_core(super::super::to_core::Machine {
            cpu_count: 1,
            memory_mib: 1,
        });
        assert_eq!(core.services, expected());
    }

    #[test]
    fn addresses_to_listen_on() {
        for (given, bind) in [
            ("", "0.0.0.0:5"),
            ("bindaddr=127.0.0.1", "127.0.0.1:5"),
            ("bindaddr=::1", "[::1]:5"),
            ("bindaddr=[::1]", "[::1]:5"),
            ("bindaddr=", ":5"),
        ] {
            let args = format!("--tcp-server port=5 remotenode=far remoteservice=web {given}");
            let Service::TcpServer { bind: found, .. } = &config(&args, "").services[0] else {
                panic!("{given}")
            };
            assert_eq!(found, bind);
        }
        let Service::UnixSocketServer { socket, .. } =
            &config("--unix-socket-server filename=a remotenode=b remoteservice=c", "").services[0]
        else {
            panic!()
        };
        assert_eq!(socket.mode, 0o600);
    }

    #[test]
    fn mistakes_have_the_classic_texts() {
        for (args, text) in [
            (
                "--tcp-server port=1 remotenode=a",
                "error in --tcp-server: required parameter missing: remoteservice",
            ),
            (
                "--tcp-server port=65536 remotenode=a remoteservice=b",
                "error listening on TCP: listen tcp: address 65536: invalid port",
            ),
            ("--tcp-client service=a address=b", "address b: missing port in address"),
            (
                "--tcp-client service=ninebytes address=b:1",
                "error listening on Receptor network: service name ninebytes too long",
            ),
            (
                "--unix-socket-client service=ping filename=b",
                "error listening on Receptor network: service ping is already listening",
            ),
            (
                "--tcp-client service=a address=b:1 --unix-socket-client service=a filename=b",
                "error listening on Receptor network: service a is already listening",
            ),
            (
                "--control-service --tcp-client service=control address=b:1",
                "error listening on Receptor network: service control is already listening",
            ),
            (
                "--unix-socket-server filename=a permissions=0x10000 remotenode=b remoteservice=c",
                "error opening Unix socket: permissions 0o200000 are not a file mode",
            ),
        ] {
            assert_eq!(error(args, ""), text, "{args}");
        }
    }

    #[test]
    fn a_service_that_no_node_can_have_is_warned_about() {
        let config = config("--tcp-server port=1 remotenode=a remoteservice=ninebytes", "");
        assert_eq!(
            config.warnings,
            ["tcp-server cannot connect anybody to ninebytes: service name too long (command line)"]
        );
    }
}
