//! The certificate tools: `cert-init`, `cert-makereq` and `cert-signreq` (`security.md` §14).
//!
//! One-shot commands that make an authority, requests with node IDs in them, and certificates. RSA keys only, as in the
//! classic node. Files come into being as a whole or not at all; private keys and certificates have mode 0600.

mod authority;
mod der;
mod files;
mod key;
mod names;
mod pem;
mod request;
mod subject;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{BufRead, Write};
use std::net::IpAddr;

use jiff::Timestamp;

/// Why a tool did not do its work; a text for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolError(String);

impl ToolError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ToolError {}

type Result<T, E = ToolError> = std::result::Result<T, E>;

/// A tool and what it works on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tool {
    /// `cert-init`: makes an authority.
    Init(Init),
    /// `cert-makereq`: makes a request.
    MakeRequest(MakeRequest),
    /// `cert-signreq`: makes a certificate of a request.
    SignRequest(SignRequest),
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Validity {
    /// `None`: from now on.
    pub not_before: Option<Timestamp>,
    /// `None`: for a number of years that the tool knows, counted from now.
    pub not_after: Option<Timestamp>,
}

/// `cert-init`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Init {
    /// Common name of the authority.
    pub common_name: String,
    /// Size of its key; 0 means 2048.
    pub bits: i64,
    /// By default 10 years.
    pub validity: Validity,
    /// Where the certificate goes.
    pub out_cert: String,
    /// Where the key goes.
    pub out_key: String,
}

/// `cert-makereq`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MakeRequest {
    /// Common name of the certificate.
    pub common_name: String,
    /// Names in it.
    pub names: Names,
    /// Whose key.
    pub key: RequestKey,
    /// Where the request goes.
    pub out_request: String,
}

/// The key of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestKey {
    /// One that exists, in this file.
    Existing(String),
    /// A new one.
    New {
        /// Its size.
        bits: i64,
        /// Where it goes.
        out_key: String,
    },
}

/// `cert-signreq`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignRequest {
    /// The request.
    pub request: String,
    /// The authority's certificate.
    pub ca_cert: String,
    /// The authority's key.
    pub ca_key: String,
    /// By default one year.
    pub validity: Validity,
    /// Where the certificate goes.
    pub out_cert: String,
    /// Somebody has looked at the request already: nobody is asked.
    pub is_verified: bool,
}

/// Names in a certificate, in the order in which they are written.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Node IDs.
    pub nodes: Vec<String>,
}

/// The two sides of a terminal.
pub struct Terminal<'a> {
    /// What the user types.
    pub input: &'a mut dyn BufRead,
    /// What the user reads.
    pub output: &'a mut dyn Write,
}

impl fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Terminal")
    }
}

/// Runs a tool. `now` is the wall clock.
///
/// # Errors
/// Anything that stands in its way, in the classic words where there are any. No file was changed then.
pub fn run(tool: &Tool, now: Timestamp, terminal: &mut Terminal<'_>) -> Result<()> {
    match tool {
        Tool::Init(init) => authority::init(init, now),
        Tool::MakeRequest(request) => request::make(request),
        Tool::SignRequest(sign) => authority::sign(sign, now, terminal),
    }
}
