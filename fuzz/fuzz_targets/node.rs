//! See `receptor_fuzz::node`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::node(input));
