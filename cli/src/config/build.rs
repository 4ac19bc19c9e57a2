//! From items to one typed configuration, in the classic phases (`config.md` §5).
//!
//! Init and prepare check all items as the classic node does, then whatever does not exist yet is refused by name, then
//! the run phase is checked as far as it can be without a network. So a mistake has its classic text even in an entity
//! that would be refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use receptor_core::config::{
    Config as CoreConfig, ControlService, ControlTcp, Signing, SocketFile, Verification, WorkKeys, WorkLimits,
};
use receptor_core::firewall::Rules;
use receptor_core::id::{NodeId, ServiceName};
use receptor_host::tcp::split_host_port;
use receptor_host::tls_files::TlsFiles;

use super::backends;
use super::entity::Support;
use super::error::ConfigError;
use super::item::Item;
use super::limits;
use super::number::parse_duration;
use super::services;
use super::tls;
use super::typed::{Config, Host, Node, Worker, WorkerKind};
use crate::logging::Level;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// Builds the configuration. `items` hold a `node` and no exclusive entity.
///
/// # Errors
/// The first mistake, in the order of the phases.
pub(super) fn build(items: &[Item], host: &Host, config_file: Option<String>) -> Result<Config> {
    let mut node = None;
    let mut log_level = Level::Info;
    for item in items {
        match item.name() {
            "node" => node = Some(self::node(item, host)?),
            "log-level" => log_level = item.text("level").parse().map_err(ConfigError::new)?,
            _ => {}
        }
    }
    items.iter().try_for_each(prepare)?;
    items.iter().try_for_each(refuse)?;
    let mut config = Config {
        node: node.ok_or_else(|| ConfigError::new("no node is configured"))?,
        log_level,
        trace: false,
        backends: Vec::new(),
        control_services: Vec::new(),
        services: Vec::new(),
        workers: Vec::new(),
        work_keys: WorkKeys::default(),
        work_limits: WorkLimits::default(),
        tls: TlsFiles::default(),
        proxies: host.proxies.clone(),
        warnings: replaced(items),
        config_file: config_file.map(PathBuf::from),
    };
    let verifies = items
        .iter()
        .any(|item| item.name() == "work-verification" && item.has("publickey"));
    for item in items {
        match item.name() {
            "trace" => config.trace = true,
            "local-only" | "tcp-listener" | "tcp-peer" | "udp-listener" | "udp-peer" | "ws-listener" | "ws-peer" => {
                config.backends.push(backends::backend(item)?);
                config.warnings.extend(backends::warning(item));
            }
            "tls-server" => config.tls.servers.push(tls::server(item)),
            "tls-client" => config.tls.clients.push(tls::client(item)),
            "control-service" => {
                let service = control_service(item, &config.control_services)?;
                config.warnings.extend(control_warning(item));
                config.control_services.push(service);
            }
            "tcp-server" | "tcp-client" | "unix-socket-server" | "unix-socket-client" => {
                let service = services::service(item, &config)?;
                config.warnings.extend(services::warning(&service, item));
                config.services.push(service);
            }
            "work-command" | "work-python" | "work-kubernetes" => {
                let worker = worker(item, &config.workers, verifies)?;
                if let WorkerKind::Unavailable { reason } = &worker.kind {
                    let name = &worker.work_type;
                    config
                        .warnings
                        .push(format!("work type {name} is not offered: {reason} ({})", item.origin));
                }
                config.workers.push(worker);
            }
            "work-limits" => config.work_limits = limits::limits(item)?,
            "work-signing" => config.work_keys.signing = Some(signing(item)?),
            "work-verification" => config.work_keys.verification = verification(item)?,
            _ if item.entity.support == Support::Unavailable => {
                let text = format!(
                    "{} is not supported yet and has no effect ({})",
                    item.name(),
                    item.origin
                );
                config.warnings.push(text);
            }
            _ => {}
        }
    }
    config.tls.has_default_client |= config.backends.iter().any(backends::wants_default_client);
    config.tls.has_default_client |= config.services.iter().any(services::wants_default_client);
    backends::check_tls(&config)?;
    Ok(config)
}

