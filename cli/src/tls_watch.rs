//! Certificates, keys and CA bundles that are replaced while the node runs: they are read again as soon as somebody has written
//! them, and used for what begins after that.

use std::sync::{Arc, Mutex, PoisonError};

use receptor_core::id::NodeId;
use receptor_host::adapter::Tls;
use receptor_host::file_watch::FileWatch;
use receptor_host::tls_files::TlsFiles;

use crate::expiry::ExpiryWatch;

/// Watches the files of the TLS configs until it is dropped.
#[derive(Debug)]
pub struct TlsWatch {
    files: Arc<Mutex<TlsFiles>>,
    watch: FileWatch,
}

impl TlsWatch {
    /// Watches `files`, and keeps `tls` as they are; `expiry` hears of every change.
    ///
    /// # Errors
    /// The operating system cannot watch more.
    pub fn new(node_id: NodeId, files: TlsFiles, tls: Arc<Tls>, expiry: Arc<ExpiryWatch>) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(files.clone()));
        let of_thread = Arc::clone(&shared);
        let watch = FileWatch::new(move || {
            let files = of_thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match files.load(&node_id) {
                Ok(configs) => {
                    configs
                        .warnings()
                        .iter()
                        .for_each(|warning| tracing::warn!("{warning}"));
                    tls.replace(configs);
                    tracing::info!("TLS files were read again");
                    expiry.again();
                }
                // Often just half of a change, whose other half follows.
                Err(error) => tracing::error!("TLS files changed and cannot be used; those from before stay: {error}"),
            }
        })?;
        let this = Self { files: shared, watch };
        this.set(files);
        Ok(this)
    }

    /// Watches these files from now on, of configs that were read just now.
    pub fn set(&self, files: TlsFiles) {
        for missing in self.watch.set(files.files()) {
            tracing::warn!("changes of {} will not be noticed", missing.display());
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }
}
