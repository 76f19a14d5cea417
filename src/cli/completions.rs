//! `hookgate completions SHELL`

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "hookgate", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
