//! TLS on links: carrier × client certificates × certificates of either end × names × fingerprints × `strict`, right and wrong, and
//! what both ends log. Both runtimes are the listener once, and the dialler once.
//!
//! The combinations come from [`table`], what has to become of each from [`oracle`], written after the specification. Every pair
//! of properties is run, one half of them with either runtime as the listener; with `RECEPTOR_LINK_MATRIX=N` both halves with
//! both and N combinations more, of all there are, and with `all` all of them.

mod log;
mod oracle;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest::{SHA224, SHA256, SHA384, SHA512, digest};
use receptor_core::config::{ListenerTransport, PeerTransport};
use receptor_core::id::NodeId;
use receptor_core::rng::Rng;
use receptor_core::tls::{ClientSettings, Configs, Pem, ServerSettings};
use receptor_host::adapter::Tls;
use receptor_tests::certificates::{Authority, Identity, Leaf};
use receptor_tests::live::{PATIENCE, free_port, until};
use receptor_tests::suite::adapter::{Adapter, Node};
use receptor_tests::suite::{Setup, on_smol, on_tokio, until_reachable};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::time_provider::DefaultTimeProvider;

use self::oracle::{End, Outcome, oracle};
use self::table::{Asks, Carrier, Case, Pin, Shown, pairs, product};

/// Certificates of both ends.
struct Material {
    authority: String,
    listener: BTreeMap<Shown, Identity>,
    dialler: BTreeMap<Shown, Identity>,
}

fn material() -> &'static Material {
    static MATERIAL: OnceLock<Material> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let (authority, namesake) = (Authority::default(), Authority::default());
        let stranger = Authority::named("stranger");
        let of = |own: &str| {
            BTreeMap::from([
                (Shown::Right, authority.sign(Leaf::of(&[own]))),
                (Shown::OtherAuthority, stranger.sign(Leaf::of(&[own]))),
                (Shown::SameName, namesake.sign(Leaf::of(&[own]))),
                (Shown::Expired, authority.sign(Leaf::of(&[own]).expired())),
                (Shown::OtherNode, authority.sign(Leaf::of(&["other"]))),
                (Shown::Nameless, authority.sign(Leaf::of(&[]))),
                (Shown::OtherHost, authority.sign(Leaf::of(&[own]).for_another_host())),
            ])
        };
        Material {
            listener: of("near"),
            dialler: of("far"),
            authority: authority.pem.clone(),
        }
    })
}

fn pem(name: &str, text: &str) -> Pem {
    Pem::new(name, text.to_owned())
}

/// The fingerprints that are wanted of this certificate.
fn fingerprints(pin: Pin, of: Option<&Identity>) -> Vec<String> {
    let print = |bits: u16, wrong: bool| {
        let algorithm = match bits {
            224 => &SHA224,
            256 => &SHA256,
            384 => &SHA384,
            _ => &SHA512,
        };
        let text = of.map_or_else(|| &material().authority, |identity| &identity.cert);
        let der = CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
        let mut bytes = digest(algorithm, &der).as_ref().to_vec();
        bytes[0] ^= u8::from(wrong);
        bytes
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":")
    };
    match pin {
        Pin::None => Vec::new(),
        Pin::Right(bits) => vec![print(bits, false)],
        Pin::Wrong(bits) => vec![print(bits, true)],
        Pin::WrongAndRight => vec![print(256, true), print(512, false)],
    }
}

fn listener_configs(case: &Case) -> Result<Configs, String> {
    let material = material();
    let own = &material.listener[&case.server];
    let mut server = ServerSettings::new("tls", pem("near.crt", &own.cert), pem("near.key", &own.key));
    server.require_client_cert = case.asks == Asks::Requires;
    server.client_cas = (case.asks != Asks::Nothing).then(|| pem("ca.crt", &material.authority));
    server.pinned_client_certs = fingerprints(case.client_pin, material.dialler.get(&case.client));
    server.skip_receptor_names_check = case.server_skips;
    Configs::new(
        &NodeId::new("near"),
        &[server],
        &[],
        None,
        Arc::new(DefaultTimeProvider),
    )
}

fn dialler_configs(case: &Case) -> Result<Configs, String> {
    let material = material();
    let mut client = ClientSettings::new("tls");
    if let Some(own) = material.dialler.get(&case.client) {
        client.cert = Some(pem("far.crt", &own.cert));
        client.key = Some(pem("far.key", &own.key));
    }
    client.root_cas = Some(pem("ca.crt", &material.authority));
    client.insecure_skip_verify = case.insecure;
    client.pinned_server_certs = fingerprints(case.server_pin, material.listener.get(&case.server));
    client.skip_receptor_names_check = case.client_skips;
    Configs::new(&NodeId::new("far"), &[], &[client], None, Arc::new(DefaultTimeProvider))
}

