//! Segments of the local state of fingerprints, when their seal is open.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_engine_fuzz::check("prints", data));
