//! The states of a session and every step between them, as data (`wire.md` §11).

use State::{Closed, Open, Up1, Up2};

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing accepted yet; hellos are being sent.
    Open,
    /// We accepted the peer; it has not yet listed us.
    Up1,
    /// The peer has listed us at least once.
    Up2,
    /// Over.
    Closed,
}

/// What happened, with its conditions already evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The hello timer, fewer than ten hellos sent.
    HelloDue,
    /// The hello timer, ten hellos sent.
    HellosExhausted,
    /// Data, an advertisement, an extended message or an unknown kind.
    OtherMessage,
    /// A routing update that does not decode.
    Undecodable,
    /// The first update, and it may be accepted.
    Acceptable,
    /// The first update, and it may not: own ID, not allowed, or already connected.
    Unacceptable,
    /// `ForwardingNode` is no longer the peer.
    ForwarderChanged,
    /// The peer's own update does not list us.
    NotListed,
    /// The peer's own update lists us at another cost.
    CostMismatch,
    /// The peer's own update lists us at our cost.
    Listed,
    /// An update about another node.
    OtherNode,
    /// A reject message.
    Rejected,
    /// Nothing received for too long.
    Idle,
    /// The connection is gone, or we are stopping.
    Lost,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing.
    Ignore,
    /// Log only.
    Log,
    /// Send a hello.
    Hello,
    /// Take the peer as a neighbour.
    Accept,
    /// Process the message.
    Process,
    /// Send a reject and close.
    Reject,
    /// Close without a word.
    Close,
}

/// Every state a session can leave, every cause, and what follows: [`Action::Ignore`] is legal and without effect, a pair
/// that is not listed cannot happen.
pub const TABLE: &[(State, Cause, Action, State)] = &[
    (Open, Cause::HelloDue, Action::Hello, Open),
    (Open, Cause::HellosExhausted, Action::Close, Closed),
    (Open, Cause::OtherMessage, Action::Ignore, Open),
    (Open, Cause::Undecodable, Action::Log, Open),
    (Open, Cause::Acceptable, Action::Accept, Up1),
    (Open, Cause::Unacceptable, Action::Reject, Closed),
    (Open, Cause::Rejected, Action::Close, Closed),
    (Open, Cause::Lost, Action::Close, Closed),
    (Up1, Cause::OtherMessage, Action::Process, Up1),
    (Up1, Cause::Undecodable, Action::Log, Up1),
    (Up1, Cause::ForwarderChanged, Action::Reject, Closed),
    // A late hello, sent before the peer had accepted us; or our word that we have accepted it was lost, which no other
    // message would ever repeat.
    (Up1, Cause::NotListed, Action::Hello, Up1),
    (Up1, Cause::CostMismatch, Action::Reject, Closed),
    (Up1, Cause::Listed, Action::Process, Up2),
    (Up1, Cause::OtherNode, Action::Process, Up1),
    (Up1, Cause::Rejected, Action::Close, Closed),
    (Up1, Cause::Idle, Action::Close, Closed),
    (Up1, Cause::Lost, Action::Close, Closed),
    (Up2, Cause::OtherMessage, Action::Process, Up2),
    (Up2, Cause::Undecodable, Action::Log, Up2),
    (Up2, Cause::ForwarderChanged, Action::Reject, Closed),
    (Up2, Cause::NotListed, Action::Reject, Closed),
    (Up2, Cause::CostMismatch, Action::Reject, Closed),
    (Up2, Cause::Listed, Action::Process, Up2),
    (Up2, Cause::OtherNode, Action::Process, Up2),
    (Up2, Cause::Rejected, Action::Close, Closed),
    (Up2, Cause::Idle, Action::Close, Closed),
    (Up2, Cause::Lost, Action::Close, Closed),
];

/// Looks up a step; `None` if it cannot happen. After the close everything can, without effect.
pub fn outcome(state: State, cause: Cause) -> Option<(Action, State)> {
    if state == Closed {
        return Some((Action::Ignore, Closed));
    }
    let row = TABLE.iter().find(|(from, when, ..)| *from == state && *when == cause);
    row.map(|&(_, _, action, next)| (action, next))
}

/// Looks up a step; one that cannot happen is ignored.
pub fn step(state: State, cause: Cause) -> (Action, State) {
    outcome(state, cause).unwrap_or_else(|| {
        debug_assert!(false, "{cause:?} in {state:?}");
        (Action::Ignore, state)
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::table_text::grid;

    const CAUSES: [Cause; 14] = [
        Cause::HelloDue,
        Cause::HellosExhausted,
        Cause::OtherMessage,
        Cause::Undecodable,
        Cause::Acceptable,
        Cause::Unacceptable,
        Cause::ForwarderChanged,
        Cause::NotListed,
        Cause::CostMismatch,
        Cause::Listed,
        Cause::OtherNode,
        Cause::Rejected,
        Cause::Idle,
        Cause::Lost,
    ];

    #[test]
    fn snapshot_of_the_table() {
        let table = grid(&CAUSES, &[Open, Up1, Up2, Closed], |&cause, &state| {
            match outcome(state, cause) {
                Some((Action::Ignore, next)) if next == state => "no-op".into(),
                Some((action, next)) => format!("{action:?} -> {next:?}"),
                None => "invalid".into(),
            }
        });
        insta::assert_snapshot!("session", table);
    }

    #[test]
    fn the_table_is_a_function_and_closed_is_final() {
        for (i, (state, cause, action, next)) in TABLE.iter().enumerate() {
            assert!(
                TABLE[..i].iter().all(|(s, c, ..)| (s, c) != (state, cause)),
                "twice: {state:?} {cause:?}"
            );
            assert_ne!(*state, Closed);
            let closes = matches!(action, Action::Reject | Action::Close);
            assert_eq!(closes, *next == Closed, "{state:?} {cause:?}");
        }
        assert_eq!(step(Closed, Cause::Listed), (Action::Ignore, Closed));
    }

    #[test]
    fn a_session_never_goes_back() {
        let rank = |state| [Open, Up1, Up2, Closed].iter().position(|&s| s == state);
        assert!(TABLE.iter().all(|&(from, _, _, to)| rank(to) >= rank(from)));
    }
}
