//! The command line of `run`: its headings, each a file beside this one, and what came with them.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::any::TypeId;
use std::path::PathBuf;

use clap::{Arg, Args, ValueHint};

use super::application::Application;
use super::checks::Checks;
use super::inbox::State;
use super::limits::Limits;
use super::listeners::Listeners;
use super::located::Located;
use super::pod::PodFiles;
use super::process::Process;
use super::route::words::{RouteSecret, RouteWords};
use super::secret::Secret;

/// All are optional here: what is absent comes from the file or the defaults.
#[derive(Clone, Debug, Default, Args)]
#[command(mut_args(in_common))]
pub struct RunArgs {
    /// Configuration file (YAML); needed for more than one route. Read again at each reload: no pipe
    #[arg(short, long, value_name = "PATH", help_heading = "General")]
    pub config: Option<Located<PathBuf>>,

    #[command(flatten)]
    pub listeners: Listeners,

    #[command(flatten)]
    pub application: Application,

    #[command(flatten)]
    pub route: RouteWords,

    #[command(flatten)]
    pub checks: Checks,

    #[command(flatten)]
    pub limits: Limits,

    #[command(flatten)]
    pub state: State,

    #[command(flatten)]
    pub process: Process,
}

/// Every flag has an environment twin, and a shell completes the paths of files.
fn in_common(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let twin = format!("HOOKGATE_{}", long.replace('-', "_").to_uppercase());
    let held = arg.get_value_parser().type_id();
    let is_path = held == TypeId::of::<Located<PathBuf>>() || held == TypeId::of::<RouteSecret>();
    if is_path { arg.env(twin).value_hint(ValueHint::AnyPath) } else { arg.env(twin) }
}

/// What was given outside the file: flags, their environment twins, and the trial secret.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub args: RunArgs,
    /// `HOOKGATE_SECRET`
    pub secret: Option<Secret>,
    /// The gate's files, if it will run elsewhere: those here do not count then.
    pub pod: Option<PodFiles>,
}

impl Given {
    /// Flags alone, as the demo and tests give them.
    pub fn flags(args: RunArgs) -> Self {
        Given { args, ..Given::default() }
    }
}
