//! Who may send to a route, and how often.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{A_HUNDRED_A_MINUTE, Endpoint};
use crate::clock::{self, Now};
use crate::config::loader::join;
use crate::config::located::Located;
use crate::config::raw::PublishedIps;
use crate::config::units::{Cidr, Rate, Senders};
use crate::config::{AddressFile, Origin, Place};
use crate::gate::filter::failure_budget::FailureBudget;
use crate::gate::filter::ip_allowlist::IpAllowlist;
use crate::gate::filter::rate_limit::{Quota, RateLimit};
use crate::gate::rotation::DAY_MS;

impl Endpoint<'_> {
    pub(super) fn allowlist(&mut self) -> IpAllowlist {
        let (key, raw) = (self.key("allow_ips"), self.raw);
        let mut networks = raw.allow_ips.as_ref().map(|senders| self.senders(senders));
        if let Some(file) = &raw.allow_ip_file {
            networks.get_or_insert_default().extend(self.networks_of(file));
        }
        if networks.is_none() {
            networks = self.demanded();
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
        if let Some(list) = self.preset.as_ref().and_then(|p| p.published_ips.clone()) {
            self.loader.notice(aged(&list, &self.key("allow_ips"), clock::now()).0);
            return plain(&list);
        }
        if let Some(demanded) = self.demanded() {
            return demanded;
        }
        let remedy = "the preset holds no published addresses: name networks, or a file in allow_ip_file";
        self.loader.located_problem(&self.key("allow_ips"), asked, remedy);
        Vec::new()
    }

    /// The addresses that events of the provider must come from. It may have others by now.
    fn demanded(&mut self) -> Option<Vec<IpNet>> {
        let list = self.preset.as_ref().and_then(|p| p.allow_ips.clone())?;
        let (notice, old) = aged(&list, &self.key("allow_ips"), clock::now());
        if old {
            self.loader.notice(notice);
        }
        Some(plain(&list))
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

/// After so many days somebody should look whether the provider has other addresses.
const OLD: i64 = 90;

fn plain(list: &PublishedIps) -> Vec<IpNet> {
    list.networks.iter().map(|network| network.0).collect()
}

/// What to say of the age of a list, and whether it is old.
fn aged(list: &PublishedIps, key: &str, now: Now) -> (String, bool) {
    let days = (now.wall_ms - list.as_of.ms).max(0) / DAY_MS;
    let date = list.as_of.to_string();
    let date = date.split('T').next().unwrap_or_default();
    let source = &list.source;
    let says =
        format!("{key}: the published addresses are of {date}, {days} days old: compare them with {source}");
    (says, days >= OLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Doubt;
    use crate::config::provider::{PRESETS, preset};

    #[test]
    fn a_list_of_addresses_is_old_after_ninety_days() {
        let list = preset("scalekit").unwrap().allow_ips.unwrap();
        let after = |days: i64| {
            let wall_ms = list.as_of.ms + days * DAY_MS;
            aged(&list, "routes[0].allow_ips", Now { wall_ms, mono: Duration::ZERO, doubt: Doubt::None })
        };
        assert!(!after(0).1 && !after(89).1 && after(90).1 && after(4000).1);
        let says = after(90).0;
        for part in ["routes[0].allow_ips", "2026-11-23", "90 days old", list.source.as_str()] {
            assert!(says.contains(part), "{says}");
        }
        assert!(!after(-1).1, "a clock that is behind makes nothing old");
    }

    #[test]
    fn every_list_of_addresses_tells_its_age_and_where_the_current_one_is() {
        let lists = PRESETS.iter().flat_map(|(name, _)| {
            let preset = preset(name).unwrap();
            [preset.allow_ips, preset.published_ips].into_iter().flatten().map(|list| (*name, list))
        });
        for (name, list) in lists {
            assert!(list.as_of.ms <= clock::now().wall_ms + DAY_MS, "{name}: that is yet to come");
            assert!(list.source.starts_with("https://") && !list.networks.is_empty(), "{name}");
        }
    }
}
