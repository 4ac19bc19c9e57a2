//! What there is to combine, and the combinations.

/// Below the TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carrier {
    Tcp,
    WebSocket,
}

/// What the listener asks of a dialler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asks {
    Nothing,
    /// `requireclientcert`, with `clientcas`.
    Requires,
    /// `clientcas` alone.
    Authorities,
}

/// A certificate, right but for one thing. Either end has its own of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Shown {
    Right,
    OtherAuthority,
    /// Of one that has the name of the right one, but not its key.
    SameName,
    Expired,
    /// The node ID in it is that of another node.
    OtherNode,
    /// There is no node ID in it.
    Nameless,
    /// For another host.
    OtherHost,
    /// There is none at all.
    Nothing,
}

/// Fingerprints that an end wants of the other's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pin {
    None,
    /// Of the other's certificate, by a hash of so many bits.
    Right(u16),
    /// Of another certificate.
    Wrong(u16),
    /// Both.
    WrongAndRight,
}

/// One combination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    pub(crate) carrier: Carrier,
    pub(crate) asks: Asks,
    /// By the listener, and by the dialler.
    pub(crate) server: Shown,
    pub(crate) client: Shown,
    /// `skipreceptornamescheck` of either.
    pub(crate) server_skips: bool,
    pub(crate) client_skips: bool,
    /// `insecureskipverify` of the dialler.
    pub(crate) insecure: bool,
    /// `pinnedservercert` of the dialler, and `pinnedclientcert` of the listener.
    pub(crate) server_pin: Pin,
    pub(crate) client_pin: Pin,
    /// `strict` of both.
    pub(crate) strict: bool,
}

/// Everything is right. No names are checked at the start, so that other certificates may be used at all.
const RIGHT: Case = Case {
    carrier: Carrier::Tcp,
    asks: Asks::Requires,
    server: Shown::Right,
    client: Shown::Right,
    server_skips: true,
    client_skips: true,
    insecure: false,
    server_pin: Pin::None,
    client_pin: Pin::None,
    strict: false,
};

const PINS: [Pin; 7] = [
    Pin::Right(256),
    Pin::Right(512),
    Pin::Wrong(256),
    Pin::Wrong(512),
    Pin::WrongAndRight,
    // Hashes that the verification knows, but no configuration may have.
    Pin::Right(224),
    Pin::Right(384),
];

/// Makes one property other than it should be, in one of several ways.
type Change = fn(&mut Case, usize);

/// For each property the ways in which it can be other than in [`RIGHT`].
fn deviations() -> Vec<Vec<Change>> {
    fn times(count: usize, change: Change) -> Vec<Change> {
        vec![change; count]
    }
    const WRONG: [Shown; 6] = [
        Shown::OtherAuthority,
        Shown::SameName,
        Shown::Expired,
        Shown::OtherNode,
        Shown::Nameless,
        Shown::OtherHost,
    ];
    vec![
        times(1, |case, _| case.carrier = Carrier::WebSocket),
        times(2, |case, at| case.asks = [Asks::Nothing, Asks::Authorities][at]),
        times(6, |case, at| case.server = WRONG[at]),
        times(7, |case, at| {
            case.client = WRONG.get(at).copied().unwrap_or(Shown::Nothing)
        }),
        times(1, |case, _| case.server_skips = false),
        times(1, |case, _| case.client_skips = false),
        times(1, |case, _| case.insecure = true),
        times(7, |case, at| case.server_pin = PINS[at]),
        times(7, |case, at| case.client_pin = PINS[at]),
        times(1, |case, _| case.strict = true),
    ]
}

/// All combinations in which at most two properties are not as they should be.
pub(crate) fn pairs() -> Vec<Case> {
    let all = deviations();
    let mut cases = vec![RIGHT];
    for (property, ways) in all.iter().enumerate() {
        for (way, change) in ways.iter().enumerate() {
            let mut one = RIGHT;
            change(&mut one, way);
            cases.push(one);
            for others in &all[property + 1..] {
                for (other, change) in others.iter().enumerate() {
                    let mut two = one;
                    change(&mut two, other);
                    cases.push(two);
                }
            }
        }
    }
    cases
}

/// All combinations whatsoever.
pub(crate) fn product() -> Vec<Case> {
    let mut cases = vec![RIGHT];
    for ways in deviations() {
        let before = cases.clone();
        for (way, change) in ways.iter().enumerate() {
            cases.extend(before.iter().map(|&case| {
                let mut case = case;
                change(&mut case, way);
                case
            }));
        }
    }
    cases
}
