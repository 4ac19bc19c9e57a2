//! See `receptor_fuzz::secure`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::secure(input));
