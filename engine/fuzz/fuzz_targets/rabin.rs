//! The search for cuts, beside a naive one.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_engine_fuzz::check("rabin", data));
