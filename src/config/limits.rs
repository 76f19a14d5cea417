//! How much the gate holds at once, and for how long.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Timeouts;
use super::application::Exchange;
use super::loader::Loader;
use super::located::{Located, overlay};
use super::units::{ByteSize, Span};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Limits")]
    #[serde(default)]
    pub struct Limits {
        /// How much is held at once
        #[command(flatten)]
        pub limits: Sizes,

        /// Total time for a request's head [default: 10s]
        #[arg(long, value_name = "DURATION")]
        pub header_timeout: Option<Located<Span>>,

        /// Total time for a request's body [default: 15s]
        #[arg(long, value_name = "DURATION")]
        pub body_timeout: Option<Located<Span>>,

        /// How long a connection may stay idle between requests [default: 30s]
        #[arg(long, value_name = "DURATION")]
        pub idle_timeout: Option<Located<Span>>,
    }
}

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Sizes {
        /// Largest body on routes that set none and whose provider sets none [default: 1MiB]
        #[arg(skip)]
        #[serde(rename = "max_body")]
        pub default_max_body: Option<Located<ByteSize>>,

        /// Sum of the bodies held at once [default: 64MiB]
        #[arg(long, value_name = "SIZE")]
        pub max_buffered: Option<Located<ByteSize>>,

        /// Connections at once [default: 4096]
        #[arg(long, value_name = "N")]
        pub max_connections: Option<Located<usize>>,

        /// Connections at once from one peer that is no trusted proxy [default: 256, or --max-connections if that is less]
        #[arg(long, value_name = "N")]
        pub max_connections_per_address: Option<Located<usize>>,
    }
}

/// Connections of one address that is no trusted proxy: sixteen addresses fill the default of
/// `max_connections`. A sender opens a connection for each event at worst, and an application
/// that takes a second for each then still gets 256 events a second of it.
const MOST_OF_ONE_ADDRESS: usize = 256;

/// How much is held at once, by all and by one.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub max_buffered: ByteSize,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
}

impl Limits {
    pub fn timeouts(&self, loader: &mut Loader, exchange: &Exchange) -> Timeouts {
        Timeouts {
            header: loader.span("header_timeout", self.header_timeout.as_ref(), "10s"),
            body: loader.span("body_timeout", self.body_timeout.as_ref(), "15s"),
            idle: loader.span("idle_timeout", self.idle_timeout.as_ref(), "30s"),
            upstream: exchange.timeout,
            call: exchange.call_limit(),
        }
    }
}

/// For how long nginx, ingress-nginx and AWS's balancers wait for an answer, and keep a connection that is
/// idle, unless they are told otherwise.
const BALANCERS: Duration = Duration::from_secs(60);

impl Timeouts {
    /// What does not fit the proxy in front, if that is one of the usual ones as it comes.
    pub fn beside_balancers(&self, loader: &mut Loader) {
        if self.upstream >= BALANCERS {
            loader.notice(
                "upstream_timeout: nginx and AWS's balancers answer 504 by themselves after 60s unless they are told \
                 to wait longer: the sender then sees a failure although the application may still take the event; \
                 write less than 60s, or let the proxy wait longer",
            );
        }
        if self.idle <= BALANCERS {
            let shown = Span(self.idle);
            loader.notice(format!(
                "idle_timeout: {shown} is no longer than the 60s for which nginx and AWS's balancers keep an idle \
                 connection: now and then they send an event into one that is being closed, and the sender sees 502; \
                 write 75s (650s behind Google's), or let the proxy close first"
            ));
        }
    }
}

impl Sizes {
    /// Where neither route nor provider says.
    pub fn max_body(&self) -> ByteSize {
        self.default_max_body.as_ref().map_or(ByteSize(1 << 20), |size| size.value)
    }

    pub fn held(&self, loader: &mut Loader) -> Held {
        const NOBODY: &str = "0 would let nobody in: name at least 1";
        let max_buffered = loader.pick("limits.max_buffered", self.max_buffered.as_ref(), ByteSize(64 << 20));
        let max_connections = loader.pick("limits.max_connections", self.max_connections.as_ref(), 4096);
        if max_connections == 0 {
            loader.problem("limits.max_connections", NOBODY);
        }
        let max_connections_per_address = loader.pick(
            "limits.max_connections_per_address",
            self.max_connections_per_address.as_ref(),
            max_connections.min(MOST_OF_ONE_ADDRESS),
        );
        if max_connections_per_address == 0 {
            loader.problem("limits.max_connections_per_address", NOBODY);
        }
        Held { max_buffered, max_connections, max_connections_per_address }
    }
}
