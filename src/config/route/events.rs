//! What tells the events of a route apart, how long they are remembered, and which of them it takes.

use std::time::Duration;

use super::Endpoint;
use crate::config::store::too_short;
use crate::config::{Origin, raw};
use crate::gate::filter::events::{Condition, Events, Glob, MAX_CONDITIONS};
use crate::gate::filter::replay::outlasts;
use crate::gate::filter::signature::{Scheme, Signature};
use crate::gate::identity::Rule;
use crate::gate::parse::json;
use crate::gate::scheme::Recipe;
use crate::gate::scheme::source::Source;

impl Endpoint<'_> {
    /// What tells its events apart: what the route says, else what the provider needs.
    pub(super) fn identity(&mut self, name: &str, recipes: &[Recipe]) -> Rule {
        let of_provider = self.preset.as_ref().and_then(|preset| preset.identity.clone());
        let rule = self.raw.identity.as_ref();
        let default = of_provider.as_ref().map(|identity| identity.by);
        let rule_of = self.value("identity", rule, default, Rule::Signed);
        let unsigned = |recipe: &Recipe| recipe.id.iter().find(|source| !recipe.identifies(source)).cloned();
        match rule_of {
            Rule::Signed => {
                // Somebody has decided against what the provider needs.
                if let Some(identity) = of_provider {
                    self.loader.notice(format!("route {name} takes equal events for one: {}", identity.because));
                } else if let Some(source) = Self::only_told_apart_by_bytes(recipes) {
                    self.loader.notice(format!(
                        "route {name} takes two events with equal bytes for one, because nothing in them is signed that \
                         names an event: a copy with another {source} is told in hookgate.hints, and identity: \
                         delivery takes it for another event"
                    ));
                }
            }
            Rule::Delivery => match recipes.iter().find_map(unsigned) {
                Some(source) => self.loader.notice(format!(
                    "route {name} tells events apart by {source} as well, which is not signed: whoever has seen a \
                     delivery can send it again under another id, and nothing but its signed time, if there is \
                     one, stops that"
                )),
                None => {
                    let message = "the provider sends no delivery id beside what it signs: write signed, or none";
                    self.problem("identity", message);
                }
            },
            Rule::None => self.loader.notice(format!(
                "route {name} remembers nothing: what comes twice is delivered twice, so the application has to \
                 be ready for that"
            )),
        }
        rule_of
    }

    /// Where the delivery id stands, if neither an id nor a time is signed that would make two events differ.
    fn only_told_apart_by_bytes(recipes: &[Recipe]) -> Option<Source> {
        let bare = |recipe: &&Recipe| {
            recipe.timestamp.is_none() && !recipe.id.iter().any(|source| recipe.identifies(source))
        };
        let bare = recipes.iter().find(bare)?;
        bare.id.first().cloned()
    }

    /// How long its events are remembered, if not as long as those of other routes: as the route says, else
    /// as long as its provider needs.
    pub(super) fn window(&mut self, name: &str, rule: Rule, signature: &Signature) -> Option<Duration> {
        let own = self.raw.replay.as_ref().and_then(|replay| replay.window.as_ref());
        let of_provider = self.preset.as_ref().and_then(|preset| preset.replay.window.as_ref());
        let of_provider =
            of_provider.filter(|window| own.is_none() && window.value.0 > self.all.replay_window);
        let key = self.key("replay.window");
        if let Some(window) = of_provider {
            self.loader.setting(&key, window.value, Origin::Provider);
            return Some(window.value.0);
        }
        let window = own?;
        self.loader.given(&key, window.value, window);
        let fresh = signature.freshness_window().filter(|_| rule != Rule::None).unwrap_or_default();
        if let Err(short) = outlasts(window.value.0, fresh) {
            self.loader.located_problem(&key, window, too_short(window.value, short));
        }
        if rule == Rule::None {
            self.loader.notice(format!(
                "route {name}: replay.window has no effect: with identity: none nothing is remembered"
            ));
        }
        Some(window.value.0)
    }

    /// Which events it takes.
    pub(super) fn events(&mut self, signature: Signature) -> Signature {
        let Some(words) = self.raw.events.as_ref() else { return signature };
        let key = self.key("events");
        let fault = |place: &str, message: String| match place {
            "events" => message,
            _ => format!("{place}: {message}"),
        };
        let events = compile(&words.value).map_err(|(place, message)| fault(&place, message));
        match events {
            Ok(events) => {
                self.loader.given(&key, &events, words);
                let unnamed = |recipe: &Recipe| recipe.event_type.is_empty();
                let by_type = !events.take.is_empty() || !events.drop.is_empty();
                if by_type && signature.schemes().iter().all(|scheme| unnamed(scheme.recipe())) {
                    let message =
                        "take and drop go by the event's type, and the provider names none: use when";
                    self.loader.located_problem(&key, words, message);
                }
                let signature = signature.choosing(events);
                let crowded = |scheme: &Scheme| scheme.recipe().pointers().len() > json::MAX_POINTERS;
                if signature.schemes().iter().any(crowded) {
                    let message = format!("at most {} values can be read from a body", json::MAX_POINTERS);
                    self.loader.located_problem(&key, words, message);
                }
                signature
            }
            Err(message) => {
                self.loader.located_problem(&key, words, message);
                signature
            }
        }
    }
}

fn compile(words: &raw::Events) -> Result<Events, (String, String)> {
    let globs = |place: &str, texts: &[String]| -> Result<Vec<Glob>, (String, String)> {
        let glob =
            |text: &String| text.parse().map_err(|error| (place.to_owned(), format!("\"{text}\" {error}")));
        texts.iter().map(glob).collect()
    };
    let mut when = Vec::new();
    for (source, values) in words.when.iter().flatten() {
        let place = format!("when.{source}");
        let values = globs(&place, &values.0)?;
        if values.is_empty() {
            return Err((place, "names no value: write those that are taken, or leave it out".to_owned()));
        }
        let source = source.parse().map_err(|error| ("when".to_owned(), error))?;
        when.push(Condition { source, values });
    }
    let events = Events { take: globs("take", &words.take)?, drop: globs("drop", &words.drop)?, when };
    let all = events.take.len() + events.drop.len() + events.when.len();
    match all {
        0 => Err(("events".to_owned(), "says nothing: write take, drop or when, or leave it out".to_owned())),
        all if all > MAX_CONDITIONS => {
            Err(("events".to_owned(), format!("holds {all} conditions, and {MAX_CONDITIONS} are the most")))
        }
        _ => Ok(events),
    }
}
