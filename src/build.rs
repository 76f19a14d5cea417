//! Embeds the provider catalogue and what `--version` tells.

#![expect(clippy::disallowed_methods, reason = "a build script is told by the environment")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("presets.rs"), presets(&root.join("conf/providers"))).expect("OUT_DIR is writable");

    println!("cargo::rerun-if-changed=conf/providers");
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=HOOKGATE_REVISION");
    println!("cargo::rustc-env=HOOKGATE_PINGORA={}", pingora(&root.join("Cargo.lock")));
    println!(
        "cargo::rustc-env=HOOKGATE_RUSTC={}",
        first_line(&env::var("RUSTC").expect("set by cargo"), &["--version"])
    );
    println!("cargo::rustc-env=HOOKGATE_REVISION={}", revision());
}

/// The revision from the environment of a release build, else from git, else unknown.
fn revision() -> String {
    env::var("HOOKGATE_REVISION").unwrap_or_else(|_| first_line("git", &["rev-parse", "--short=12", "HEAD"]))
}

/// `&[("github", "…yaml…"), …]`, sorted by name.
fn presets(folder: &Path) -> String {
    let files = fs::read_dir(folder).expect("conf/providers exists");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut list = String::from("&[\n");
    for path in files {
        let name = path.file_stem().expect("a file name").to_str().expect("an ASCII name");
        writeln!(list, "    ({name:?}, include_str!({:?})),", path.display().to_string())
            .expect("a string takes all");
    }
    list + "]\n"
}

fn pingora(lock: &Path) -> String {
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let version =
        lock.split("name = \"pingora\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

fn first_line(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|o| o.status.success());
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
