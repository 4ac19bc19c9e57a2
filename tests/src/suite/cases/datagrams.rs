//! Datagrams between services.

use receptor_core::config::BackendKind;
use receptor_core::firewall::Rules;

use crate::live::free_port;
use crate::suite::adapter::Error;
use crate::suite::{Bench, PATIENCE, Setup, until_reachable};

/// What arrives says where it comes from; what does not is reported to its sender.
pub fn delivered_or_reported(bench: &Bench) {
    let (near, far) = bench.pair();
    let here = near.packet("", None).unwrap();
    let there = far.packet("there", None).unwrap();
    assert_eq!(there.service().as_bytes(), b"there");
    here.send_to(b"question", "far", "there").unwrap();
    let got = there.recv_from(PATIENCE).unwrap();
    assert_eq!(
        (&got.data[..], got.from.as_str(), got.from_service),
        (&b"question"[..], "near", here.service())
    );
    here.send_to(b"lost", "far", "nowhere").unwrap();
    let error = here.recv_from(PATIENCE).unwrap_err();
    let Error::Unreachable { to, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(to.as_str(), "far");
    here.send_to(b"", "far", "there").unwrap();
    assert_eq!(there.recv_from(PATIENCE).unwrap().data, b"");
}

/// What a firewall rule rejects is reported to its sender; what it drops is not, and what it accepts arrives.
pub fn rejected_by_a_firewall(bench: &Bench) {
    let rules = [
        [("action", Some("reject")), ("toservice", Some("/rej.*/"))],
        [("action", Some("drop")), ("toservice", Some("dropped"))],
    ];
    let port = free_port();
    let near = bench.near(&Setup::new("near").listen(port));
    let mut far = Setup::new("far").peer(port);
    far.config.firewall = Rules::from_fields(rules).unwrap();
    let far = bench.far(&far);
    until_reachable(&*near, "far");
    let here = near.packet("", None).unwrap();
    let there = ["dropped", "rejected", "accepted"].map(|service| far.packet(service, None).unwrap());
    here.send_to(b"", "far", "dropped").unwrap();
    here.send_to(b"", "far", "rejected").unwrap();
    let error = here.recv_from(PATIENCE).unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { to, problem } if to.as_str() == "far" && problem == "blocked by firewall"),
        "{error:?}"
    );
    here.send_to(b"yes", "far", "accepted").unwrap();
    assert_eq!(there[2].recv_from(PATIENCE).unwrap().data, b"yes");
    let error = near.dial("far", "rejected").unwrap_err();
    assert!(
        matches!(&error, Error::Refused(why) if why.contains("blocked by firewall")),
        "{error:?}"
    );
}

/// Rules of an embedding program count from the moment they are given.
pub fn rules_are_replaced_while_the_node_runs(bench: &Bench) {
    let node = bench.near(&Setup::new("near").backend(BackendKind::LocalOnly));
    let here = node.packet("here", None).unwrap();
    let there = node.packet("there", None).unwrap();
    let reject = [[("action", Some("reject")), ("toservice", Some("there"))]];
    for rules in [Rules::default(), Rules::from_fields(reject).unwrap(), Rules::default()] {
        let is_empty = rules == Rules::default();
        node.set_firewall(rules).unwrap();
        here.send_to(b"x", "near", "there").unwrap();
        if is_empty {
            assert_eq!(there.recv_from(PATIENCE).unwrap().data, b"x");
        } else {
            let error = here.recv_from(PATIENCE).unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        }
    }
}

/// A socket that nobody reads keeps a bounded number of datagrams, counts the others, and still works.
pub fn a_full_socket_loses_and_goes_on(bench: &Bench) {
    const SENT: u64 = 1000;
    let node = bench.near(&Setup::new("near").backend(BackendKind::LocalOnly));
    let here = node.packet("here", None).unwrap();
    let there = node.packet("there", None).unwrap();
    for number in 0..SENT {
        here.send_to(&number.to_be_bytes(), "near", "there").unwrap();
    }
    assert!(there.lost() > 0);
    let (mut received, mut last) = (0, None);
    while received + there.lost() < SENT {
        let data = there.recv_from(PATIENCE).unwrap().data;
        let number = u64::from_be_bytes(data.try_into().expect("all are as long"));
        assert!(last < Some(number), "{number} came after {last:?}");
        last = Some(number);
        received += 1;
    }
    here.send_to(b"fresh", "near", "there").unwrap();
    assert_eq!(there.recv_from(PATIENCE).unwrap().data, b"fresh");
}
