//! See `receptor_fuzz::unreachable`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::unreachable(input));
