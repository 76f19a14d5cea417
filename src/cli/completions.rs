//! `hookgate completions SHELL`

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

pub fn completions(args: &CompletionsArgs) -> ExitCode {
    clap_complete::generate(args.shell, &mut super::command(), "hookgate", &mut std::io::stdout());
    ExitCode::SUCCESS
}
