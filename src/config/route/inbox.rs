//! What a route stores and delivers later.

use std::time::Duration;

use super::Endpoint;
use super::words::{self, StoreOn};
use crate::config::Origin;
use crate::config::loader::join;
use crate::config::located::Located;
use crate::config::units::Span;
use crate::gate::reason::{Answers, Reason};
use crate::gate::route::Mode;
use crate::inbox::retry::Retry;
use crate::inbox::{Policy, When};

impl Endpoint<'_> {
    pub(super) fn inbox(&mut self, name: &str, mode: Mode, answers: &Answers) -> Policy {
        let words = self.raw.inbox.clone();
        let on = self.value("inbox.on", words.on.as_ref(), None, StoreOn::Off);
        let retry = self.retry(&words, on != StoreOn::Off);
        let Some(given) = words.on.filter(|_| on != StoreOn::Off) else {
            if let Some(within) = &words.answer_within {
                self.loader.given(&self.key("inbox.answer_within"), within.value, within);
            }
            return Policy { retry, ..Policy::default() };
        };
        let answer_within = self.answer_within(name, words.answer_within.as_ref());
        self.show_ack(answers);
        if let Some(why) = self.why_it_cannot_store() {
            self.loader.located_problem(&self.key("inbox.on"), &given, why);
        }
        if mode == Mode::Observe {
            self.loader.notice(format!(
                "route {name} only observes, so it stores nothing: its inbox begins with mode: enforce"
            ));
        }
        let on = match on {
            StoreOn::Failure if mode == Mode::Enforce => When::Failure,
            StoreOn::Always if mode == Mode::Enforce => When::Always,
            StoreOn::Off | StoreOn::Failure | StoreOn::Always => When::Never,
        };
        let repeats = self.repeats();
        Policy { on, answer_within, retry, repeats }
    }

    fn why_it_cannot_store(&self) -> Option<&'static str> {
        if self.is_answer_meaningful() {
            return Some(
                "the provider acts on what the application answers, and an event that is stored has no answer yet: leave \
                 the inbox out on this route",
            );
        }
        if self.all.state.is_none() && !self.all.may_share {
            return Some(
                "nothing can be stored: name a folder on a disk that stays in state_dir (--state-dir), or a store that \
                 gates share in replay.store, or leave the inbox out",
            );
        }
        None
    }

    /// A part of the time that its sender waits: the rest is for storing, and for the way of the answer.
    fn answer_within(&mut self, name: &str, given: Option<&Located<Span>>) -> Duration {
        let waits = self.sender().and_then(|sender| sender.waits);
        let timeout = self.all.exchange.timeout;
        let usual = waits.map_or(timeout, |waits| waits.0).mul_f64(0.6).min(timeout);
        let default =
            Located::new(Span(usual), if waits.is_some() { Origin::Provider } else { Origin::Default });
        let key = self.key("inbox.answer_within");
        let within = given.unwrap_or(&default);
        self.loader.given(&key, within.value, within);
        if within.value.0.is_zero() {
            let remedy = "0 asks the application nothing: write on: always for that, or for example 2s";
            self.loader.located_problem(&key, within, remedy);
        }
        if let Some(waits) = waits.filter(|waits| within.value.0 >= waits.0) {
            self.loader.notice(format!(
                "route {name}: inbox.answer_within is {}, and the provider waits {waits}: it counts a failure before the \
                 event is stored; set less, such as {}",
                within.value,
                Span(waits.0.mul_f64(0.6))
            ));
        }
        within.value.0
    }

    /// What is in effect, wherever it was said.
    fn show_ack(&mut self, answers: &Answers) {
        let ack = answers.to(Reason::Stored);
        let shown = match ack.text {
            "" => ack.status.to_string(),
            text => format!("{} {text:?}", ack.status),
        };
        let of_route =
            self.raw.inbox.ack.is_some() || self.raw.status.as_ref().is_some_and(|own| own.ack.is_some());
        let origin = match self.preset.as_ref() {
            _ if of_route => Origin::File,
            Some(preset) if preset.status.ack.is_some() => Origin::Provider,
            Some(_) if self.sender().is_some_and(|sender| sender.ack.is_some()) => Origin::Provider,
            Some(_) | None => Origin::Default,
        };
        self.loader.setting(&self.key("inbox.ack"), shown, origin);
    }

    /// `stores` if the route has an inbox: then what nobody said is in effect as well.
    fn retry(&mut self, words: &words::Inbox, stores: bool) -> Retry {
        let usual = Retry::default();
        let given = words.retry.clone().unwrap_or_default();
        let mut span = |name: &str, given: Option<&Located<Span>>, default: Duration| {
            let key = self.key(&format!("inbox.retry.{name}"));
            let Some(given) = given else {
                if stores {
                    self.loader.setting(&key, Span(default), Origin::Default);
                }
                return default;
            };
            self.loader.given(&key, given.value, given);
            if given.value.0 < Duration::from_millis(50) {
                let message = format!("{} is too short: write at least 50ms", given.value);
                self.loader.located_problem(&key, given, message);
            }
            given.value.0
        };
        let first = span("first", given.first.as_ref(), usual.first);
        let max = span("max", given.max.as_ref(), usual.max.max(first));
        let give_up = span("give_up", given.give_up.as_ref(), usual.give_up);
        if let Some(shorter) = given.max.as_ref().filter(|_| max < first) {
            let message =
                format!("{} is shorter than retry.first: write at least {}", shorter.value, Span(first));
            self.loader.located_problem(&self.key("inbox.retry.max"), shorter, message);
        }
        let key = self.key("inbox.dead_on");
        let Some(statuses) = &words.dead_on else {
            if stores {
                self.loader.setting(&key, join(&usual.dead_on), Origin::Default);
            }
            return Retry { first, max, give_up, ..usual };
        };
        let dead_on: Vec<u16> = statuses.iter().map(|status| status.value).collect();
        for status in statuses.iter().filter(|status| !(300..600).contains(&status.value)) {
            let message = format!(
                "{} does not say that an event failed: name statuses of 3xx, 4xx or 5xx",
                status.value
            );
            self.loader.located_problem(&key, status, message);
        }
        self.loader.given_list(&key, join(&dead_on), statuses);
        Retry { first, max, give_up, dead_on }
    }
}
