#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| corewal_fuzz_targets::manifest(data));
