//! The command line: one field per flag, each with its value type; no logic.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

pub mod check;
pub mod completions;
pub mod demo;
pub mod forget;
pub mod healthcheck;
pub mod ops;
pub mod providers;
pub mod report;
pub mod run;
pub mod schema;
pub mod send;
pub mod sign;
pub mod verify;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Origin;
use crate::config::raw::{LogFormat, LogLevel, Mode, OnStoreError, ProxyProtocol, RealIpHeader};
use crate::config::secret::Secret;
use crate::config::units::{ByteSize, Cidr, HostName, Rate, Senders, Span, UpstreamUrl};
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
    /// Tell what a running gate has refused or would have, and whether a route can enforce
    Report(report::ReportArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
}

/// The flags of `run`. All are optional here: what is absent comes from the file or the defaults.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Configuration file (YAML); needed for more than one route. Read again at each reload: no pipe
    #[arg(short, long, value_name = "PATH", env = "HOOKGATE_CONFIG", help_heading = "General")]
    pub config: Option<PathBuf>,

    /// Address for plain HTTP; repeatable [default: 0.0.0.0:17080]
    #[arg(
        long,
        value_name = "ADDR",
        env = "HOOKGATE_LISTEN",
        value_delimiter = ',',
        help_heading = "Listeners"
    )]
    pub listen: Option<Vec<SocketAddr>>,

    /// Address for HTTPS; repeatable
    #[arg(
        long,
        value_name = "ADDR",
        env = "HOOKGATE_LISTEN_TLS",
        value_delimiter = ',',
        help_heading = "Listeners"
    )]
    pub listen_tls: Option<Vec<SocketAddr>>,

    /// Certificate chain (PEM), leaf first; reloaded on change
    #[arg(long, value_name = "PATH", env = "HOOKGATE_TLS_CERT_FILE", help_heading = "Listeners")]
    pub tls_cert_file: Option<PathBuf>,

    /// Private key (PEM); reloaded on change
    #[arg(long, value_name = "PATH", env = "HOOKGATE_TLS_KEY_FILE", help_heading = "Listeners")]
    pub tls_key_file: Option<PathBuf>,

    /// Demand a client certificate signed by one of these authorities (PEM); the plain listener asks for none, so
    /// name it in --listen or close it (listen: [] in the file)
    #[arg(long, value_name = "PATH", env = "HOOKGATE_TLS_CLIENT_CA_FILE", help_heading = "Listeners")]
    pub tls_client_ca_file: Option<PathBuf>,

    /// Address for health and metrics [default: 0.0.0.0:17090]
    #[arg(long, value_name = "ADDR", env = "HOOKGATE_OPS_LISTEN", help_heading = "Listeners")]
    pub ops_listen: Option<SocketAddr>,

    /// Host name under which health and metrics may be asked, beside addresses and localhost; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "HOOKGATE_OPS_HOST",
        value_delimiter = ',',
        help_heading = "Listeners"
    )]
    pub ops_host: Option<Vec<HostName>>,

    /// Where the application listens: http://HOST:PORT or unix:/PATH [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", env = "HOOKGATE_UPSTREAM", help_heading = "Application")]
    pub upstream: Option<UpstreamUrl>,

    /// How long the application may take to answer [default: 10s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_UPSTREAM_TIMEOUT", help_heading = "Application")]
    pub upstream_timeout: Option<Span>,

    /// How long to wait for an application that is not listening yet [default: 1s]
    #[arg(
        long,
        value_name = "DURATION",
        env = "HOOKGATE_UPSTREAM_CONNECT_TIMEOUT",
        help_heading = "Application"
    )]
    pub upstream_connect_timeout: Option<Span>,

    /// Who sends: the name of a preset [default: scalekit]
    #[arg(long, value_name = "NAME", env = "HOOKGATE_PROVIDER", help_heading = "The route")]
    pub provider: Option<String>,

    /// Exact raw path; a trailing `*` makes a prefix [default: /webhooks]
    #[arg(long, value_name = "PATH", env = "HOOKGATE_PATH", help_heading = "The route")]
    pub path: Option<String>,

    /// The URL that the provider was given, if it is one that signs it
    #[arg(long, value_name = "URL", env = "HOOKGATE_PUBLIC_URL", help_heading = "The route")]
    pub public_url: Option<String>,

    /// File with a signing secret; repeatable, newest first; its name is the key's id.
    /// For trials, HOOKGATE_SECRET may hold the secret itself
    #[arg(
        long,
        value_name = "PATH",
        env = "HOOKGATE_SECRET_FILE",
        value_delimiter = ',',
        help_heading = "The route"
    )]
    pub secret_file: Option<Vec<PathBuf>>,

    /// Who answers the provider's handshakes: answer is the gate, forward the application, off nobody [default: answer]
    #[arg(
        long,
        value_name = "WHO",
        ignore_case = true,
        env = "HOOKGATE_HANDSHAKE",
        help_heading = "The route"
    )]
    pub handshake: Option<crate::config::handshake::Mode>,

    /// File with the token that the provider proves itself with in a handshake (Meta's verify token)
    #[arg(long, value_name = "PATH", env = "HOOKGATE_HANDSHAKE_TOKEN_FILE", help_heading = "The route")]
    pub handshake_token_file: Option<PathBuf>,

    /// Tell when no event has been accepted for so long, in hookgate_silence_seconds and in the log
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_EXPECT_EVERY", help_heading = "The route")]
    pub expect_every: Option<Span>,

    /// Network that may send, or published for the addresses that the provider publishes; repeatable [default: the
    /// networks that the provider's preset demands, else any]
    #[arg(
        long,
        value_name = "CIDR",
        env = "HOOKGATE_ALLOW_IP",
        value_delimiter = ',',
        help_heading = "Checks"
    )]
    pub allow_ip: Option<Vec<Senders>>,

    /// File with one network a line, added to --allow-ip; reloaded on change
    #[arg(long, value_name = "PATH", env = "HOOKGATE_ALLOW_IP_FILE", help_heading = "Checks")]
    pub allow_ip_file: Option<PathBuf>,

    /// Proxy whose X-Forwarded-For and X-Forwarded-Proto count: its own network, none that senders are in;
    /// repeatable [default: none]
    #[arg(
        long,
        value_name = "CIDR",
        env = "HOOKGATE_TRUSTED_PROXY",
        value_delimiter = ',',
        help_heading = "Checks"
    )]
    pub trusted_proxy: Option<Vec<Cidr>>,

    /// Header in which trusted proxies name the sender [default: x-forwarded-for]
    #[arg(long, value_name = "NAME", env = "HOOKGATE_REAL_IP_HEADER", help_heading = "Checks")]
    pub real_ip_header: Option<RealIpHeader>,

    /// Whether trusted proxies send a PROXY protocol header, version 1 or 2. With optional, behind a balancer that adds
    /// none, senders can write it themselves and claim any address [default: off]
    #[arg(
        long,
        value_name = "MODE",
        ignore_case = true,
        env = "HOOKGATE_PROXY_PROTOCOL",
        help_heading = "Checks"
    )]
    pub proxy_protocol: Option<ProxyProtocol>,

    /// Take events over plain HTTP as well
    #[arg(long, env = "HOOKGATE_INSECURE_ALLOW_HTTP", num_args = 0..=1, require_equals = true, value_parser = clap::builder::BoolishValueParser::new(), default_missing_value = "true", value_name = "BOOL", help_heading = "Checks")]
    pub insecure_allow_http: Option<bool>,

    /// Take keys of fewer than 16 bytes
    #[arg(long, env = "HOOKGATE_INSECURE_SHORT_SECRET", num_args = 0..=1, require_equals = true, value_parser = clap::builder::BoolishValueParser::new(), default_missing_value = "true", value_name = "BOOL", help_heading = "Checks")]
    pub insecure_short_secret: Option<bool>,

    /// How old an event may be [default: the provider's, else 5m]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_TOLERANCE", help_heading = "Checks")]
    pub tolerance: Option<Span>,

    /// How far ahead the sender's clock may be [default: the provider's, else 5m]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_FUTURE_TOLERANCE", help_heading = "Checks")]
    pub future_tolerance: Option<Span>,

    /// How long a delivered event is remembered [default: 24h]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_REPLAY_WINDOW", help_heading = "Checks")]
    pub replay_window: Option<Span>,

    /// How many events are remembered [default: 1000000]
    #[arg(long, value_name = "N", env = "HOOKGATE_REPLAY_CAPACITY", help_heading = "Checks")]
    pub replay_capacity: Option<usize>,

    /// Where events are remembered: memory, or for several gates redis://HOST:PORT, rediss:// (TLS),
    /// redis+cluster://HOST:PORT,… or redis+sentinel://HOST:PORT,…/MASTER [default: memory]
    #[arg(long, value_name = "URL", env = "HOOKGATE_REPLAY_STORE", help_heading = "Shared store")]
    pub replay_store: Option<String>,

    /// What all keys in the store begin with: one for each application, the same for its replicas;
    /// required with a store
    #[arg(long, value_name = "TEXT", env = "HOOKGATE_REPLAY_STORE_PREFIX", help_heading = "Shared store")]
    pub replay_store_prefix: Option<String>,

    /// File with the store's password; read again at each connection
    #[arg(
        long,
        value_name = "PATH",
        env = "HOOKGATE_REPLAY_STORE_PASSWORD_FILE",
        help_heading = "Shared store"
    )]
    pub replay_store_password_file: Option<PathBuf>,

    /// Authorities of the store's certificate (PEM) [default: the system's]
    #[arg(long, value_name = "PATH", env = "HOOKGATE_REPLAY_STORE_CA_FILE", help_heading = "Shared store")]
    pub replay_store_ca_file: Option<PathBuf>,

    /// How long the store may take to answer [default: 200ms]
    #[arg(
        long,
        value_name = "DURATION",
        env = "HOOKGATE_REPLAY_STORE_TIMEOUT",
        help_heading = "Shared store"
    )]
    pub replay_store_timeout: Option<Span>,

    /// While it does not: refuse answers 503; local remembers in this process alone [default: refuse]
    #[arg(long, value_name = "WHAT", env = "HOOKGATE_ON_STORE_ERROR", help_heading = "Shared store")]
    pub on_store_error: Option<OnStoreError>,

    /// Keep the memory of events in this file, so that a restart forgets none [default: no file]
    #[arg(long, value_name = "PATH", env = "HOOKGATE_REPLAY_FILE", help_heading = "Checks")]
    pub replay_file: Option<PathBuf>,

    /// Requests per route and client address: N/PERIOD or off [default: 100/1m]
    #[arg(long, value_name = "RATE", env = "HOOKGATE_RATE_LIMIT", help_heading = "Checks")]
    pub rate_limit: Option<Rate>,

    /// Failed signatures per route and client address, after which few are verified: N/PERIOD or off [default: 100/1m]
    #[arg(long, value_name = "RATE", env = "HOOKGATE_FAILURE_LIMIT", help_heading = "Checks")]
    pub failure_limit: Option<Rate>,

    /// enforce refuses; observe forwards and records what would have been refused [default: enforce]
    #[arg(long, value_name = "MODE", env = "HOOKGATE_MODE", help_heading = "Checks")]
    pub mode: Option<Mode>,

    /// Largest body [default: the provider's, else 1MiB]
    #[arg(long, value_name = "SIZE", env = "HOOKGATE_MAX_BODY", help_heading = "Limits")]
    pub max_body: Option<ByteSize>,

    /// Sum of the bodies held at once [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "HOOKGATE_MAX_BUFFERED", help_heading = "Limits")]
    pub max_buffered: Option<ByteSize>,

    /// Connections at once [default: 4096]
    #[arg(long, value_name = "N", env = "HOOKGATE_MAX_CONNECTIONS", help_heading = "Limits")]
    pub max_connections: Option<usize>,

    /// Connections at once from one peer that is no trusted proxy [default: 256, or --max-connections if that is less]
    #[arg(long, value_name = "N", env = "HOOKGATE_MAX_CONNECTIONS_PER_ADDRESS", help_heading = "Limits")]
    pub max_connections_per_address: Option<usize>,

    /// Total time for a request's head [default: 10s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_HEADER_TIMEOUT", help_heading = "Limits")]
    pub header_timeout: Option<Span>,

    /// Total time for a request's body [default: 15s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_BODY_TIMEOUT", help_heading = "Limits")]
    pub body_timeout: Option<Span>,

    /// How long a connection may stay idle between requests [default: 30s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_IDLE_TIMEOUT", help_heading = "Limits")]
    pub idle_timeout: Option<Span>,

    /// Unix socket on which `hookgate forget` reaches this gate; for its own user only [default: none]
    #[arg(long, value_name = "PATH", env = "HOOKGATE_CONTROL_SOCKET", help_heading = "Process")]
    pub control_socket: Option<PathBuf>,

    /// After SIGTERM, keep accepting for so long [default: 5s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_SHUTDOWN_DELAY", help_heading = "Process")]
    pub shutdown_delay: Option<Span>,

    /// Then let deliveries finish for so long; exit as soon as idle [default: 20s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_SHUTDOWN_TIMEOUT", help_heading = "Process")]
    pub shutdown_timeout: Option<Span>,

    /// How often secrets, certificates, address files and configuration are read again; 0s is never, SIGHUP always [default: 10s]
    #[arg(long, value_name = "DURATION", env = "HOOKGATE_RELOAD_INTERVAL", help_heading = "Process")]
    pub reload_interval: Option<Span>,

    /// Worker threads [default: the CPU quota]
    #[arg(long, value_name = "N", env = "HOOKGATE_THREADS", help_heading = "Process")]
    pub threads: Option<usize>,

    /// Collector that takes a span for each delivery, by OTLP over HTTP: http://HOST[:PORT][/PATH]
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL", env = "HOOKGATE_OTLP_ENDPOINT", help_heading = "Process")]
    pub otlp_endpoint: Option<crate::config::units::OtlpEndpoint>,

    /// auto is text on a terminal and JSON otherwise [default: auto]
    #[arg(long, value_name = "FORMAT", env = "HOOKGATE_LOG_FORMAT", help_heading = "Process")]
    pub log_format: Option<LogFormat>,

    /// Decisions are logged at info [default: info]
    #[arg(long, value_name = "LEVEL", env = "HOOKGATE_LOG_LEVEL", help_heading = "Process")]
    pub log_level: Option<LogLevel>,
}

