//! The list of blobs at the end of a pack.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_engine_fuzz::check("pack_header", data));
