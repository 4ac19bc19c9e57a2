//! See `receptor_fuzz::link`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::link(input));
