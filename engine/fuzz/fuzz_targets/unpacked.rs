//! Files that are sealed whole: encryption and compression.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ark_engine_fuzz::check("unpacked", data));