/// How the two ends travel to each other.
fn transports(carrier: Carrier, port: u16, tls: [bool; 2]) -> (ListenerTransport, PeerTransport, String) {
    let [listener, peer] = tls.map(|has| has.then(|| "tls".to_owned()));
    match carrier {
        Carrier::Tcp => (
            ListenerTransport::Tcp { tls: listener },
            PeerTransport::Tcp { tls: peer },
            format!("127.0.0.1:{port}"),
        ),
        Carrier::WebSocket => {
            let scheme = if peer.is_some() { "wss" } else { "ws" };
            let transport = PeerTransport::WebSocket {
                extra_header: None,
                tls: peer,
            };
            let listener = ListenerTransport::WebSocket {
                path: "/".into(),
                tls: listener,
            };
            (listener, transport, format!("{scheme}://127.0.0.1:{port}/"))
        }
    }
}

struct Runtimes {
    near: Arc<dyn Adapter>,
    far: Arc<dyn Adapter>,
}

impl Runtimes {
    fn start(
        &self,
        carrier: Carrier,
        tls: [bool; 2],
        configs: [Configs; 2],
        strict: bool,
    ) -> (Box<dyn Node>, Box<dyn Node>, u16, String) {
        let port = free_port();
        let (listener, peer, address) = transports(carrier, port, tls);
        let [near, far] = configs.map(|configs| Arc::new(Tls::new(configs)));
        let mut near = Setup::new("near").tls(near).listen_over(port, listener);
        let mut far = Setup::new("far").tls(far).peer_over(&address, peer);
        near.config.strict = strict;
        far.config.strict = strict;
        let start = |adapter: &Arc<dyn Adapter>, setup: Setup| {
            let started = adapter.start(setup.config, setup.options);
            started.unwrap_or_else(|error| panic!("{error:?}"))
        };
        (start(&self.near, near), start(&self.far, far), port, address)
    }

    /// Runs one combination and compares.
    fn run(&self, case: &Case) {
        let wanted = oracle(case);
        let (near, far) = match (listener_configs(case), dialler_configs(case)) {
            (Ok(near), Ok(far)) => (near, far),
            (near, far) => {
                let (end, error) = match (near, far) {
                    (Err(error), _) => (End::Listener, error),
                    (_, Err(error)) => (End::Dialler, error),
                    _ => unreachable!("one has failed"),
                };
                match wanted {
                    Outcome::NoStart(who, text) if who == end && error.contains(text) => return,
                    wanted => panic!("{case:?}: {wanted:?}, but {error}"),
                }
            }
        };
        log::begin();
        let (near, far, port, address) = self.start(case.carrier, [true; 2], [near, far], case.strict);
        let remote = format!("127.0.0.1:{port}");
        let is_connected = |node: &dyn Node| {
            !node.status().unwrap()["Connections"]
                .as_array()
                .is_none_or(Vec::is_empty)
        };
        // What is no start was compared above.
        match &wanted {
            Outcome::NoStart(..) => panic!("{case:?}: {wanted:?}, but both start"),
            Outcome::Refused(End::Dialler, reason, alert) => {
                log::wait_for(&["Backend connection failed (will retry)", &address, reason], case);
                log::wait_for(&["connection from 127.0.0.1:", "refused: ", alert], case);
            }
            Outcome::Refused(End::Listener, reason, alert) => {
                log::wait_for(&["connection from 127.0.0.1:", "refused: ", reason], case);
                // Over TCP its own handshake is done before it is refused.
                match case.carrier {
                    Carrier::Tcp => log::wait_for(&[&format!("connection to {remote} is gone"), alert], case),
                    Carrier::WebSocket => log::wait_for(&["Backend connection failed", &address, alert], case),
                }
            }
            Outcome::Closed(End::Listener, reason) => {
                log::wait_for(
                    &["connection with 127.0.0.1:", "it says that it is node far", reason],
                    case,
                );
                log::wait_for(&[&format!("connection with {remote} closed: rejected")], case);
            }
            Outcome::Closed(End::Dialler, reason) => {
                let closed = format!("connection with {remote} closed");
                log::wait_for(&[&closed, "it says that it is node near", reason], case);
                log::wait_for(&["connection with 127.0.0.1:", "closed: rejected"], case);
            }
            Outcome::EitherCloses => log::wait_for(&["closed: it says that it is node", "but its certificate"], case),
            Outcome::Up(warns) => {
                log::wait_for(&["connection established with far at 127.0.0.1:"], case);
                log::wait_for(&["connection established with near at ", &remote], case);
                until_reachable(&*far, "near");
                for (end, peer) in [(End::Listener, "far"), (End::Dialler, "near")] {
                    let warning = format!("the certificate of {peer} at 127.0.0.1:");
                    assert_eq!(log::has(&[&warning, "names no node"]), warns.contains(&end), "{case:?}");
                }
            }
        }
        if !matches!(wanted, Outcome::Up(_)) {
            assert!(!is_connected(&*near) && !is_connected(&*far), "{case:?}: {wanted:?}");
        }
        far.shutdown();
        near.shutdown();
    }

