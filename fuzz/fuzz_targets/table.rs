//! See `receptor_fuzz::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::table(input));
