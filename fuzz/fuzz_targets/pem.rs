//! See `receptor_fuzz::pem`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::pem(input));
