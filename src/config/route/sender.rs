//! What follows from how a provider's sender behaves: what it is answered, how long the application has,
//! and what the operator should know.

use std::time::Duration;

use super::Endpoint;
use crate::config::Origin;
use crate::config::raw::{self, Meaning, Retries};
use crate::config::units::{Rate, Span};
use crate::gate::reason::{Answer, Answers, Reason};
use crate::gate::route::Stops;
use crate::gate::scheme::Recipe;
use crate::inbox::When;

impl Endpoint<'_> {
    pub(super) fn sender(&self) -> Option<&raw::Sender> {
        self.preset.as_ref()?.sender.as_ref()
    }

    /// Whether the sender acts on what the application answers.
    pub(super) fn is_answer_meaningful(&self) -> bool {
        self.sender().is_some_and(|sender| sender.answer == Some(Meaning::Meaningful))
    }

    /// What is answered: as the route says, else as the provider demands it.
    pub(super) fn answers(&mut self) -> Answers {
        const REFUSAL: &str = "a refusal is a 4xx or 5xx, and 410 makes providers delete the endpoint";
        const SUCCESS: &str = "the event was taken: after anything but 2xx senders repeat it, or give up";

        let provider = self.preset.as_ref().map(|preset| preset.status.clone()).unwrap_or_default();
        let sender = self.sender().cloned().unwrap_or_default();
        let own = self.raw.status.clone().unwrap_or_default();
        let own_ack = self.raw.inbox.ack.as_ref().map(|ack| ack.value.clone());
        let has_own_ack = own_ack.is_some();
        let is_of_inbox = |name: &str| name == "ack" && has_own_ack;
        let mut answer = |name: &str, words: [Option<raw::Answer>; 3], usual: Reason, refuses: bool| {
            let mut answer = Answer::default();
            for words in words.into_iter().flatten() {
                answer.status = answer.status.or(words.status);
                if answer.text.is_none() {
                    answer.text = words.text.map(Into::into);
                    answer.media = words.media.map(Into::into);
                }
            }
            let (range, why) = if refuses { (400..600, REFUSAL) } else { (200..300, SUCCESS) };
            let status = answer.status.unwrap_or(usual.status());
            let key = if is_of_inbox(name) { format!("inbox.{name}") } else { format!("status.{name}") };
            if !range.contains(&status) || status == 410 {
                self.problem(&key, format!("{status} cannot be used: {why}"));
            }
            if matches!(status, 204 | 205) && answer.text.as_ref().is_some_and(|text| !text.is_empty()) {
                self.problem(&key, format!("a {status} has no text: leave the text out, or say 200"));
            }
            let is_media =
                |media: &str| media.contains('/') && media.bytes().all(|b| matches!(b, 0x20..=0x7e));
            if answer.media.as_deref().is_some_and(|media| !is_media(media)) {
                self.problem(&key, "type is a media type, such as text/plain or text/xml");
            }
            answer
        };
        let answers = Answers {
            last: sender.final_statuses(),
            signature: answer(
                "signature",
                [own.signature, provider.signature, None],
                Reason::SignatureMismatch,
                true,
            ),
            timestamp: answer(
                "timestamp",
                [own.timestamp, provider.timestamp, None],
                Reason::TimestampStale,
                true,
            ),
            duplicate: answer(
                "duplicate",
                [own.duplicate, provider.duplicate, sender.duplicate],
                Reason::Duplicate,
                false,
            ),
            ack: answer("ack", [own_ack.or(own.ack), provider.ack, sender.ack], Reason::Filtered, false),
        };
        self.tell_of_unrepeated(&answers);
        answers
    }

    fn tell_of_unrepeated(&mut self, answers: &Answers) {
        let usual = [Reason::UpstreamFailed, Reason::UpstreamTimeout, Reason::UpstreamUnreachable];
        let changed: Vec<_> =
            usual.iter().filter(|reason| answers.to(**reason).status != reason.status()).collect();
        if let Some(first) = changed.first() {
            let (usual, now) = (first.status(), answers.to(**first).status);
            let key = self.key("status");
            self.loader.notice(format!(
                "{key}: the provider does not repeat after {usual}, so it is answered {now} when the application fails"
            ));
        }
    }

    /// How long the sender waits, less what the answer needs on its way, if that is shorter than the
    /// application may take.
    pub(super) fn patience(&mut self, name: &str) -> Option<Duration> {
        let waits = self.sender()?.waits?;
        let patience = waits.0.saturating_sub((waits.0 / 10).max(Duration::from_millis(200)));
        if self.all.exchange.timeout <= patience {
            return None;
        }
        let Some(own) = &self.all.application.upstream_timeout else {
            self.loader.setting(&self.key("upstream_timeout"), Span(patience), Origin::Provider);
            return Some(patience);
        };
        self.loader.notice(format!(
            "route {name}: upstream_timeout is {}, and the provider waits {waits}: it counts a failure before the \
             application's answer comes; set at most {}",
            own.value,
            Span(patience)
        ));
        None
    }

    /// That retries may come too late to be fresh, because no page says which time they carry.
    pub(super) fn tell_of_stamps(&mut self, name: &str, recipes: &[Recipe]) {
        let Some(&raw::Sender { stamp: None, retries: Some(retries), span: Some(span), .. }) = self.sender()
        else {
            return;
        };
        let tolerances = recipes.iter().filter_map(|recipe| Some(recipe.timestamp.as_ref()?.tolerance));
        let Some(tolerance) = tolerances.max().filter(|tolerance| *tolerance < span.0) else { return };
        if retries != Retries::None {
            self.loader.notice(format!(
                "route {name}: the provider repeats for {span}, and no page of it says whether a retry is signed with a new \
                 time: if retries are refused as timestamp_stale after {}, raise tolerance",
                Span(tolerance)
            ));
        }
    }

    /// What an operator of this route should know of its sender.
    pub(super) fn tell_of_sender(&mut self, name: &str, stores: When) {
        if stores != When::Never {
            return;
        }
        let limit = self.raw.rate_limit.as_ref().and_then(|own| own.value.limit);
        if matches!(limit, Some(Rate::Limit { .. })) && self.loses_what_is_limited() {
            let or_kept =
                if self.is_answer_meaningful() { "" } else { ", or inbox: { on: failure }, which keeps it" };
            self.loader.notice(format!(
                "route {name}: what is over rate_limit is answered 429, and the provider does not send that again: write \
                 rate_limit: off{or_kept}"
            ));
        }
        let Some(retries) = self.sender().and_then(|sender| sender.retries) else { return };
        let text = match retries {
            Retries::None => {
                "does not repeat what fails: an event that the application does not take is lost"
            }
            Retries::Few => {
                "repeats what fails a few times only: an application that is away for longer loses events"
            }
            Retries::Many => return,
        };
        let remedy = if self.is_answer_meaningful() {
            ""
        } else {
            "; inbox: { on: failure } with a state_dir keeps it"
        };
        self.loader.notice(format!("route {name}: the provider {text}{remedy}"));
    }

    /// Whether a sender comes again if it is told to. One of whom nothing is known does.
    pub(super) fn repeats(&self) -> bool {
        self.sender().is_none_or(|sender| sender.retries != Some(Retries::None))
    }

    /// When it stops sending to an endpoint that fails.
    pub(super) fn stops(&mut self, name: &str) -> Option<Stops> {
        let raw::Disables { when, failures, after } = self.sender()?.disables.clone()?;
        self.loader.notice(format!("route {name}: the provider stops sending {when}"));
        Some(Stops { when: when.into(), failures, after: after.map(|span| span.0) })
    }

    /// Whether a sender loses what it is told to send later.
    pub(super) fn loses_what_is_limited(&self) -> bool {
        !self.repeats() || self.sender().is_some_and(|sender| sender.final_statuses().contains(&429))
    }
}

impl raw::Sender {
    /// The statuses after which it gives up.
    pub fn final_statuses(&self) -> Vec<u16> {
        let last = self.last.iter().flat_map(|set| set.0.clone());
        last.filter(|status| !self.again.iter().any(|set| set.0.contains(status))).collect()
    }
}
