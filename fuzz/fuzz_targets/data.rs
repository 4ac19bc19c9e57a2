//! See `receptor_fuzz::data`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::data(input));
