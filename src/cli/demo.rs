//! `hookgate demo`
use clap::Args;
use std::process::ExitCode;
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave it running and print commands to try
    #[arg(long)]
    keep: bool,
}
pub fn demo(_args: &DemoArgs) -> ExitCode {
    ExitCode::SUCCESS
}
