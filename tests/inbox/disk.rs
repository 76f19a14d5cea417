//! A disk that fails, has no room left, tears what is written, and forgets what no sync has confirmed when the
//! power goes: `disk.c`, put in front of the C library of a process that writes an inbox.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::fixture::Folder;
use crate::kills::{Told, child, nothing_is_lost};
use crate::rng::{Rng, given};

/// The library, or nothing where no C compiler is.
pub fn library() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("hookgate-disk-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inbox/disk.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).status();
        match built {
            Ok(status) => {
                assert!(status.success(), "disk.c can be compiled");
                Some(path)
            }
            Err(_) => None,
        }
    });
    built.as_ref()
}

/// Runs the process on such a disk until the disk or its work is at an end.
fn run(folder: &Folder, told: &mut Told, first: u64, fault: &str, seed: u64) {
    let mut command = child(&folder.0, first);
    command.env("LD_PRELOAD", library().unwrap());
    command.env("HOOKGATE_DISK", fault).env("HOOKGATE_DISK_SEED", seed.to_string());
    let mut process = command.spawn().unwrap();
    let mut after = 3000;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        told.hear(&line);
        after -= 1;
        if after == 0 {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
}

#[test]
fn what_was_acknowledged_survives_every_fault_of_the_disk() {
    if library().is_none() {
        eprintln!("not tried: there is no C compiler");
        return;
    }
    let runs = given("HOOKGATE_TEST_RUNS").unwrap_or(30);
    let seed = given("HOOKGATE_TEST_SEED").unwrap_or(15);
    let mut rng = Rng::new(seed);
    let mut stored = 0;
    for fault in ["cut", "torn", "eio", "full", "syncfail"] {
        let folder = Folder::new();
        let mut told = Told::default();
        for run_number in 0..runs.div_ceil(5) {
            let fault = format!("{fault} {}", rng.within(1..900));
            run(&folder, &mut told, run_number * 4000, &fault, rng.next());
            nothing_is_lost(&folder, &told, &format!("seed {seed}, run {run_number}: {fault}"));
        }
        stored += told.stored.len() as u64;
    }
    assert!(stored > runs * 10, "much was stored: {stored}");
}
