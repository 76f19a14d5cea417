//! A route for the application's other traffic, on which nothing is verified.

use super::{Endpoint, KeyedRoute};
use crate::config::loader::Loader;
use crate::config::provider;
use crate::gate::filter::signature::Signature;
use crate::gate::handshake::Handshakes;
use crate::gate::reason::Answers;
use crate::gate::route::{Mode, PathPattern, Route};
use crate::inbox::Policy;

/// What stands where a provider's name would.
const NO_PROVIDER: &str = "none";

impl Endpoint<'_> {
    /// The route, if nothing is said of it that it does not do.
    pub(super) fn passing(&mut self) -> Option<KeyedRoute> {
        let before = self.loader.problems();
        for (key, given) in self.raw.of_verified() {
            let message =
                "a route with pass: true verifies nothing, so it has none: leave this out, or pass: true";
            let key = self.key(key);
            match (self.loader.place(given.at), &given.given_as) {
                (None, None) => self.loader.problem(&key, message),
                _ => self.loader.located_problem(&key, &given, message),
            }
        }
        if let Some(pass) = &self.raw.pass {
            self.loader.given(&self.key("pass"), "true", pass);
        }
        if self.raw.path.is_none() {
            self.problem("path", "a route with pass: true names what it passes on: write path: /… or /…/*");
        }
        let name = self.name("pass");
        let path = self.path();
        if let Some(PathPattern::Exact(exact)) = &path
            && format!("{exact}*").parse::<PathPattern>().is_err()
        {
            let remedy = "leave out '//', dot segments, ';', '\\' and their escapes";
            self.problem("path", format!("applications read \"{exact}\" in different ways: {remedy}"));
        }
        if let Some(PathPattern::Tenant(..)) = &path {
            self.problem(
                "path",
                "a route with pass: true verifies nothing, so it has no tenants: write a prefix, /…/*",
            );
        }
        let allowlist = self.allowlist();
        let rate_limit = self.rate_limit();
        let max_body = self.max_body();
        let deliver = self.deliver(None);
        if self.loader.problems() > before {
            return None;
        }
        let path = path?;
        self.loader.notice(format!(
            "route {name} passes on what comes to {path} unverified, as Hookgate-Verdict: observed: the application must \
             take no webhook there"
        ));
        let route = Route {
            headers: Vec::new(),
            name: name.into(),
            provider: NO_PROVIDER.into(),
            path,
            tenant: None,
            methods: Vec::new(),
            https: self.all.https,
            allowlist,
            rate_limit,
            failure_budget: None,
            max_body,
            signature: Signature::new(Vec::new()),
            rotation: provider::rotation(&[]),
            looks_keys_up: false,
            handshakes: Handshakes::default(),
            mode: Mode::Pass,
            awaits: Vec::new(),
            expect_every: None,
            answers: Answers::default(),
            patience: None,
            never_repeated: false,
            stops: None,
            deliver,
            stores: false,
            resign: None,
        };
        Some(KeyedRoute { route, secrets: Vec::new(), elsewhere: None, inbox: Policy::default() })
    }
}

impl Loader {
    /// No route passes on what an application could take for the path of a route that verifies.
    pub(super) fn keep_apart(&mut self, routes: &[KeyedRoute]) {
        let (passing, verifying): (Vec<_>, Vec<_>) =
            routes.iter().map(|keyed| &keyed.route).partition(|route| route.mode == Mode::Pass);
        for pass in passing {
            let (PathPattern::Exact(path) | PathPattern::Prefix(path) | PathPattern::Tenant(path, _)) =
                &pass.path;
            let shadow = verifying.iter().find(|other| {
                !matches!(other.path, PathPattern::Prefix(_)) && other.path.is_loosely(path.as_bytes())
            });
            if let Some(verified) = shadow {
                self.problem(
                    "routes",
                    format!(
                        "route {} would pass on {} unverified, which an application could take for {} of route {}: give \
                         one of them another path",
                        pass.name, pass.path, verified.path, verified.name
                    ),
                );
            }
        }
    }
}
