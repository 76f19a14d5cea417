//! The first page is short, and what stands there to be pasted works, with ports and files of this run's own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookgate::config::provider::{PRESETS, preset};
use hookgate::config::raw::Evidence;

use super::{README, between, read};

/// What a newcomer reads in one sitting; the rest has a page of its own.
const README_AT_MOST: usize = 14 * 1024;

#[test]
fn the_first_page_is_short() {
    let bytes = read(README).len();
    assert!(bytes <= README_AT_MOST, "{bytes} bytes: what does a newcomer not need?");
}

#[test]
fn the_first_page_counts_what_is_unconfirmed() {
    let unconfirmed =
        PRESETS.iter().filter(|(name, _)| preset(name).unwrap().evidence == Evidence::Unconfirmed).count();
    let told = format!("{unconfirmed} of the {} are", PRESETS.len());
    assert!(read(README).contains(&told), "{README} says: {told}");
}

#[test]
fn the_first_five_minutes_work_as_pasted() {
    let Some(folder) = tools_and_a_folder("five-minutes", &["python3", "curl", "timeout"]) else { return };
    let pasted = code(&between(&read(README), "five-minutes"), "sh");
    // Ports and files of this run's own.
    let [app, gate, ops] = free_ports();
    let pasted = pasted.replace("17080", &gate).replace("/tmp/", &format!("{}/", folder.display()));
    let told = bash(&pasted, Path::new("."), |command| {
        command.env("PORT", &app).env("HOOKGATE_UPSTREAM", format!("http://127.0.0.1:{app}"));
        command.env("HOOKGATE_OPS_LISTEN", format!("127.0.0.1:{ops}"));
    });
    let mut rest = told.as_str();
    for said in
        ["200 OK", "thank you", "200 thank you", "200 Already processed", "401 Unauthorized", "it enforces"]
    {
        let found = rest.find(said).unwrap_or_else(|| panic!("no {said:?} in what is left of\n{told}"));
        rest = &rest[found + said.len()..];
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_file_with_two_routes_is_valid_as_pasted() {
    let Some(folder) = tools_and_a_folder("two-routes", &["timeout"]) else { return };
    let section = between(&read(README), "two-routes");
    fs::write(folder.join("hookgate.yaml"), code(&section, "yaml")).unwrap();
    let pasted = code(&section, "sh");
    let pasted: Vec<_> = pasted.lines().filter(|line| !line.starts_with("hookgate run")).collect();
    let told = bash(&pasted.join("\n"), &folder, |_| ());
    assert!(told.contains("ok: the configuration is valid"), "{told}");
    fs::remove_dir_all(folder).unwrap();
}

/// The first block of code in that language.
fn code(text: &str, language: &str) -> String {
    let block = text.split_once(&format!("```{language}\n")).unwrap().1;
    block.split_once("```").unwrap().0.to_owned()
}

/// Runs what was pasted, for a minute at most, and returns what appears. What it started ends with it.
fn bash(pasted: &str, folder: &Path, prepare: impl FnOnce(&mut Command)) -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_hookgate")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", pasted]).current_dir(folder).env("PATH", path);
    prepare(&mut command);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// A new folder for this run, or none if a tool is missing.
fn tools_and_a_folder(name: &str, tools: &[&str]) -> Option<PathBuf> {
    for tool in tools {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("skipped: {tool} is missing");
            return None;
        }
    }
    let folder = std::env::temp_dir().join(format!("hookgate-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

/// Ports that nobody listens on, all at once so that they differ.
fn free_ports<const N: usize>() -> [String; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port().to_string())
}
