//! The process: how it starts, tells, reloads and stops.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::EnumValueParser;
use schemars::JsonSchema;
use serde::Deserialize;

use super::loader::Loader;
use super::located::{Located, overlay, read_by};
use super::units::{OtlpEndpoint, Span, display_as_value};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Process")]
    #[serde(default)]
    pub struct Process {
        /// Unix socket on which `hookgate forget`, `hookgate inbox` and `hookgate refused` reach this gate; for its own user only [default: none]
        #[arg(long, value_name = "PATH")]
        pub control_socket: Option<Located<PathBuf>>,

        /// Do not start while the secret of any route is missing. Else such a route answers 503 until it comes, and
        /// the others serve
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        pub strict_start: Option<Located<bool>>,

        /// After SIGTERM, keep accepting for so long [default: 5s]
        #[arg(long, value_name = "DURATION")]
        pub shutdown_delay: Option<Located<Span>>,

        /// Then let deliveries finish for so long; exit as soon as idle [default: 20s]
        #[arg(long, value_name = "DURATION")]
        pub shutdown_timeout: Option<Located<Span>>,

        /// How often secrets, certificates, address files and configuration are read again; 0s is never, SIGHUP always [default: 10s]
        #[arg(long, value_name = "DURATION")]
        pub reload_interval: Option<Located<Span>>,

        /// Worker threads [default: the CPU quota]
        #[arg(long, value_name = "N")]
        pub threads: Option<Located<usize>>,

        /// Collector that takes a span for each delivery, by OTLP over HTTP: http://HOST[:PORT][/PATH]
        #[cfg_attr(feature = "otel", arg(long, value_name = "URL"))]
        #[cfg_attr(not(feature = "otel"), arg(skip), serde(skip))]
        pub otlp_endpoint: Option<Located<OtlpEndpoint>>,

        /// auto is text on a terminal and JSON otherwise [default: auto]
        #[arg(long, value_name = "FORMAT")]
        pub log_format: Option<Located<LogFormat>>,

        /// Decisions are logged at info [default: info]
        #[arg(long, value_name = "LEVEL")]
        pub log_level: Option<Located<LogLevel>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}
display_as_value!(LogFormat, LogLevel);
read_by!(EnumValueParser<Self>: LogFormat, LogLevel);

/// How the process tells, reloads and stops.
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    pub reload_interval: Duration,
    pub threads: usize,
    /// Who takes a span for each delivery.
    pub otlp_endpoint: Option<OtlpEndpoint>,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
}

/// What the system allows, minus what stands behind it while the socket is made.
const LONGEST_SOCKET: usize = 100;

impl Process {
    /// Whether a secret that is missing stops everything.
    pub fn strict_start(&self, loader: &mut Loader) -> bool {
        loader.pick("strict_start", self.strict_start.as_ref(), false)
    }

    pub fn lifecycle(&self, loader: &mut Loader) -> Lifecycle {
        let shutdown_delay = loader.span_or_zero("shutdown_delay", self.shutdown_delay.as_ref(), "5s");
        let shutdown_timeout = loader.span_or_zero("shutdown_timeout", self.shutdown_timeout.as_ref(), "20s");
        let reload_interval = loader.span_or_zero("reload_interval", self.reload_interval.as_ref(), "10s");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = loader.pick("threads", self.threads.as_ref(), cores);
        if threads == 0 {
            loader.problem("threads", "0 threads do no work: leave it out to follow the CPU quota");
        }
        if let Some(url) = &self.otlp_endpoint {
            loader.given("otlp_endpoint", &url.value, url);
        }
        Lifecycle {
            shutdown_delay,
            shutdown_timeout,
            reload_interval,
            threads,
            otlp_endpoint: self.otlp_endpoint.as_ref().map(|url| url.value.clone()),
            log_format: loader.pick("log_format", self.log_format.as_ref(), LogFormat::Auto),
            log_level: loader.pick("log_level", self.log_level.as_ref(), LogLevel::Info),
        }
    }

    /// Where an operator reaches the gate.
    pub fn control_socket(&self, loader: &mut Loader) -> Option<PathBuf> {
        let path = self.control_socket.as_ref();
        if let Some(path) = path.filter(|path| path.value.as_os_str().len() > LONGEST_SOCKET) {
            let message = format!("is longer than the {LONGEST_SOCKET} bytes that a socket's path may have");
            loader.located_problem("control_socket", path, message);
        }
        loader.file_to_make("control_socket", path)
    }
}
