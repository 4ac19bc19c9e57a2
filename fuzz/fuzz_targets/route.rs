//! See `receptor_fuzz::route`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::route(input));
