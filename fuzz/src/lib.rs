//! Fuzz targets: functions that take any bytes and panic when a property of the core does not hold.
//!
//! `cargo +nightly fuzz run work -- -dict=fuzz/dict/wire.dict` looks for new inputs from the top folder; in this folder,
//! `cargo test --no-default-features` replays the committed corpus and all golden vectors with the stable compiler.
//!
//! A new target is a function here, an entry in [`PARSERS`] or [`MACHINES`], a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml` and a
//! folder in `corpus/`. `tests/replay.rs` checks that none of them is forgotten.
#![forbid(unsafe_code)]

mod certificates;
mod classic;
mod config;
mod control;
mod extended;
mod firewall;
mod frame;
mod link;
mod node;
mod quic;
mod requests;
mod rig;
mod secure;
mod source;
mod stream;
mod table;
mod transport;
mod work;

pub use certificates::{certificates, pem};
pub use classic::{advert, route, unreachable};
pub use config::{arguments, config, yaml};
pub use control::control;
pub use extended::extended;
pub use firewall::firewall;
pub use frame::data;
pub use link::link;
pub use node::node;
pub use quic::quic;
pub use requests::requests;
pub use secure::secure;
pub use stream::stream;
pub use table::table;
pub use transport::{transport, websocket};
pub use work::work;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// Targets that read messages, by the name of their binary.
pub const PARSERS: &[(&str, Target)] = &[
    ("data", data),
    ("route", route),
    ("advert", advert),
    ("unreachable", unreachable),
    ("extended", extended),
    ("work", work),
    ("firewall", firewall),
    ("yaml", yaml),
    ("config", config),
    ("arguments", arguments),
    ("pem", pem),
];

/// Targets that drive machines, by the name of their binary.
pub const MACHINES: &[(&str, Target)] = &[
    ("link", link),
    ("control", control),
    ("stream", stream),
    ("table", table),
    ("secure", secure),
    ("transport", transport),
    ("websocket", websocket),
    ("quic", quic),
    ("certificates", certificates),
    ("requests", requests),
    ("node", node),
];

/// All targets.
pub fn targets() -> impl Iterator<Item = (&'static str, Target)> {
    PARSERS.iter().chain(MACHINES).copied()
}
