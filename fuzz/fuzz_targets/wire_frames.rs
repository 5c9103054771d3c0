#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dichroic_fuzz_harness::wire_frames(data));
