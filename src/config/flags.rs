//! The flags of `run`, one field each with its value type, and what came with them: no logic.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::Origin;
use super::raw::{LogFormat, LogLevel, Mode, OnStoreError, ProxyProtocol, RealIpHeader};
use super::secret::Secret;
use super::units::{ByteSize, Cidr, HostName, Rate, Senders, Span, UpstreamUrl};

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
