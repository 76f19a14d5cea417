//! Who may send to a route, and how often.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{A_HUNDRED_A_MINUTE, Endpoint};
use crate::clock;
use crate::config::loader::join;
use crate::config::located::Located;
use crate::config::units::{Cidr, Rate, Senders};
use crate::config::{AddressFile, Origin, Place, raw};
use crate::gate::filter::failure_budget::FailureBudget;
use crate::gate::filter::ip_allowlist::IpAllowlist;
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::rotation::DAY_MS;

impl Endpoint<'_> {
    pub(super) fn allowlist(&mut self) -> IpAllowlist {
        let plain = |list: &Vec<Cidr>| list.iter().map(|c| c.0).collect::<Vec<IpNet>>();
        let (key, raw) = (self.key("allow_ips"), self.raw);
        let mut networks = raw.allow_ips.as_ref().map(|senders| self.senders(senders));
        if let Some(file) = &raw.allow_ip_file {
            networks.get_or_insert_default().extend(self.networks_of(file));
        }
        if networks.is_none() {
            networks = self.preset.as_ref().and_then(|p| p.allow_ips.as_ref()).map(plain);
        }
        let Some(networks) = networks else {
            self.loader.setting(&key, "any", Origin::Default);
            return IpAllowlist::Any;
        };
        if networks.is_empty() {
            self.loader.notice(format!("{key} is empty: nobody may send"));
        }
        match (&raw.allow_ip_file, &raw.allow_ips) {
            (Some(file), _) => self.loader.given(&key, join(&networks), file),
            (None, Some(senders)) => self.loader.given_list(&key, join(&networks), senders),
            (None, None) => self.loader.setting(&key, join(&networks), Origin::Provider),
        }
        IpAllowlist::networks(&networks)
    }

    pub(super) fn senders(&mut self, senders: &[Located<Senders>]) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for sender in senders {
            match sender.value {
                Senders::Network(network) => networks.push(network.0),
                Senders::Published => networks.extend(self.published(sender)),
            }
        }
        networks
    }

    /// The addresses that the provider publishes, as the preset knows them.
    pub(super) fn published(&mut self, asked: &Located<Senders>) -> Vec<IpNet> {
        let plain = |list: &[Cidr]| list.iter().map(|c| c.0).collect::<Vec<IpNet>>();
        let preset = self.preset.as_ref();
        let dated = preset.and_then(|p| p.published_ips.clone());
        if let Some(raw::PublishedIps { as_of, source, networks }) = dated {
            let days = (clock::now().wall_ms - as_of.ms).max(0) / DAY_MS;
            let (date, key) = (as_of.to_string(), self.key("allow_ips"));
            let date = date.split('T').next().unwrap_or_default();
            self.loader.notice(format!(
                "{key}: the published addresses are of {date}, {days} days old: compare them with {source}"
            ));
            return plain(&networks);
        }
        if let Some(demanded) = preset.and_then(|p| p.allow_ips.as_ref()) {
            return plain(demanded);
        }
        let remedy = "the preset holds no published addresses: name networks, or a file in allow_ip_file";
        self.loader.located_problem(&self.key("allow_ips"), asked, remedy);
        Vec::new()
    }

    pub(super) fn networks_of(&mut self, file: &Located<PathBuf>) -> Vec<IpNet> {
        let key = self.key("allow_ip_file");
        let Some(bytes) = self.loader.read(&key, file) else { return Vec::new() };
        let mut networks = Vec::new();
        for (line, text) in (1u64..).zip(String::from_utf8_lossy(&bytes).lines()) {
            let text = text.split('#').next().unwrap_or_default().trim();
            match text.parse::<Cidr>() {
                _ if text.is_empty() => {}
                Ok(network) => networks.push(network.0),
                Err(message) => {
                    let place = Place { file: file.value.clone(), line, column: 1 };
                    self.loader.problem_at(Some(place), &key, message);
                }
            }
        }
        let count = IpNet::aggregate(&networks).len();
        if count == 0 {
            self.loader.notice(format!("{key}: {} holds no network", file.value.display()));
        }
        self.loader.given(&key, format!("{} ({count} networks)", file.value.display()), file);
        self.loader.address_file(AddressFile { key, path: file.value.clone(), networks: count });
        networks
    }

    pub(super) fn rate_limit(&mut self) -> Option<RateLimit> {
        // What is refused now is lost where the sender does not come again; and what people do is not
        // counted as senders' events are.
        let unlimited = (self.loses_what_is_limited() || self.raw.passes()).then_some(Rate::Off);
        let provider = self.preset.as_ref().and_then(|p| p.rate_limit).or(unlimited);
        let own = self.raw.rate_limit.as_ref();
        let limit = own.and_then(|own| own.value.limit.map(|limit| own.clone().map(|_| limit)));
        let rate = self.value("rate_limit", limit.as_ref(), provider, A_HUNDRED_A_MINUTE);
        let shared = own.is_some_and(|own| own.value.shared);
        if shared {
            self.loader.setting(&self.key("rate_limit.shared"), shared, Origin::File);
        }
        if shared && !self.all.may_share {
            let remedy = "gates share a limit through their replay store: set replay.store to a redis:// URL";
            self.problem("rate_limit.shared", remedy);
        }
        Some(RateLimit::new(self.quota("rate_limit", rate)?).shared(shared))
    }

    pub(super) fn failure_budget(&mut self) -> Option<FailureBudget> {
        let rate = self.value("failure_limit", self.raw.failure_limit.as_ref(), None, A_HUNDRED_A_MINUTE);
        let lane = Quota::new(10, Duration::from_secs(1))?;
        Some(FailureBudget::new(self.quota("failure_limit", rate)?, lane))
    }

    pub(super) fn quota(&mut self, name: &str, rate: Rate) -> Option<Quota> {
        let Rate::Limit { count, period } = rate else { return None };
        let quota = Quota::new(count, period);
        if quota.is_none() {
            self.problem(name, format!("{rate} is out of range: name a shorter period"));
        }
        quota
    }
}
