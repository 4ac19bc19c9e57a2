//! From the bytes of a connection to frames and back, through layers.

mod url;

pub use url::{Url, UrlError};
