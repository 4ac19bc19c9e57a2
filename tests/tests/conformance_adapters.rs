//! Every adapter runs every case, and with each other those in which two nodes meet.

use receptor_tests::suite::{on_smol, on_tokio};

receptor_tests::conformance! {
    tokio: every(on_tokio::adapter, on_tokio::adapter),
    smol: every(on_smol::adapter, on_smol::adapter),
    tokio_smol: mesh(on_tokio::adapter, on_smol::adapter),
    smol_tokio: mesh(on_smol::adapter, on_tokio::adapter),
}
