//! See `receptor_fuzz::extended`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::extended(input));
