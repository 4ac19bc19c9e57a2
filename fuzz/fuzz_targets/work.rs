//! See `receptor_fuzz::work`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::work(input));