fn node(item: &Item, host: &Host) -> Result<Node> {
    let id = match item.text("id") {
        "" if host.name == "localhost" || host.name.starts_with("localhost.") => {
            return Err(ConfigError::new(
                "no node ID specified and local host name is localhost",
            ));
        }
        "" => &host.name,
        id => {
            NodeId::check_own(id).map_err(ConfigError::new)?;
            id
        }
    };
    let data_dir = match item.text("datadir") {
        "" => host.temp_dir.join("receptor"),
        dir => PathBuf::from(dir),
    };
    check_directory_name(id)?;
    Ok(Node {
        id: NodeId::new(id),
        data_dir,
        idle_timeout: idle_timeout(item)?,
        strict: item.bool("strict"),
        firewall: firewall(item)?,
    })
}

/// The node's directory is called by its ID. A host name is not checked as an ID is, so that a path could hide in it.
fn check_directory_name(id: &str) -> Result<()> {
    if matches!(id, "." | "..") || id.contains(['/', '\0']) {
        return Err(ConfigError::new(format!(
            "node ID {id:?} cannot be the name of a directory"
        )));
    }
    Ok(())
}

fn firewall(item: &Item) -> Result<Rules> {
    let rules = item.maps("firewallrules").iter();
    let fields = rules.map(|rule| rule.iter().map(|(key, text)| (key.as_str(), text.as_deref())));
    Rules::from_fields(fields).map_err(|error| ConfigError::new(error.to_string()))
}

fn idle_timeout(item: &Item) -> Result<Duration> {
    let text = item.text("maxidleconnectiontimeout");
    if text.is_empty() {
        return Ok(CoreConfig::MIN_IDLE_TIMEOUT);
    }
    let nanos = parse_duration(text).ok_or_else(|| {
        ConfigError::new(
            "failed to parse MaxIdleConnectionTimeout from configuration file -- \
             valid examples include '1.5h', '30m', '30m10s'",
        )
    })?;
    let minimum = CoreConfig::MIN_IDLE_TIMEOUT;
    match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(timeout) if timeout >= minimum => Ok(timeout),
        _ => Err(ConfigError::new(format!(
            "user defined maxIdleConnectionTimeout [{nanos}] is less than the default default timeout [{}]",
            minimum.as_nanos()
        ))),
    }
}

/// The checks of the prepare phase.
fn prepare(item: &Item) -> Result<()> {
    match item.name() {
        "tcp-listener" | "udp-listener" | "ws-listener" | "tcp-peer" | "udp-peer" | "ws-peer" => {
            check_cost(item.float("cost"), "")?;
            for (node, cost) in item.costs("nodecost").into_iter().flatten() {
                check_cost(*cost, &format!(" for {node}"))?;
            }
            backends::prepare(item)?;
        }
        "work-signing" => {
            must_exist(item.text("privatekey"))?;
            signing(item)?;
        }
        "work-limits" => {
            limits::limits(item)?;
        }
        "work-verification" => {
            must_exist(item.text("publickey"))?;
            verification(item)?;
        }
        _ => {}
    }
    Ok(())
}

fn check_cost(cost: f64, whose: &str) -> Result<()> {
    // Not a number is not positive either, and JSON has no infinity to tell a peer.
    if cost.is_finite() && cost > 0.0 {
        return Ok(());
    }
    let wanted = if cost == f64::INFINITY { "finite" } else { "positive" };
    Err(ConfigError::new(format!("connection cost must be {wanted}{whose}")))
}

fn must_exist(path: &str) -> Result<()> {
    if Path::new(path).exists() {
        Ok(())
    } else {
        Err(ConfigError::new(format!("{path} does not exist")))
    }
}

/// Refuses what would open or cut the mesh by being absent.
fn refuse(item: &Item) -> Result<()> {
    match item.entity.support {
        Support::Refused => Err(ConfigError::unsupported(item.name())),
        Support::Supported | Support::Unavailable => Ok(()),
    }
}

/// Singletons given more than once where the classic node lets the last one win: on the command line and then in a
/// file, or in two files.
fn replaced(items: &[Item]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, item) in items.iter().enumerate().filter(|(_, item)| item.entity.singleton) {
        if let Some(earlier) = items[..index]
            .iter()
            .rev()
            .find(|earlier| earlier.name() == item.name())
        {
            let name = item.name();
            warnings.push(format!(
                "{name} of {} replaces {name} of {}",
                item.origin, earlier.origin
            ));
        }
    }
    warnings
}

