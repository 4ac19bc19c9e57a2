//! See `receptor_fuzz::yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::yaml(input));