/// What was given outside the file: flags, their environment twins, and the trial secret.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub args: RunArgs,
    /// By the flag's id, such as `max_body`.
    pub origins: HashMap<String, Origin>,
    /// `HOOKGATE_SECRET`
    pub secret: Option<Secret>,
}

impl Given {
    /// Flags alone, as the demo and tests give them.
    pub fn flags(args: RunArgs) -> Self {
        Given { args, ..Given::default() }
    }

    pub fn origin(&self, flag: &str) -> Origin {
        self.origins.get(flag).copied().unwrap_or(Origin::Flag)
    }
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
    Cli::command().mut_subcommand("run", quiet).mut_subcommand("check", quiet)
}

/// Parses the command line and runs the command.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = command().get_matches_from(with_default_command(args.into_iter().collect()));
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let origins = matches.subcommand().map(|(_, sub)| origins(sub)).unwrap_or_default();
    let given = |args: RunArgs| Given { args, origins, secret: trial_secret() };
    match command {
        Command::Run(args) => run::run(&given(*args)),
        Command::Check(args) => check::check(&given(args.run), args.output),
        Command::Demo(args) => demo::demo(&args),
        Command::Providers(args) => providers::providers(&args),
        Command::Sign(args) => sign::sign(&args),
        Command::Send(args) => send::send(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Schema => schema::schema(),
        Command::Healthcheck(args) => healthcheck::healthcheck(&args),
        Command::Forget(args) => forget::forget(&args),
        Command::Report(args) => report::report(&args),
        Command::Completions(args) => completions::completions(&args),
    }
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

fn origins(matches: &clap::ArgMatches) -> HashMap<String, Origin> {
    matches
        .ids()
        .filter_map(|id| match matches.value_source(id.as_str())? {
            ValueSource::EnvVariable => Some((id.to_string(), Origin::Env)),
            ValueSource::CommandLine => Some((id.to_string(), Origin::Flag)),
            _ => None,
        })
        .collect()
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
        assert_eq!((args.insecure_allow_http, args.allow_ip.unwrap().len()), (Some(true), 2));
    }
}
