//! Parses the command line, runs the command, and returns its exit code.

use std::process::ExitCode;

#[expect(clippy::disallowed_methods, reason = "the one reader of the command line")]
fn main() -> ExitCode {
    hookgate::cli::main(std::env::args_os())
}