    /// TLS at one end only.
    fn run_one_sided(&self, carrier: Carrier, tls: [bool; 2]) {
        let right = pairs()[0];
        let configs =
            [listener_configs(&right), dialler_configs(&right)].map(|configs| configs.expect("good settings"));
        log::begin();
        let (near, far, port, address) = self.start(carrier, tls, configs, false);
        let what = (carrier, tls);
        match (carrier, tls) {
            (_, [true, _]) => log::wait_for(&["connection from 127.0.0.1:", "refused: tls: "], &what),
            (Carrier::Tcp, _) => log::wait_for(&["connection to 127.0.0.1:", " is gone: "], &what),
            // What is no request has no end that it could see.
            (Carrier::WebSocket, _) => {
                log::wait_for(&["connection from 127.0.0.1:", "refused: handshake not done"], &what)
            }
        }
        match (carrier, tls) {
            (Carrier::Tcp, [true, false]) => {
                log::wait_for(&[&format!("connection to 127.0.0.1:{port} is gone: ")], &what)
            }
            _ => log::wait_for(&["Backend connection failed (will retry)", &address], &what),
        }
        assert!(!log::has(&["connection established"]), "{what:?}");
        far.shutdown();
        near.shutdown();
    }
}

/// One test at a time: all of them log to one place.
fn with(near: Arc<dyn Adapter>, far: Arc<dyn Adapter>, run: impl FnOnce(&Runtimes)) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtimes = Runtimes { near, far };
    run(&runtimes);
    until("nothing is left on the runtimes", PATIENCE, || {
        let is_idle = runtimes.near.is_idle() && runtimes.far.is_idle();
        is_idle.then_some(()).ok_or_else(|| "a task".to_owned())
    });
}

/// Every other pair, so that each is run once; or what was asked for.
fn cases(seed: usize) -> Vec<Case> {
    let all = product();
    match std::env::var("RECEPTOR_LINK_MATRIX").as_deref() {
        Err(_) => pairs().into_iter().skip(seed % 2).step_by(2).collect(),
        Ok("all") => all,
        Ok(more) => {
            let more: usize = more.parse().expect("RECEPTOR_LINK_MATRIX is a number or `all`");
            let mut rng = Rng::from_seed([seed as u8; 32]);
            let more = (0..more).map(|_| all[rng.below(all.len() as u64) as usize]);
            pairs().into_iter().chain(more).collect()
        }
    }
}

fn matrix(near: Arc<dyn Adapter>, far: Arc<dyn Adapter>, seed: usize) {
    with(near, far, |runtimes| {
        for carrier in [Carrier::Tcp, Carrier::WebSocket] {
            runtimes.run_one_sided(carrier, [true, false]);
            runtimes.run_one_sided(carrier, [false, true]);
        }
        cases(seed).iter().for_each(|case| runtimes.run(case));
    });
}

#[test]
fn tokio_listens_and_smol_dials() {
    matrix(on_tokio::adapter(), on_smol::adapter(), 1);
}

#[test]
fn smol_listens_and_tokio_dials() {
    matrix(on_smol::adapter(), on_tokio::adapter(), 2);
}

/// What the tests above would pass with if they compared nothing.
#[test]
fn the_table_has_all_outcomes() {
    let cases = pairs();
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&oracle(case))).count();
    for (least, count) in [
        (50, count(|outcome| matches!(outcome, Outcome::NoStart(..)))),
        (
            50,
            count(|outcome| matches!(outcome, Outcome::Refused(End::Dialler, ..))),
        ),
        (
            50,
            count(|outcome| matches!(outcome, Outcome::Refused(End::Listener, ..))),
        ),
        (
            10,
            count(|outcome| matches!(outcome, Outcome::Closed(End::Listener, _))),
        ),
        (10, count(|outcome| matches!(outcome, Outcome::Closed(End::Dialler, _)))),
        (1, count(|outcome| *outcome == Outcome::EitherCloses)),
        (50, count(|outcome| matches!(outcome, Outcome::Up(_)))),
    ] {
        assert!(count >= least, "{count} of {}", cases.len());
    }
    assert_eq!(product().len(), 2 * 3 * 7 * 8 * 2 * 2 * 2 * 8 * 8 * 2);
}
