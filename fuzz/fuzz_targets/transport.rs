//! See `receptor_fuzz::transport`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::transport(input));
