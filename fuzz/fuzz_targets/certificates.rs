//! See `receptor_fuzz::certificates`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::certificates(input));
