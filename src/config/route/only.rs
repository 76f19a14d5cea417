//! The flags of the only route there is: without a file they describe it, and over a file with one
//! route they change it.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use std::path::PathBuf;

use clap::Args;

use crate::config::checks::Checks;
use crate::config::handshake::{Mode, Words};
use crate::config::located::{Located, Overlay};
use crate::config::raw::{Route, SecretSource};
use crate::config::units::Span;

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The route")]
pub struct OnlyRoute {
    /// Who sends: the name of a preset [default: scalekit]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<Located<String>>,

    /// Exact raw path; a trailing `*` makes a prefix [default: /webhooks]
    #[arg(long, value_name = "PATH")]
    pub path: Option<Located<String>>,

    /// The URL that the provider was given, if it is one that signs it
    #[arg(long, value_name = "URL")]
    pub public_url: Option<Located<String>>,

    /// File with a signing secret; repeatable, newest first; its name is the key's id.
    /// For trials, HOOKGATE_SECRET may hold the secret itself
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub secret_file: Option<Vec<Located<PathBuf>>>,

    /// Who answers the provider's handshakes: answer is the gate, forward the application, off nobody [default: answer]
    #[arg(long, value_name = "WHO", ignore_case = true)]
    pub handshake: Option<Located<Mode>>,

    /// File with the token that the provider proves itself with in a handshake (Meta's verify token)
    #[arg(long, value_name = "PATH")]
    pub handshake_token_file: Option<Located<PathBuf>>,

    /// Tell when no event has been accepted for so long, in hookgate_silence_seconds and in the log
    #[arg(long, value_name = "DURATION")]
    pub expect_every: Option<Located<Span>>,
}

impl OnlyRoute {
    /// Lowers the flags into the words of the file, so that there is one checker and not two.
    pub fn apply(self, checks: &Checks, route: &mut Route) {
        let below = std::mem::take(route);
        let secrets = self.secret_file.map(|files| files.into_iter().map(secret).collect());
        *route = Route {
            // A preset instead of the route's own scheme.
            scheme: below.scheme.filter(|_| self.provider.is_none()),
            provider: self.provider.over(below.provider),
            path: self.path.over(below.path),
            public_url: self.public_url.over(below.public_url),
            secrets: secrets.unwrap_or(below.secrets),
            allow_ips: checks.allow_ip.clone().over(below.allow_ips),
            allow_ip_file: checks.allow_ip_file.clone().over(below.allow_ip_file),
            handshake: self.handshake.map(|mode| mode.map(Words::Mode)).over(below.handshake),
            handshake_token_file: self.handshake_token_file.over(below.handshake_token_file),
            expect_every: self.expect_every.over(below.expect_every),
            ..below
        };
    }

    /// The names of those that were given.
    pub fn given(&self, checks: &Checks) -> impl Iterator<Item = &'static str> {
        [
            ("provider", self.provider.is_some()),
            ("path", self.path.is_some()),
            ("public-url", self.public_url.is_some()),
            ("secret-file", self.secret_file.is_some()),
            ("allow-ip", checks.allow_ip.is_some()),
            ("allow-ip-file", checks.allow_ip_file.is_some()),
            ("handshake", self.handshake.is_some()),
            ("handshake-token-file", self.handshake_token_file.is_some()),
            ("expect-every", self.expect_every.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
    }
}

fn secret(file: Located<PathBuf>) -> SecretSource {
    SecretSource { id: None, file, not_after: None }
}
