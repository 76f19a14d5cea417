//! `hookgate healthcheck`: asks a probe endpoint and exits 0 or 1, for exec probes in an
//! image without a shell.

use std::process::ExitCode;

use clap::Args;

use super::ops::OpsArgs;
use super::shown;

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Which endpoint of the ops listener: /livez, /startupz or /readyz
    #[arg(default_value = "/readyz", value_name = "PATH")]
    path: String,

    #[command(flatten)]
    ops: OpsArgs,
}

pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    match args.ops.ask(&args.path) {
        Ok((200, _)) => ExitCode::SUCCESS,
        Ok((status, body)) => {
            let body: Vec<_> = body.trim().lines().map(shown).collect();
            eprintln!("{} answered {status}: {}", args.path, body.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{} cannot be asked: {error}", args.ops.ops_listen);
            ExitCode::FAILURE
        }
    }
}
