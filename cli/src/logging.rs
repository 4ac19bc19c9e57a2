//! Logs in the classic format, one line per event on stdout (`config.md` §6.4).

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Errors only.
    Error,
    /// Warnings too.
    Warning,
    /// What a node does.
    Info,
    /// Everything but packets.
    Debug,
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "error" => Ok(Self::Error),
            "warning" => Ok(Self::Warning),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err(format!("{text} is not a valid log level name")),
        }
    }
}

/// Turns the level up and down while the program runs.
#[derive(Clone, Debug)]
pub struct LevelControl(Arc<AtomicU8>);

/// Set in the number of a level: events of packets are logged too, whatever the level.
const PACKETS: u8 = 0x80;

impl LevelControl {
    pub(crate) fn new(level: Level, packets: bool) -> Self {
        Self(Arc::new(AtomicU8::new(number(level, packets))))
    }

    /// Changes what is logged from now on.
    pub fn set(&self, level: Level, packets: bool) {
        self.0.store(number(level, packets), Ordering::Relaxed);
        // Every call site remembers whether it is of interest.
        tracing::callsite::rebuild_interest_cache();
    }

    pub(crate) fn wants(&self, level: tracing::Level) -> bool {
        let number = self.0.load(Ordering::Relaxed);
        match level {
            tracing::Level::ERROR => true,
            tracing::Level::WARN => number & !PACKETS >= Level::Warning as u8,
            tracing::Level::INFO => number & !PACKETS >= Level::Info as u8,
            tracing::Level::DEBUG => number & !PACKETS >= Level::Debug as u8,
            tracing::Level::TRACE => number & PACKETS != 0,
        }
    }

    fn most_verbose(&self) -> LevelFilter {
        [
            tracing::Level::TRACE,
            tracing::Level::DEBUG,
            tracing::Level::INFO,
            tracing::Level::WARN,
        ]
        .into_iter()
        .find(|level| self.wants(*level))
        .map_or(LevelFilter::ERROR, LevelFilter::from_level)
    }
}

fn number(level: Level, packets: bool) -> u8 {
    level as u8 | if packets { PACKETS } else { 0 }
}

/// Starts logging to stdout. Only the first call of a process has an effect on where events go.
pub fn start(level: Level, packets: bool) -> LevelControl {
    let control = LevelControl::new(level, packets);
    let layer = Classic {
        control: control.clone(),
    };
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    control
}

/// Writes events in the classic format.
struct Classic {
    control: LevelControl,
}

impl<S: Subscriber> Layer<S> for Classic {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // What libraries have to say is for their own developers.
        metadata.target().starts_with("receptor") && self.control.wants(*metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.control.most_verbose())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event, &Zoned::now());
        // A log that nobody can read any more must not end the node.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }
}

fn line(event: &Event<'_>, now: &Zoned) -> String {
    let level = match *event.metadata().level() {
        tracing::Level::WARN => "WARNING",
        level => level.as_str(),
    };
    let mut line = format!("{level} {} ", now.strftime("%Y/%m/%d %H:%M:%S"));
    let mut text = Text::default();
    event.record(&mut text);
    for part in [text.message, text.fields] {
        // Texts of peers end up here: one event stays one line, and no escape reaches a terminal.
        for c in part.chars() {
            if c.is_control() {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
        }
    }
    line.push('\n');
    line
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Quotes only where the end of the value would not be seen.
        if field.name() != "message" && (value.is_empty() || value.contains([' ', '"', '='])) {
            self.record_debug(field, &value);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::civil::date;
    use jiff::tz::TimeZone;

    use super::*;

    struct Capture {
        control: LevelControl,
        lines: Arc<Mutex<String>>,
    }

    impl<S: Subscriber> Layer<S> for Capture {
        fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
            Layer::<S>::enabled(
                &Classic {
                    control: self.control.clone(),
                },
                metadata,
                context,
            )
        }

        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let now = date(2026, 3, 9).at(7, 5, 1, 0).to_zoned(TimeZone::UTC).unwrap();
            self.lines.lock().unwrap().push_str(&line(event, &now));
        }
    }

    fn captured(level: Level, packets: bool, act: impl FnOnce(&LevelControl)) -> String {
        let control = LevelControl::new(level, packets);
        let lines = Arc::new(Mutex::new(String::new()));
        let layer = Capture {
            control: control.clone(),
            lines: lines.clone(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || act(&control));
        Arc::into_inner(lines).unwrap().into_inner().unwrap()
    }

    #[test]
    fn events_are_classic_lines() {
        let text = captured(Level::Debug, true, |_| {
            tracing::error!("broken");
            tracing::warn!(peer = "hub", reason = "no route to host", cost = 1.5, "connection lost");
            tracing::info!(name = %"a\nb", "two\nlines\u{1b}[31m");
            tracing::debug!(empty = "", "fields");
            tracing::trace!("packet");
        });
        assert_eq!(
            text,
            "ERROR 2026/03/09 07:05:01 broken\n\
             WARNING 2026/03/09 07:05:01 connection lost peer=hub reason=\"no route to host\" cost=1.5\n\
             INFO 2026/03/09 07:05:01 two\\nlines\\u{1b}[31m name=a\\nb\n\
             DEBUG 2026/03/09 07:05:01 fields empty=\"\"\n\
             TRACE 2026/03/09 07:05:01 packet\n"
        );
    }

    #[test]
    fn the_level_changes_at_run_time() {
        let say = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
        };
        let text = captured(Level::Error, false, |control| {
            say();
            control.set(Level::Info, false);
            say();
            control.set(Level::Warning, true);
            say();
        });
        let levels: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(levels, ["e", "e", "w", "i", "e", "w", "t"]);
    }

    #[test]
    fn level_names_are_the_classic_four() {
        assert_eq!("WARNING".parse(), Ok(Level::Warning));
        assert_eq!(
            "warn".parse::<Level>(),
            Err("warn is not a valid log level name".into())
        );
    }
}