fn control_service(item: &Item, earlier: &[ControlService]) -> Result<ControlService> {
    let socket_error = |why: String| ConfigError::new(format!("error opening Unix socket: {why}"));
    let name = item.text("service");
    let service = match name {
        "" => None,
        name => Some(ServiceName::new(name).map_err(|_| socket_error(format!("service name {name} too long")))?),
    };
    let path = item.text("filename");
    let tcp = control_tcp(item)?;
    if service.is_none() && path.is_empty() && tcp.is_none() {
        return Err(ConfigError::new("no listeners specified"));
    }
    let taken = |service: &ServiceName| service.is_reserved() || earlier.iter().any(|e| e.service == Some(*service));
    if service.as_ref().is_some_and(taken) {
        return Err(socket_error(format!("service {name} is already listening")));
    }
    if !path.is_empty()
        && earlier
            .iter()
            .any(|e| e.socket.as_ref().is_some_and(|socket| socket.path == path))
    {
        return Err(socket_error(format!("{path} belongs to another control-service")));
    }
    let mode = services::file_mode(item).map_err(socket_error)?;
    let socket = (!path.is_empty()).then(|| SocketFile {
        path: path.into(),
        mode,
    });
    Ok(ControlService {
        service,
        tls: services::tls(item, "tls"),
        socket,
        tcp,
    })
}

/// `tcplisten`: a port on all addresses of IPv4, or `HOST:PORT`.
fn control_tcp(item: &Item) -> Result<Option<ControlTcp>> {
    let listen = item.text("tcplisten");
    if listen.is_empty() {
        return Ok(None);
    }
    let bind = if listen.contains(':') {
        listen.to_owned()
    } else {
        format!("0.0.0.0:{listen}")
    };
    split_host_port(&bind)
        .map_err(|error| ConfigError::new(format!("error listening on TCP socket: listen tcp: {error}")))?;
    Ok(Some(ControlTcp {
        bind,
        tls: services::tls(item, "tcptls"),
    }))
}

/// What looks protected and is not.
fn control_warning(item: &Item) -> Option<String> {
    (item.has("tls") && item.has("tcplisten") && !item.has("tcptls")).then(|| {
        let origin = &item.origin;
        format!("tls of control-service does not protect its TCP socket: that has no TLS without tcptls ({origin})")
    })
}

fn worker(item: &Item, earlier: &[Worker], verifies: bool) -> Result<Worker> {
    let entity = item.name();
    let work_type = item.text("worktype");
    let verify = item.bool("verifysignature");
    if entity == "work-command" && verify && !verifies {
        return Err(ConfigError::new(format!(
            "VerifySignature for work command '{work_type}' is true, \
             but the work verification public key is not specified"
        )));
    }
    if work_type == "remote" || earlier.iter().any(|worker| worker.work_type == work_type) {
        return Err(ConfigError::new(format!("work type {work_type} already registered")));
    }
    let kind = match entity {
        "work-command" => WorkerKind::Command {
            command: item.text("command").into(),
            params: item.text("params").into(),
            allow_runtime_params: item.bool("allowruntimeparams"),
        },
        _ => WorkerKind::Unavailable {
            reason: format!("{entity} is not supported yet"),
        },
    };
    Ok(Worker {
        work_type: work_type.into(),
        kind,
        verify_signature: verify,
    })
}

fn signing(item: &Item) -> Result<Signing> {
    let expiration = duration_of(item, "tokenexpiration", "TokenExpiration")?.unwrap_or(Signing::EXPIRATION);
    if expiration < Duration::from_secs(1) {
        return Err(ConfigError::new(format!(
            "tokenexpiration {} is less than 1s",
            item.text("tokenexpiration")
        )));
    }
    Ok(Signing {
        private_key: item.text("privatekey").into(),
        expiration,
    })
}

/// `None` without a key: then nothing can be verified.
fn verification(item: &Item) -> Result<Option<Verification>> {
    let leeway = duration_of(item, "leeway", "Leeway")?.unwrap_or(Verification::LEEWAY);
    Ok(item.has("publickey").then(|| Verification {
        public_key: item.text("publickey").into(),
        leeway,
    }))
}

/// A time that is not negative; `None` if nothing is said.
pub(super) fn duration_of(item: &Item, name: &str, called: &str) -> Result<Option<Duration>> {
    let text = item.text(name);
    if text.is_empty() {
        return Ok(None);
    }
    let nanos = parse_duration(text).ok_or_else(|| {
        ConfigError::new(format!(
            "failed to parse {called} -- valid examples include '1.5h', '30m', '30m10s'"
        ))
    })?;
    match u64::try_from(nanos) {
        Ok(nanos) => Ok(Some(Duration::from_nanos(nanos))),
        Err(_) => Err(ConfigError::new(format!("{name} {text} is negative"))),
    }
}
