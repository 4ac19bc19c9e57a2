//! What keeps a node from starting, and what it is told afterwards.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use receptor_core::config::{Backend, BackendKind, Reloadable, TlsNames};
use receptor_core::firewall::Rules;
use receptor_core::node::io::{ReloadCode, ReloadError};
use receptor_host::adapter::{ConfigSource, FreshConfig};

use crate::live::free_port;
use crate::suite::adapter::{Error, StartError};
use crate::suite::{Bench, Setup, until_reachable};

/// Says which address, and why.
pub fn a_taken_port_is_an_error(bench: &Bench) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = bench.try_near(&Setup::new("near").listen(port)).map(drop).unwrap_err();
    let expected = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert!(
        matches!(&error, StartError::Start(text) if text.contains(&expected)),
        "{error:?}"
    );
}

/// Before anything is opened.
pub fn a_contradiction_is_an_error(bench: &Bench) {
    let mut setup = Setup::new("near").backend(BackendKind::LocalOnly);
    setup.config.idle_timeout = Duration::from_secs(1);
    let error = bench.try_near(&setup).map(drop).unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error:?}");
}

/// Says where.
pub fn a_data_directory_that_cannot_be_is_an_error(bench: &Bench) {
    let file = bench.scratch.write("file", "");
    let mut setup = Setup::new("near").backend(BackendKind::LocalOnly);
    setup.options.data_dir = Some(file.clone());
    let error = bench.try_near(&setup).map(drop).unwrap_err();
    assert!(
        matches!(&error, StartError::DataDir(text) if text.contains(file.to_str().unwrap())),
        "{error:?}"
    );
}

/// A listener more than at the start, unless it cannot be read.
#[derive(Debug)]
struct Source {
    port: u16,
    is_broken: AtomicBool,
}

impl ConfigSource for Source {
    fn read(&self) -> Result<FreshConfig, ReloadError> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(ReloadError {
                text: "it cannot be read".to_owned(),
                code: ReloadCode::Failed,
            });
        }
        Ok(FreshConfig::new(Reloadable {
            backends: vec![
                Backend::new(BackendKind::LocalOnly),
                Backend::new(BackendKind::listener(format!("127.0.0.1:{}", self.port))),
            ],
            tls: TlsNames::default(),
            firewall: Rules::default(),
            work_types: Vec::new(),
            ..Reloadable::default()
        }))
    }
}

/// By the program that embeds it; without a source that is refused.
pub fn a_program_has_its_configuration_read_again(bench: &Bench) {
    let source = Arc::new(Source {
        port: free_port(),
        is_broken: AtomicBool::new(true),
    });
    let mut setup = Setup::new("near").backend(BackendKind::LocalOnly);
    let without = bench.near(&setup);
    assert!(matches!(without.reload(), Err(Error::Refused(_))));
    without.shutdown();
    setup.options.config_source = Some(source.clone());
    let near = bench.near(&setup);
    let refused = near.reload().unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(text) if text == "it cannot be read"),
        "{refused:?}"
    );
    source.is_broken.store(false, Ordering::Relaxed);
    near.reload().unwrap();
    let far = bench.far(&Setup::new("far").peer(source.port));
    until_reachable(&*near, "far");
    until_reachable(&*far, "near");
}
