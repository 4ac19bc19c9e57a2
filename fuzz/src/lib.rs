//! Fuzz targets: functions that take any bytes and panic when a property of the core does not hold.
//!
//! `cargo +nightly fuzz run work -- -dict=fuzz/dict/wire.dict` looks for new inputs from the top folder; in this folder,
//! `cargo test --no-default-features` replays the committed corpus and all golden vectors with the stable compiler.
//!
//! A new target is a function here, an entry in [`TARGETS`], a file in `fuzz_targets/`, a `[[bin]]` in `Cargo.toml` and a
//! folder in `corpus/`. `tests/replay.rs` checks that none of them is forgotten.
#![forbid(unsafe_code)]

mod classic;
mod extended;
mod frame;
mod work;

pub use classic::{advert, route, unreachable};
pub use extended::extended;
pub use frame::data;
pub use work::work;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by the name of their binary.
pub const TARGETS: &[(&str, Target)] = &[
    ("data", data),
    ("route", route),
    ("advert", advert),
    ("unreachable", unreachable),
    ("extended", extended),
    ("work", work),
];
