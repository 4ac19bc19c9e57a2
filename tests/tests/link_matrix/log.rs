//! All that is logged in this process.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Instant;

use receptor_tests::live::PATIENCE;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is logged from now on, and forgets what was.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Lines).expect("the only one"));
    lines().clear();
}

/// Waits for a line that has all of these words.
pub(crate) fn wait_for(words: &[&str], what: &dyn fmt::Debug) {
    let end = Instant::now() + PATIENCE;
    let mut all = lines();
    let has = |all: &Vec<String>| all.iter().any(|line| words.iter().all(|word| line.contains(word)));
    while !has(&all) {
        let left = end.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "{what:?}: no line with {words:?} in\n{}",
            all.join("\n")
        );
        all = CHANGED
            .wait_timeout(all, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

/// Whether such a line has come.
pub(crate) fn has(words: &[&str]) -> bool {
    lines().iter().any(|line| words.iter().all(|word| line.contains(word)))
}

struct Lines;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        lines().push(text.0);
        CHANGED.notify_all();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
