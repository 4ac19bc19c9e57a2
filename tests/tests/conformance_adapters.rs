//! Every adapter runs every case.

use receptor_tests::suite::on_tokio;

receptor_tests::conformance! {
    tokio: every(on_tokio::adapter, on_tokio::adapter),
}
