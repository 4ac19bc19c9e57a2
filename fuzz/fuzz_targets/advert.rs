//! See `receptor_fuzz::advert`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::advert(input));
