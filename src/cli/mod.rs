//! The command line: which command is meant, and what it is given.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

pub mod check;
pub mod completions;
mod control;
pub mod demo;
mod environment;
pub mod forget;
pub mod healthcheck;
pub mod inbox;
pub mod inject;
pub mod keys;
pub mod ops;
pub mod providers;
pub mod refused;
pub mod report;
pub mod run;
pub mod schema;
pub mod send;
pub mod sign;
pub mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Problems;
use crate::config::flags::{Given, RunArgs};
use crate::config::secret::Secret;
use crate::telemetry::log::is_active;

/// What `--version` prints.
const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("HOOKGATE_REVISION"),
    ", pingora ",
    env!("HOOKGATE_PINGORA"),
    ", TLS by rustls, ",
    env!("HOOKGATE_RUSTC"),
    ")"
);

/// The webhook gate: lets only genuine, fresh, first-seen webhooks through to your application.
#[derive(Debug, Parser)]
#[command(name = "hookgate", version = VERSION, max_term_width = 120)]
#[command(
    after_help = "Without a command, hookgate runs: `hookgate --listen …` is `hookgate run --listen …`.\n\
    All flags of the gate: `hookgate run --help`. To see it at work without any file: `hookgate demo`.\n\
    Exit codes: 0 fine, 1 failed at run time, 2 bad flags, 78 invalid configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve (the default)
    Run(Box<RunArgs>),
    /// Load everything as `run` does and print the effective configuration
    Check(Box<check::CheckArgs>),
    /// Show the gate at work on real signed traffic, in one process
    Demo(demo::DemoArgs),
    /// Put the gate into Kubernetes manifests
    Inject(Box<inject::InjectArgs>),
    /// List the presets, or show one
    Providers(providers::ProvidersArgs),
    /// Print the headers that a provider would send for a body
    Sign(sign::SignArgs),
    /// Sign and deliver, also in the ways that a gate must refuse
    Send(send::SendArgs),
    /// Judge a captured raw HTTP request offline
    Verify(Box<verify::VerifyArgs>),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Ask a running gate how it is (for exec probes in an image without a shell)
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Let a running gate deliver an event again that it has delivered before
    Forget(forget::ForgetArgs),
    /// What a running gate has stored, and what is to be done with it
    Inbox(inbox::InboxArgs),
    /// Which keys a running gate has, from where, and how old they are
    Keys(keys::KeysArgs),
    /// What a running gate has refused and kept, and what it would come to now
    Refused(refused::RefusedArgs),
    /// Tell what a running gate has refused or would have, and whether a route can enforce
    Report(report::ReportArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
}

/// The command line as it is parsed and shown. The environment twins follow one rule, so
/// the help states the rule instead of each twin.
pub fn command() -> clap::Command {
    let quiet = |command: clap::Command| {
        command.mut_args(|arg| arg.hide_env(true)).after_help(
            "Every flag has an environment twin: --max-body is HOOKGATE_MAX_BODY; lists are separated by commas.\n\
             A flag wins over the environment, that over the file, that over the provider's preset.",
        )
    };
    Cli::command()
        .mut_subcommand("run", quiet)
        .mut_subcommand("check", quiet)
        .mut_subcommand("inject", inject::in_help)
}

