//! See `receptor_fuzz::quic`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::quic(input));
