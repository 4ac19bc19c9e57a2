//! See `receptor_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::config(input));
