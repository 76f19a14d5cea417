//! The application behind the gate, and how long it may take.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::Deserialize;

use super::loader::Loader;
use super::located::{Located, overlay};
use super::units::{Span, UpstreamUrl};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Application")]
    #[serde(default)]
    pub struct Application {
        /// Where the application listens: http://HOST:PORT or unix:/PATH [default: http://127.0.0.1:8080]
        #[arg(long, value_name = "URL")]
        pub upstream: Option<Located<UpstreamUrl>>,

        /// How long the application may take to answer [default: 10s]
        #[arg(long, value_name = "DURATION")]
        pub upstream_timeout: Option<Located<Span>>,

        /// How long to wait for an application that is not listening yet [default: 1s]
        #[arg(long, value_name = "DURATION")]
        pub upstream_connect_timeout: Option<Located<Span>>,
    }
}

/// How the application is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    pub upstream: UpstreamUrl,
    /// How long a sender waits for the application.
    pub timeout: Duration,
    pub connect_timeout: Duration,
}

/// What the system allows (`sun_path` of unix(7), with the zero at its end).
pub const LONGEST_SOCKET: usize = 107;

impl Application {
    pub fn exchange(&self, loader: &mut Loader) -> Exchange {
        let default = UpstreamUrl::Tcp { host: "127.0.0.1".into(), port: 8080 };
        if let Some(upstream) = &self.upstream
            && let UpstreamUrl::Unix(path) = &upstream.value
            && path.as_os_str().len() > LONGEST_SOCKET
        {
            let message = format!(
                "the path is too long: {} bytes, and a Unix socket's may have {LONGEST_SOCKET}; choose a shorter one",
                path.as_os_str().len()
            );
            loader.located_problem("upstream", upstream, message);
        }
        Exchange {
            upstream: loader.pick("upstream", self.upstream.as_ref(), default),
            timeout: loader.span("upstream_timeout", self.upstream_timeout.as_ref(), "10s"),
            connect_timeout: loader.span(
                "upstream_connect_timeout",
                self.upstream_connect_timeout.as_ref(),
                "1s",
            ),
        }
    }
}

impl Exchange {
    /// How long the application may go on once the sender waits no more. Its real outcome decides,
    /// and a repeat of the event joins.
    pub fn call_limit(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }
}
