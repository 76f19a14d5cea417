//! What a configuration that was read anew changes, key by key, and which of that a reload takes up.

use std::collections::BTreeMap;
use std::fmt;

use super::{Config, Print};

/// All that is in effect, by the names that people have for it: a route's own name and a key's id
/// instead of their places in lists, so that one that is put in front changes no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Name, Value>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// The route that it belongs to.
    route: Option<String>,
    key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Value {
    shown: Option<String>,
    /// Of what is not shown.
    print: Option<Print>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    name: Name,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    RouteAdded,
    RouteRemoved,
    Value {
        before: String,
        now: String,
    },
    /// It is shown as it was, and what it stands for is another.
    Content,
}

/// Whether a reload takes up another value of this key of the file. Of the keys above the routes these
/// are live; the others size or open something once.
pub fn is_live(key: &str) -> bool {
    const LIVE: [&str; 10] = [
        "inbox.encryption_key_file",
        "trusted_proxies",
        "proxy_protocol_from",
        "real_ip_header",
        "insecure_allow_http",
        "insecure_short_secret",
        "strict_start",
        "tls_cert_file",
        "tls_key_file",
        "tls_client_ca_file",
    ];
    key.starts_with("routes[") || LIVE.contains(&key)
}

impl Snapshot {
    pub fn of(config: &Config) -> Self {
        let names = Names(config.settings.iter().map(|s| (&*s.key, &*s.value)).collect());
        let mut all = BTreeMap::<Name, Value>::new();
        for setting in &config.settings {
            all.entry(names.of(&setting.key)).or_default().shown = Some(setting.value.clone());
        }
        for (key, print) in &config.contents {
            all.entry(names.of(key)).or_default().print = Some(*print);
        }
        Snapshot(all)
    }

    /// What is other `now` than here.
    pub fn changes(&self, now: &Snapshot) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, what) in [(self, now, What::RouteRemoved), (now, self, What::RouteAdded)]
            .into_iter()
            .flat_map(|(has, lacks, what)| has.routes_unknown_to(lacks).map(move |name| (name, what.clone())))
        {
            changes.push(Change { name, what });
        }
        let whole = |name: &&Name| changes.iter().any(|change| change.name.route == name.route);
        let names: std::collections::BTreeSet<&Name> = self.0.keys().chain(now.0.keys()).collect();
        let others: Vec<_> = names.into_iter().filter(|name| name.route.is_none() || !whole(name)).collect();
        for name in others {
            let [before, now] = [self, now].map(|all| all.0.get(name).cloned().unwrap_or_default());
            let what = match (before, now) {
                (before, now) if before == now => continue,
                (before, now) if before.shown == now.shown => What::Content,
                (before, now) => What::Value { before: shown(before), now: shown(now) },
            };
            changes.push(Change { name: name.clone(), what });
        }
        changes
    }

    fn routes_unknown_to(&self, other: &Snapshot) -> impl Iterator<Item = Name> {
        let routes = |all: &Snapshot| -> std::collections::BTreeSet<_> {
            all.0.keys().filter_map(|name| name.route.clone()).collect()
        };
        let unknown: Vec<_> = routes(self).difference(&routes(other)).cloned().collect();
        unknown.into_iter().map(|route| Name { route: Some(route), key: String::new() })
    }
}

/// What people call the elements of lists.
struct Names<'s>(BTreeMap<&'s str, &'s str>);

impl Names<'_> {
    /// `routes[0].secrets[1].file` is `key 2026-05` of the route with that place.
    fn of(&self, key: &str) -> Name {
        let Some((place, rest)) = key.split_once("].").filter(|_| key.starts_with("routes[")) else {
            return Name { route: None, key: key.to_owned() };
        };
        let route = self.0.get(&*format!("{place}].name")).map(|name| (*name).to_owned());
        let secret = rest.split_once(']').filter(|_| rest.starts_with("secrets["));
        let id = secret.and_then(|(secret, _)| self.0.get(&*format!("{place}].{secret}]")));
        let key = match id.and_then(|shown| shown.split(' ').next()) {
            Some(id) => format!("key {id}"),
            None => rest.to_owned(),
        };
        Name { route, key }
    }
}

/// Lists of networks can be long.
fn shown(value: Value) -> String {
    const MOST: usize = 100;
    let text = value.shown.unwrap_or_else(|| "none".to_owned());
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Change {
    /// Whether a reload takes it up.
    pub fn is_live(&self) -> bool {
        self.name.route.is_some() || is_live(&self.name.key)
    }

    /// The key, with its route.
    pub fn key(&self) -> String {
        match (&self.name.route, &*self.name.key) {
            (Some(route), "") => format!("route {route}"),
            (Some(route), key) => format!("route {route}: {key}"),
            (None, key) => key.to_owned(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())?;
        match &self.what {
            What::RouteAdded => f.write_str(" added"),
            What::RouteRemoved => f.write_str(" removed"),
            What::Value { before, now } => write!(f, ": {before} → {now}"),
            What::Content => f.write_str(": its content changed"),
        }
    }
}

/// Several of them in one line.
pub fn in_words<'c>(changes: impl IntoIterator<Item = &'c Change>) -> String {
    const MOST: usize = 20;
    let all: Vec<_> = changes.into_iter().collect();
    let mut words: Vec<_> = all.iter().take(MOST).map(ToString::to_string).collect();
    if all.len() > MOST {
        words.push(format!("and {} more", all.len() - MOST));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(settings: &[(&str, &str)], contents: &[(&str, u8)]) -> Snapshot {
        let names = Names(settings.iter().copied().collect());
        let mut all = BTreeMap::<Name, Value>::new();
        for (key, value) in settings {
            all.entry(names.of(key)).or_default().shown = Some((*value).to_owned());
        }
        for (key, print) in contents {
            all.entry(names.of(key)).or_default().print = Some([*print; 32]);
        }
        Snapshot(all)
    }

    #[test]
    fn changes_are_told_by_the_names_of_routes_and_keys() {
        let route = |n: usize, name: &'static str, secret: &'static str| {
            let key = |rest: &str| &*Box::leak(format!("routes[{n}].{rest}").into_boxed_str());
            [(key("name"), name), (key("secrets[0]"), secret), (key("mode"), "enforce")]
        };
        let before = snapshot(
            &[&[("upstream", "a"), ("trusted_proxies", "none")][..], &route(0, "one", "k (/k, sha256 1…)")]
                .concat(),
            &[("routes[0].secrets[0].file", 1), ("tls_cert_file", 1)],
        );
        let now = snapshot(
            &[
                &[("upstream", "b"), ("trusted_proxies", "none")][..],
                &route(0, "two", "k (/k, sha256 3…)"),
                &route(1, "one", "k (/k, sha256 2…)"),
            ]
            .concat(),
            &[("routes[1].secrets[0].file", 2), ("tls_cert_file", 2)],
        );
        let told = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let changes = before.changes(&now);
        assert_eq!(
            told(&changes),
            [
                "route two added",
                "tls_cert_file: its content changed",
                "upstream: a → b",
                "route one: key k: k (/k, sha256 1…) → k (/k, sha256 2…)",
            ]
        );
        let live: Vec<_> = changes.iter().map(Change::is_live).collect();
        assert_eq!(live, [true, true, false, true]);
        assert_eq!(told(&now.changes(&before))[0], "route two removed");
        assert_eq!(before.changes(&before), []);
    }
}
