//! How much of a route reaches the application at once, and how fast.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::Endpoint;
use crate::config::Origin;
use crate::config::units::{Rate, Span};
use crate::gate::filter::rate_limit::Quota;
use crate::gate::route::Deliver;

/// How long a delivery waits for its turn if its sender comes again anyway.
const SHORT_WAIT: Duration = Duration::from_secs(1);

impl Endpoint<'_> {
    pub(super) fn deliver(&mut self, patience: Option<Duration>) -> Deliver {
        let words = &self.raw.deliver;
        let mut deliver = Deliver { wait: self.wait(patience), ..Deliver::default() };
        if let Some(most) = &words.max_concurrent {
            let key = self.key("deliver.max_concurrent");
            deliver.max_concurrent = NonZeroUsize::new(most.value);
            if deliver.max_concurrent.is_none() {
                let message = "0 would let nothing through: write at least 1, or leave it out for no bound";
                self.loader.located_problem(&key, most, message);
            }
            self.loader.given(&key, most.value, most);
        } else {
            self.loader.setting(&self.key("deliver.max_concurrent"), "none", Origin::Default);
        }
        if let Some(rate) = &words.rate {
            let key = self.key("deliver.rate");
            if let Rate::Limit { count, period } = rate.value {
                deliver.rate = Quota::new(count, period);
                if deliver.rate.is_none() {
                    let message =
                        format!("{} is too much to count: write a smaller rate, or off", rate.value);
                    self.loader.located_problem(&key, rate, message);
                }
            }
            self.loader.given(&key, rate.value, rate);
        } else {
            self.loader.setting(&self.key("deliver.rate"), "off", Origin::Default);
        }
        if deliver.is_bounded() {
            let wait = Span(deliver.wait);
            self.loader.notice(format!(
                "{}: a delivery waits at most {wait} for its turn, and is answered 503 then",
                self.key("deliver")
            ));
        }
        deliver
    }

    /// Who would lose the event waits as long as its sender can be kept waiting; half of that is the
    /// application's. Who comes again does that soon.
    fn wait(&self, patience: Option<Duration>) -> Duration {
        let half = patience.unwrap_or(self.all.exchange.timeout) / 2;
        if self.loses_what_is_limited() { half } else { half.min(SHORT_WAIT) }
    }
}
