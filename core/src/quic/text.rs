//! Why a connection ended, in the words users of Go nodes know (`wire.md` §21.5, §21.7).

use alloc::string::String;

use quinn_proto::{ConnectionError, TransportErrorCode, VarInt};

use crate::tls::text::plain;

/// Nothing was heard for too long.
pub(super) const SILENT: &str = "timeout: no recent network activity";
/// The handshake took too long in spite of life signs.
pub(super) const HANDSHAKE: &str = "timeout: handshake did not complete in time";
/// The problem of an unreachable message that ends a dial (`wire.md` §18).
pub(super) const SERVICE_UNKNOWN: &str = "service unknown";
/// The origin's own error that ends a dial.
pub(super) const NO_ROUTE: &str = "no route to node";
/// As [`SERVICE_UNKNOWN`]; classic nodes wait for their time-out instead.
pub(super) const BLOCKED: &str = "blocked by firewall";
/// Said with code 0 when all is done; classic nodes take it as routine.
pub(super) const NORMAL_CLOSE: &str = "normal close";
/// The dialler did not open its stream in time.
pub(super) const ACCEPT_TIMEOUT: &str = "Accept Timeout";
/// The first byte of the stream was not zero.
pub(super) const FIRST_BYTE: &str = "Read Data Error";

/// The code of every error.
pub(super) const ERROR: VarInt = VarInt::from_u32(500);
/// The code of [`NORMAL_CLOSE`].
pub(super) const NORMAL: VarInt = VarInt::from_u32(0);

/// `None` for a peaceful end.
pub(super) fn of(error: &ConnectionError) -> Option<String> {
    Some(match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == NORMAL => return None,
        ConnectionError::ApplicationClosed(close) => alloc::format!(
            "Application error {:#x} (remote): {}",
            close.error_code.into_inner(),
            String::from_utf8_lossy(&close.reason)
        ),
        ConnectionError::ConnectionClosed(close) => {
            transport(close.error_code, "remote", &String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TransportError(error) => transport(error.code, "local", &error.reason),
        ConnectionError::TimedOut => SILENT.into(),
        ConnectionError::Reset => "received a stateless reset".into(),
        ConnectionError::VersionMismatch => "no compatible QUIC version found".into(),
        ConnectionError::LocallyClosed => "closed".into(),
        ConnectionError::CidsExhausted => "no more connection IDs".into(),
    })
}

/// Go's code of remote work looks for `CRYPTO_ERROR`.
fn transport(code: TransportErrorCode, side: &str, reason: &str) -> String {
    let number = u64::from(code);
    if (0x100..0x200).contains(&number) {
        alloc::format!("CRYPTO_ERROR {number:#x} ({side}): {}", plain(reason))
    } else {
        alloc::format!("{code} ({side}): {reason}")
    }
}
