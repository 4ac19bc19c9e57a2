//! What has to become of a combination, after `security.md` §2, §3, §5, §6, §9 and §10, and where it allows more: a certificate
//! that was verified and names nodes is good for these only.

use super::table::{Asks, Case, Pin, Shown};

/// One of the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Listener,
    Dialler,
}

/// How it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// This end does not even start, with an error that contains the text.
    NoStart(End, &'static str),
    /// This end refuses the handshake for a reason; the other hears an alert.
    Refused(End, &'static str, &'static str),
    /// This end closes the link, since its peer is not who the certificate says.
    Closed(End, &'static str),
    /// Both have a reason to close it, and one does.
    EitherCloses,
    /// There is a link; these ends warn about certificates without names.
    Up(Vec<End>),
}

/// Of the chain to the roots and the time (§5, step 4).
fn chain(shown: Shown) -> Option<(&'static str, &'static str)> {
    match shown {
        Shown::OtherAuthority | Shown::SameName => {
            Some(("x509: certificate signed by unknown authority", "tls: unknown ca"))
        }
        Shown::Expired => Some(("x509: certificate expired", "tls: certificate expired")),
        _ => None,
    }
}

/// Of the fingerprints (§5, step 3): any one is enough.
const fn is_pinned(pin: Pin) -> bool {
    !matches!(pin, Pin::Wrong(_))
}

const NOT_PINNED: (&str, &str) = ("presented certificate is not pinned", "tls: certificate unknown");

/// Why a certificate is refused in the handshake, and what its owner hears; fingerprints before chain.
fn refusal(shown: Shown, pin: Pin) -> Option<(&'static str, &'static str)> {
    if is_pinned(pin) { chain(shown) } else { Some(NOT_PINNED) }
}

/// What an end's own config says at the start (§9, §10).
fn start_error(shown: Shown, skips: bool, pin: Pin) -> Option<&'static str> {
    match (shown, pin) {
        (Shown::OtherNode, _) if !skips => Some("not found in certificate name(s); names found=[other]"),
        (Shown::Nameless, _) if !skips => Some("not found in certificate name(s); names found=[]"),
        (_, Pin::Right(224 | 384)) => Some("fingerprints must be 32 or 64 bytes"),
        _ => None,
    }
}

pub(crate) fn oracle(case: &Case) -> Outcome {
    if let Some(error) = start_error(case.server, case.server_skips, case.client_pin) {
        return Outcome::NoStart(End::Listener, error);
    }
    if let Some(error) = start_error(case.client, case.client_skips, case.server_pin) {
        return Outcome::NoStart(End::Dialler, error);
    }
    // The dialler sees the listener's certificate first. With `insecureskipverify` it looks at nothing.
    if !case.insecure {
        if let Some((reason, alert)) = refusal(case.server, case.server_pin) {
            return Outcome::Refused(End::Dialler, reason, alert);
        }
        if case.server == Shown::OtherHost {
            let (reason, alert) = ("x509: certificate not valid for name", "tls: bad certificate");
            return Outcome::Refused(End::Dialler, reason, alert);
        }
    }
    // Then the listener the dialler's, if it asks for one; `clientcas` alone is enough to be refused without.
    let is_asked = case.asks != Asks::Nothing;
    if is_asked {
        if case.client == Shown::Nothing {
            let alert = "tls: certificate required";
            return Outcome::Refused(End::Listener, "tls: peer sent no certificates", alert);
        }
        if let Some((reason, alert)) = refusal(case.client, case.client_pin) {
            return Outcome::Refused(End::Listener, reason, alert);
        }
    }
    // What was verified names the node at the other end, if it names any.
    let by_listener = is_asked.then_some(case.client);
    let by_dialler = (!case.insecure).then_some(case.server);
    let refuses = |shown: Option<Shown>| match shown {
        Some(Shown::OtherNode) => Some("but its certificate is valid for other"),
        Some(Shown::Nameless) if case.strict => Some("but its certificate names no node"),
        _ => None,
    };
    match (refuses(by_listener), refuses(by_dialler)) {
        (Some(_), Some(_)) => Outcome::EitherCloses,
        (Some(reason), None) => Outcome::Closed(End::Listener, reason),
        (None, Some(reason)) => Outcome::Closed(End::Dialler, reason),
        (None, None) => {
            let warns = [(End::Listener, by_listener), (End::Dialler, by_dialler)];
            let warns = warns.into_iter().filter(|(_, shown)| *shown == Some(Shown::Nameless));
            Outcome::Up(warns.map(|(end, _)| end).collect())
        }
    }
}
