//! libFuzzer's entry: `HOOKGATE_FUZZ_TARGET` names the target.
#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(chosen)(data);
});

fn chosen() -> Target {
    let name = std::env::var("HOOKGATE_FUZZ_TARGET").expect("HOOKGATE_FUZZ_TARGET names a target");
    TARGETS.iter().find(|(target, _)| *target == name).expect("a target of that name").1
}
