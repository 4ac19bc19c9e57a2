//! Datagrams between services.

use receptor_core::config::BackendKind;

use crate::suite::adapter::Error;
use crate::suite::{Bench, PATIENCE, Setup};

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
