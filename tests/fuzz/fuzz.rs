//! libFuzzer's entry: `HOOKGATE_FUZZ_TARGET` names the target.
#![no_main]

mod targets;

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    TARGET.get_or_init(targets::chosen)(data);
});
