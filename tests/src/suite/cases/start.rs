//! What keeps a node from starting.

use std::net::TcpListener;
use std::time::Duration;

use receptor_core::config::BackendKind;

use crate::suite::adapter::StartError;
use crate::suite::{Bench, Setup};

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
