//! What is demanded of deliveries whatever their route, and who may speak for a sender.

#![allow(clippy::doc_markdown, reason = "doc comments are the help text, which shows no backticks")]

use clap::Args;
use clap::builder::EnumValueParser;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::keys::FetchedKeys;
use super::list;
use super::loader::Loader;
use super::located::{Located, overlay, read_by};
use super::store::Replay;
use super::units::{Cidr, display_as_value};
use crate::gate::delivery::{AddressHeader, TrustedProxies};

overlay! {
    #[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
    #[command(next_help_heading = "Checks")]
    #[serde(default)]
    pub struct Checks {
        /// Proxy that sets X-Forwarded-For and X-Forwarded-Proto, which then count: its own network, none that senders
        /// are in; repeatable [default: none]
        #[arg(long = "trusted-proxy", value_name = "CIDR", value_delimiter = ',')]
        #[serde(deserialize_with = "list::of_any")]
        pub trusted_proxies: Option<Vec<Located<Cidr>>>,

        /// Header in which trusted proxies name the sender [default: x-forwarded-for]
        #[arg(long, value_name = "NAME")]
        pub real_ip_header: Option<Located<RealIpHeader>>,

        /// Whether trusted proxies send a PROXY protocol header, version 1 or 2. With optional, behind a balancer that adds
        /// none, senders can write it themselves and claim any address [default: off]
        #[arg(long, value_name = "MODE", ignore_case = true)]
        pub proxy_protocol: Option<Located<ProxyProtocol>>,

        /// Balancer that speaks the PROXY protocol and passes the rest on as it came: X-Forwarded-Proto behind it is the
        /// sender's own and does not count; repeatable [default: trusted proxies alone speak it, and theirs counts]
        #[arg(long, value_name = "CIDR", value_delimiter = ',')]
        pub proxy_protocol_from: Option<Vec<Located<Cidr>>>,

        /// Take events over plain HTTP as well
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        pub insecure_allow_http: Option<Located<bool>>,

        /// Take keys of fewer than 16 bytes
        #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        pub insecure_short_secret: Option<Located<bool>>,

        /// The memory of events
        #[command(flatten)]
        pub replay: Replay,

        /// Keys that providers publish
        #[command(flatten)]
        pub keys: FetchedKeys,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuse what fails a check.
    Enforce,
    /// Forward it, and record what would have been refused.
    Observe,
}

/// The header in which trusted proxies name the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RealIpHeader {
    /// A list, walked from the right.
    XForwardedFor,
    /// RFC 7239, walked from the right; its proto= counts then, and X-Forwarded-Proto does not.
    Forwarded,
    XRealIp,
    CfConnectingIp,
    TrueClientIp,
}

/// Whether trusted proxies name the sender before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, clap::ValueEnum)]
#[schemars(rename_all = "lowercase")]
pub enum ProxyProtocol {
    #[value(aliases = ["no", "false"])]
    Off,
    Optional,
    Required,
}

impl<'de> Deserialize<'de> for ProxyProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        clap::ValueEnum::from_str(&word, true).map_err(|_| {
            serde::de::Error::custom(format!(
                "\"{word}\" is no way to take the PROXY protocol: write off, optional or required"
            ))
        })
    }
}
display_as_value!(Mode, ProxyProtocol, RealIpHeader);
read_by!(EnumValueParser<Self>: Mode, ProxyProtocol, RealIpHeader);

/// Who may speak for a sender, and what is let pass that should not be.
pub struct Trust {
    pub proxies: TrustedProxies,
    pub proxy_protocol: ProxyProtocol,
    pub allow_http: bool,
    pub short_secret: bool,
}

impl Checks {
    pub fn trust(&self, loader: &mut Loader) -> Trust {
        let proxies = loader.list("trusted_proxies", self.trusted_proxies.as_ref(), &[]);
        let header = loader.pick("real_ip_header", self.real_ip_header.as_ref(), RealIpHeader::XForwardedFor);
        let proxy_protocol = loader.pick("proxy_protocol", self.proxy_protocol.as_ref(), ProxyProtocol::Off);
        let balancers = loader.list("proxy_protocol_from", self.proxy_protocol_from.as_ref(), &[]);
        if proxies.is_empty() && balancers.is_empty() && proxy_protocol == ProxyProtocol::Required {
            loader.problem(
                "proxy_protocol",
                "is believed from trusted proxies only: name the balancer in proxy_protocol_from, or in trusted_proxies if it sets X-Forwarded-Proto",
            );
        }
        if let (ProxyProtocol::Off, Some(first)) =
            (proxy_protocol, self.proxy_protocol_from.iter().flatten().next())
        {
            let remedy =
                "nobody speaks the PROXY protocol: write proxy_protocol: required, or leave this out";
            loader.located_problem("proxy_protocol_from", first, remedy);
        }
        warn_of(loader, "trusted_proxies", &proxies);
        warn_of(loader, "proxy_protocol_from", &balancers);
        warn_of_protocol(loader, proxy_protocol, !proxies.is_empty(), !balancers.is_empty());
        let allow_http = loader.pick("insecure_allow_http", self.insecure_allow_http.as_ref(), false);
        let short_secret = loader.pick("insecure_short_secret", self.insecure_short_secret.as_ref(), false);
        if allow_http {
            loader.notice("insecure_allow_http is on: events are taken over plain HTTP");
        }
        let plain = |list: Vec<Cidr>| list.into_iter().map(|cidr| cidr.0).collect();
        let header = match header {
            RealIpHeader::XForwardedFor => AddressHeader::Chain("x-forwarded-for"),
            RealIpHeader::Forwarded => AddressHeader::Forwarded,
            RealIpHeader::XRealIp => AddressHeader::Single("x-real-ip"),
            RealIpHeader::CfConnectingIp => AddressHeader::Single("cf-connecting-ip"),
            RealIpHeader::TrueClientIp => AddressHeader::Single("true-client-ip"),
        };
        let proxies = TrustedProxies::new(plain(proxies), header).and_balancers(plain(balancers));
        Trust { proxies, proxy_protocol, allow_http, short_secret }
    }
}

/// Senders must not be able to speak for others.
fn warn_of(loader: &mut Loader, key: &str, proxies: &[Cidr]) {
    for proxy in proxies.iter().filter(|proxy| proxy.holds_strangers()) {
        loader.notice(format!(
            "{key}: {proxy} holds public addresses: whoever sends from there can claim any address and HTTPS; name the proxies' own networks"
        ));
    }
}

fn warn_of_protocol(loader: &mut Loader, mode: ProxyProtocol, proxies: bool, balancers: bool) {
    if mode == ProxyProtocol::Optional {
        loader.notice(
            "proxy_protocol is optional: behind a balancer that adds no line, senders can write it themselves and claim any address; write required where one is added, else off",
        );
    }
    if mode != ProxyProtocol::Off && proxies && !balancers {
        loader.notice(
            "proxy_protocol: X-Forwarded-Proto counts if trusted_proxies send it: a balancer that passes on what senders write is to be named in proxy_protocol_from instead",
        );
    }
}
