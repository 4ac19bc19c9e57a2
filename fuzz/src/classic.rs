//! Classic messages: what parses is written in a form that means the same.

use receptor_core::wire::classic::{Advertisement, RoutingUpdate, Unreachable};

/// Routing updates, kind byte included.
pub fn route(frame: &[u8]) {
    if let Ok(update) = RoutingUpdate::parse(frame) {
        assert_eq!(RoutingUpdate::parse(&update.emit()), Ok(update));
    }
}

/// Service advertisements, kind byte included.
pub fn advert(frame: &[u8]) {
    if let Ok(message) = Advertisement::parse(frame) {
        let again = Advertisement::parse(&message.emit()).expect("an emitted advertisement parses");
        assert_eq!(again.time.as_str(), message.time.as_str());
        assert_eq!(again, message);
    }
}

/// Payloads of unreachable messages.
pub fn unreachable(payload: &[u8]) {
    if let Ok(message) = Unreachable::parse(payload) {
        assert_eq!(Unreachable::parse(&message.emit()), Ok(message));
    }
}
