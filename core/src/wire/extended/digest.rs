//! The digest by which neighbours find out that their databases differ.

use highway::{HighwayHash, HighwayHasher, Key};

/// Exclusive or of one hash per entry: order does not matter, and an entry is removed by toggling it once more.
///
/// An entry is hashed (HighwayHash-64, zero key) in the form given in `docs/protocol-extended.md`. The digest finds accidents,
/// not attacks: members of a mesh could forge it, but they could as well lie about the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest(pub u64);

impl Digest {
    /// Adds or removes a record. Only the high 32 bits of the sequence count: a refresh does not change the digest.
    pub fn toggle_record(&mut self, node: &str, epoch: u64, sequence: u64) {
        let mut hasher = start(1, node);
        hasher.append(&epoch.to_le_bytes());
        hasher.append(&((sequence >> 32) as u32).to_le_bytes());
        self.0 ^= hasher.finalize64();
    }

    /// Adds or removes an advertisement; tombstones do not count. `stamp` is the time in nanoseconds since the Unix epoch, held
    /// to 64 bits, of what one of our own nodes advertises, and 0 for classic nodes, whose every refresh has a new time.
    pub fn toggle_advert(&mut self, node: &str, service: &str, stamp: u64) {
        let mut hasher = start(2, node);
        append_text(&mut hasher, service);
        hasher.append(&stamp.to_le_bytes());
        self.0 ^= hasher.finalize64();
    }
}

fn start(tag: u8, node: &str) -> HighwayHasher {
    let mut hasher = HighwayHasher::new(Key([0; 4]));
    hasher.append(&[tag]);
    append_text(&mut hasher, node);
    hasher
}

fn append_text(hasher: &mut HighwayHasher, text: &str) {
    // The length keeps ("ab", "c") and ("a", "bc") apart. Names on the wire are far below 4 GiB.
    hasher.append(&(text.len() as u32).to_le_bytes());
    hasher.append(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toggling_twice_removes_and_order_does_not_matter() {
        let mut a = Digest::default();
        a.toggle_record("foo", 1, 1 << 32);
        a.toggle_advert("foo", "control", 7);
        let mut b = Digest::default();
        b.toggle_advert("foo", "control", 7);
        b.toggle_record("bar", 1, 1 << 32);
        b.toggle_record("foo", 1, (1 << 32) + 5);
        assert_ne!(a, b);
        b.toggle_record("bar", 1, 1 << 32);
        assert_eq!(a, b);
    }

    /// The examples of `docs/protocol-extended.md` §4.6, also hashed in one piece.
    #[test]
    fn published_examples() {
        let hash = |bytes: &[u8]| HighwayHasher::new(Key([0; 4])).hash64(bytes);
        let mut digest = Digest::default();
        digest.toggle_record("foo", 28_521_267_211_259_375, 0x4_0000_0007);
        let record = hash(b"\x01\x03\0\0\0foo\xef\xcd\xab\x00\xf1\x53\x65\x00\x04\0\0\0");
        assert_eq!(digest, Digest(record));
        assert_eq!(record, 0x85b9_b1f9_b4e2_b8cc);
        digest.toggle_advert("bar", "svc", 0);
        let advert = hash(b"\x02\x03\0\0\0bar\x03\0\0\0svc\0\0\0\0\0\0\0\0");
        assert_eq!(digest, Digest(record ^ advert));
        assert_eq!(record ^ advert, 0x0498_b9e6_b530_80af);
    }

    #[test]
    fn names_do_not_run_into_each_other() {
        let mut a = Digest::default();
        a.toggle_advert("ab", "c", 0);
        let mut b = Digest::default();
        b.toggle_advert("a", "bc", 0);
        assert_ne!(a, b);
    }
}
