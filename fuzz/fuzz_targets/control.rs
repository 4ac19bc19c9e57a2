//! See `receptor_fuzz::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::control(input));
