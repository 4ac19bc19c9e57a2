//! Control messages as every Receptor node writes them: JSON behind a kind byte (`wire.md` §7–§10, §18).

mod advert;
mod ext;
pub mod json;
mod route;
mod time;
mod unreachable;

pub use advert::{Advertisement, WorkCommand};
pub use ext::{EXT_VERSION, Ext};
pub use route::RoutingUpdate;
pub use time::{AdvertTime, format_rfc3339};
pub use unreachable::Unreachable;

use super::WireError;

/// The whole reject message: the kind byte and an empty JSON list (`wire.md` §10).
pub const REJECT: [u8; 3] = *b"\x03[]";

/// Takes the kind byte off a frame.
fn body<'a>(frame: &'a [u8], kind: u8, what: &'static str) -> Result<&'a [u8], WireError> {
    match frame.split_first() {
        Some((&first, body)) if first == kind => Ok(body),
        Some(_) => Err(WireError::Malformed("wrong kind byte")),
        None => Err(WireError::Truncated {
            what,
            needed: 1,
            got: 0,
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