/// Parses the command line and runs the command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let variables = environment::ours();
    if args.len() < 2 && variables.is_empty() {
        eprintln!("{FIRST_STEPS}");
        return ExitCode::from(run::INVALID_CONFIGURATION);
    }
    let args = with_default_command(args);
    let early = args.get(1).filter(|command| *command == "run").map(|_| run::Early::new());
    let known = environment::adapted(command(), &variables);
    let matches = match known.try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return refused(&error, &args, &variables),
    };
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let faults = Problems(environment::faults(&variables));
    let given = |args: RunArgs| Given { args, secret: trial_secret(), pod: None };
    match command {
        Command::Run(_) | Command::Inject(_) if !faults.0.is_empty() => {
            eprintln!("{faults}");
            ExitCode::from(run::INVALID_CONFIGURATION)
        }
        Command::Check(args) if !faults.0.is_empty() => check::refuse(faults, args.output),
        Command::Run(args) => run::run(&given(*args), early.unwrap_or_else(run::Early::new)),
        Command::Check(args) => check::check(&given(args.run), args.output),
        Command::Demo(args) => demo::demo(&args),
        Command::Inject(args) => inject::inject(&args, matches.subcommand().expect("it was parsed").1),
        Command::Providers(args) => providers::providers(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Send(args) => send::send(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Schema => schema::schema(),
        Command::Healthcheck(args) => healthcheck::healthcheck(&args),
        Command::Forget(args) => forget::forget(&args),
        Command::Inbox(args) => inbox::inbox(&args),
        Command::Keys(args) => keys::keys(&args),
        Command::Refused(args) => refused::refused(&args),
        Command::Report(args) => report::report(&args),
        Command::Completions(args) => completions::completions(&args),
    }
}

/// For somebody who has nothing yet.
const FIRST_STEPS: &str =
    "hookgate has nothing to go by: no secret, no file, no flag, no HOOKGATE_… variable.
  see it at work:     hookgate demo
  one provider:       hookgate --provider github --secret-file FILE --upstream http://127.0.0.1:8080
  several routes:     hookgate --config hookgate.yaml     (hookgate schema describes the file)
  try it without TLS: add --insecure-allow-http
All flags: hookgate run --help. All commands: hookgate --help. All providers: hookgate providers.";

/// What clap says of the command line, and what it does not know: where a value came from, and that
/// a command stands first.
fn refused(error: &clap::Error, args: &[OsString], variables: &environment::Variables) -> ExitCode {
    _ = error.print();
    let said = error.to_string();
    let remedies = [
        ("invalid socket address syntax", "tip: write an address and a port, such as 0.0.0.0:17080"),
        ("invalid digit found in string", "tip: write a whole number, such as 4, or leave the flag out"),
    ];
    for (_, remedy) in remedies.iter().filter(|(what, _)| said.contains(what)) {
        eprintln!("{remedy}");
    }
    if let Some(ContextValue::String(what)) = error.get(ContextKind::InvalidArg) {
        if error.kind() == ErrorKind::UnknownArgument && Cli::command().find_subcommand(what).is_some() {
            eprintln!("tip: the command comes first: hookgate {what} …");
        }
        if let Some(name) = environment::origin(what, args, variables) {
            eprintln!("tip: the value stands in the variable {name}");
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints a line. A reader that has seen enough, such as `head`, is no failure.
fn print(line: impl std::fmt::Display) {
    use std::io::Write;
    _ = writeln!(std::io::stdout(), "{line}");
}

/// What strangers wrote, for a terminal: nothing in it acts on that, or makes a line of its own.
fn shown(text: &str) -> String {
    use std::fmt::Write;
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        _ = if is_active(c) { write!(shown, "\\u{:04x}", u32::from(c)) } else { shown.write_char(c) };
    }
    shown
}

/// `hookgate --listen …` means `hookgate run --listen …`.
fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let first = args.get(1).and_then(|arg| arg.to_str());
    let is_flag = first.is_none_or(|arg| arg.starts_with('-'));
    if is_flag && !matches!(first, Some("-h" | "--help" | "-V" | "--version")) {
        args.insert(1.min(args.len()), "run".into());
    }
    args
}

#[expect(clippy::disallowed_methods, reason = "HOOKGATE_SECRET has no flag, so clap does not read it")]
fn trial_secret() -> Option<Secret> {
    use std::os::unix::ffi::OsStringExt;
    let value = std::env::var_os("HOOKGATE_SECRET").filter(|v| !v.is_empty())?;
    Some(Secret::from_bytes(value.into_vec()).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_line_and_acts_on_nothing() {
        assert_eq!(shown("200 Ünïcode \\ \"a\"=b"), "200 Ünïcode \\ \"a\"=b");
        assert_eq!(
            shown("a\r\n200 ok\u{1b}[2J\u{9b}\u{202e}"),
            "a\\u000d\\u000a200 ok\\u001b[2J\\u009b\\u202e"
        );
        let json = serde_json::json!({ "id": "\u{9b}\u{7f}\n\"" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown(&json.to_string())).unwrap(), json);
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_has_its_environment_twin() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|a| a.get_id() != "help") {
            let long = arg.get_long().unwrap();
            let twin = format!("HOOKGATE_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|e| e.to_str()), Some(twin.as_str()), "--{long}");
            assert!(arg.get_help_heading().is_some(), "--{long} stands under a heading");
        }
    }

    #[test]
    fn run_is_the_default_command() {
        let parse = |args: &[&str]| {
            let args = std::iter::once("hookgate").chain(args.iter().copied()).map(OsString::from);
            Cli::try_parse_from(with_default_command(args.collect())).unwrap().command
        };
        assert!(matches!(parse(&[]), Command::Run(_)));
        assert!(matches!(parse(&["--listen", "127.0.0.1:0"]), Command::Run(_)));
        assert!(matches!(parse(&["schema"]), Command::Schema));
        let Command::Run(args) = parse(&["--insecure-allow-http", "--allow-ip", "127.0.0.0/8,::1"]) else {
            panic!("run is the default")
        };
        assert_eq!(
            (args.checks.insecure_allow_http.unwrap().value, args.route.allow_ips.unwrap().len()),
            (true, 2)
        );
    }
}
