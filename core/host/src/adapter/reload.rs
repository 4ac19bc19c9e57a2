//! Reading a configuration again: what the program brings, and what the adapter does with its own part of it.

use std::fmt;
use std::sync::Arc;

use receptor_core::config::Reloadable;
use receptor_core::node::io::{ReloadCode, ReloadError};
use receptor_core::tls::Configs;

use super::Tls;

/// Where the configuration of a running node is read again. Called on a thread that may block.
pub trait ConfigSource: fmt::Debug + Send + Sync {
    /// Reads and checks all of it, and changes nothing.
    ///
    /// # Errors
    /// Why the running node cannot have it.
    fn read(&self) -> Result<FreshConfig, ReloadError>;
}

/// A configuration that was read and checked.
#[non_exhaustive]
pub struct FreshConfig {
    /// What the node has to know.
    pub node: Reloadable,
    /// TLS configs; without, they stay as they are.
    pub tls: Option<Configs>,
    /// Called when it is applied, for what the program keeps for itself. Never called if it could not be applied.
    pub applied: Option<Box<dyn FnOnce() + Send>>,
}

impl FreshConfig {
    /// With nothing but what the node has to know.
    pub fn new(node: Reloadable) -> Self {
        Self {
            node,
            tls: None,
            applied: None,
        }
    }
}

impl fmt::Debug for FreshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshConfig")
            .field("node", &self.node)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Reads, on a thread that may block.
///
/// # Errors
/// Those of the source; or that there is none.
pub fn read_config(source: Option<&dyn ConfigSource>) -> Result<FreshConfig, ReloadError> {
    let failed = |text: &str| ReloadError {
        text: text.to_owned(),
        code: ReloadCode::Failed,
    };
    let source = source.ok_or_else(|| failed("no configuration file was provided, reload function not set"))?;
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| source.read()));
    read.unwrap_or_else(|_| Err(failed("reading the configuration died: this is a bug")))
}

/// The adapter's part of a reload under way.
#[derive(Default)]
pub struct Reloading {
    /// The TLS configs from before.
    before: Option<Arc<Configs>>,
    applied: Option<Box<dyn FnOnce() + Send>>,
}

impl Reloading {
    /// New listeners and peers may need the new TLS configs, so these come first. Gives the node's part.
    pub fn begin(&mut self, tls: &Tls, fresh: FreshConfig) -> Box<Reloadable> {
        self.applied = fresh.applied;
        self.before = fresh.tls.map(|configs| tls.swap(Arc::new(configs)));
        let mut node = fresh.node;
        node.tls = tls.names();
        Box::new(node)
    }

    /// The node has applied its part, or has left everything as it was.
    pub fn end(&mut self, tls: &Tls, is_applied: bool) {
        let before = self.before.take();
        match (is_applied, self.applied.take()) {
            (true, Some(applied)) => applied(),
            (true, None) => {}
            (false, _) => {
                if let Some(before) = before {
                    tls.swap(before);
                }
            }
        }
    }
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn fresh(count: &Arc<AtomicU32>) -> FreshConfig {
        let count = Arc::clone(count);
        FreshConfig {
            tls: Some(Configs::none(Arc::new(rustls::time_provider::DefaultTimeProvider))),
            applied: Some(Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })),
            ..FreshConfig::new(Reloadable::default())
        }
    }

    #[test]
    fn what_was_applied_stays_and_what_was_not_goes() {
        let (tls, count, mut reloading) = (Tls::default(), Arc::default(), Reloading::default());
        let old = tls.configs();
        reloading.begin(&tls, fresh(&count));
        assert!(!Arc::ptr_eq(&old, &tls.configs()));
        reloading.end(&tls, false);
        assert!(Arc::ptr_eq(&old, &tls.configs()));
        assert_eq!(count.load(Ordering::Relaxed), 0);
        reloading.begin(&tls, fresh(&count));
        reloading.end(&tls, true);
        assert!(!Arc::ptr_eq(&old, &tls.configs()));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[derive(Debug)]
    struct Panics;

    impl ConfigSource for Panics {
        fn read(&self) -> Result<FreshConfig, ReloadError> {
            panic!("on purpose")
        }
    }

    #[test]
    fn a_source_that_panics_or_is_not_there_is_an_error() {
        let text = |source: Option<&dyn ConfigSource>| read_config(source).unwrap_err().text;
        assert_eq!(
            text(None),
            "no configuration file was provided, reload function not set"
        );
        assert!(text(Some(&Panics)).contains("died"));
    }
}
