//! See `receptor_fuzz::firewall`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| receptor_fuzz::firewall(input));
