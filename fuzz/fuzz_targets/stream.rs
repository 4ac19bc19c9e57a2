//! See `receptor_fuzz::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::stream(input));
