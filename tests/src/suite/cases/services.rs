//! Services and their advertisements.

use receptor_core::config::BackendKind;
use serde_json::Value;

use crate::live::until;
use crate::suite::adapter::{Error, Node};
use crate::suite::{Bench, PATIENCE, Setup};

/// The tag `kind` of an advertisement that `node` knows.
fn advertised(node: &dyn Node, of: &str, service: &str) -> Option<Value> {
    let status = node.status().unwrap();
    let adverts = status["Advertisements"].as_array().cloned().unwrap_or_default();
    let found = adverts
        .into_iter()
        .find(|advert| advert["NodeID"] == of && advert["Service"] == service);
    found.map(|advert| advert["Tags"]["kind"].clone())
}

fn until_advertised(node: &dyn Node, service: &str, expected: Option<&str>) {
    let expected = expected.map(Value::from);
    until(&format!("{service} is {expected:?}"), PATIENCE, || {
        let known = advertised(node, "near", service);
        if known == expected {
            Ok(())
        } else {
            Err(format!("{known:?}"))
        }
    });
}

/// Advertised services are known to the other node with their tags until they are dropped, others never.
pub fn listed_while_they_exist(bench: &Bench) {
    let (near, far) = bench.pair();
    let tags = |kind: &str| Some(vec![("kind".to_owned(), kind.to_owned())]);
    let listener = near.listen("streams", tags("stream")).unwrap();
    let socket = near.packet("packets", tags("packet")).unwrap();
    let _quiet = near.listen("quiet", None).unwrap();
    until_advertised(&*far, "streams", Some("stream"));
    until_advertised(&*far, "packets", Some("packet"));
    assert_eq!(advertised(&*far, "near", "quiet"), None);
    drop(listener);
    until_advertised(&*far, "streams", None);
    drop(socket);
    until_advertised(&*far, "packets", None);
}

/// A name has one owner until the owner lets go; the empty name is a fresh one each time.
pub fn names_are_given_once(bench: &Bench) {
    let node = bench.near(&Setup::new("near").backend(BackendKind::LocalOnly));
    let listener = node.listen("name", None).unwrap();
    assert!(matches!(node.listen("name", None), Err(Error::Refused(_))));
    assert!(matches!(node.packet("name", None), Err(Error::Refused(_))));
    drop(listener);
    let _socket = node.packet("name", None).unwrap();
    assert!(matches!(node.listen("too long a name", None), Err(Error::Refused(_))));
    let (one, two) = (node.listen("", None).unwrap(), node.listen("", None).unwrap());
    assert_ne!(one.service(), two.service());
}
