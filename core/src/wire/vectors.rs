//! Reads the golden vectors of `tests/vectors`.

use alloc::vec::Vec;

/// The bytes of a vector: pairs of hex digits, white space between them, comments from `#` to the end of the line.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hex digit"))
        .collect();
    assert!(digits.len().is_multiple_of(2), "odd number of hex digits");
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The bytes of the named vector.
macro_rules! vector {
    ($name:literal) => {
        $crate::wire::vectors::bytes(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/",
            $name,
            ".hex"
        )))
    };
}
pub(crate) use vector;
