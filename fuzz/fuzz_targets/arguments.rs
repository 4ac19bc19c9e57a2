//! See `receptor_fuzz::arguments`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::arguments(input));
