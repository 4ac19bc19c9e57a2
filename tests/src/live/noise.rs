//! Bytes to send, and to recognize.

/// Bytes without a period that a fault could hide in; others for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    // Whatever the seed, not the zero in which the generator would stay.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * seed + 1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares without printing megabytes.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8]) {
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(
        (got.len(), differs),
        (expected.len(), None),
        "length and first difference"
    );
}
