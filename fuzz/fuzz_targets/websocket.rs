//! See `receptor_fuzz::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::websocket(input));
