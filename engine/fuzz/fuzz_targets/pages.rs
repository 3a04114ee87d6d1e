//! The first bytes of a file on a volume.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_engine_fuzz::check("pages", data));
