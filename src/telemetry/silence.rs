//! Watches routes that expect events, and says once when none has been accepted for
//! longer than expected, and once when that is over. What is refused ends no silence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use super::metrics::RouteMetrics;
use crate::clock::Now;
use crate::gate::route::Route;

/// What is remembered of each route, by its name, so that a reload changes nothing.
#[derive(Debug, Default)]
pub struct SilenceWatch {
    known: HashMap<Arc<str>, Known>,
}

/// By the monotonic clock: a wall clock that is set must not make or end a silence.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// When an event was last seen to be accepted, or the watch began.
    since: Duration,
    accepted: u64,
    /// Then.
    objected: u64,
    /// How long it was said to last; `None` if nothing was said.
    silent: Option<Duration>,
}

impl SilenceWatch {
    /// Sets the gauge of each route that expects something. Gives what is to be said now.
    pub fn look<'r>(
        &mut self,
        routes: impl Iterator<Item = (&'r Route, &'r RouteMetrics)>,
        now: Now,
    ) -> Vec<Event<'r>> {
        let mut said = Vec::new();
        let mut present = HashMap::new();
        for (route, metrics) in routes {
            let (accepted, objected) = (metrics.accepted(), metrics.objected());
            let fresh = Known { since: now.mono, accepted, objected, silent: None };
            let mut known = self.known.get(&route.name).copied().unwrap_or(fresh);
            if known.accepted != accepted {
                known = Known { silent: known.silent, ..fresh };
            }
            if let Some(expected) = route.expect_every {
                let lasts = now.mono.saturating_sub(known.since);
                let silent = (lasts > expected).then_some(lasts);
                metrics.set_silence(silent.unwrap_or_default());
                said.extend(news(route, expected, known, silent, objected));
                known.silent = silent;
            } else {
                known.silent = None;
            }
            present.insert(Arc::clone(&route.name), known);
        }
        self.known = present;
        said
    }
}

fn news(
    route: &Route,
    expected: Duration,
    known: Known,
    silent: Option<Duration>,
    objected: u64,
) -> Option<Event<'_>> {
    let (route, objected) = (&*route.name, objected - known.objected);
    match (known.silent, silent) {
        (None, Some(lasts)) => Some(Event::Silence { route, lasts, expected, objected }),
        (Some(lasted), None) => Some(Event::SilenceOver { route, lasted }),
        (None, None) | (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::config::flags::{Given, RunArgs};
    use crate::config::route::words::RouteWords;
    use crate::config::units::Span;
    use crate::gate::reason::{Reason, Verdict};
    use crate::telemetry::metrics::{Levels, Metrics};

    /// A gate that expects an event every hour, and what its watch says minute by minute.
    struct Hours {
        config: Config,
        metrics: Metrics,
        watch: SilenceWatch,
    }

    fn config(expect: Option<&str>) -> Config {
        let args = RunArgs {
            route: RouteWords {
                provider: Some("github".to_owned().into()),
                secrets: Some(vec![PathBuf::from("tests/config/secret").into()]),
                expect_every: expect.map(|span| span.parse::<Span>().unwrap().into()),
                ..RouteWords::default()
            },
            ..RunArgs::default()
        };
        Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"))
    }

    impl Hours {
        fn new() -> Self {
            Hours { config: config(Some("1h")), metrics: Metrics::new(), watch: SilenceWatch::default() }
        }

        /// A reload makes new handles of the same series.
        fn route(&self) -> Arc<RouteMetrics> {
            self.metrics.route(&self.config.routes[0].route)
        }

        fn ended(&self, verdict: Verdict, reason: Reason) {
            self.route().requests(verdict, reason).inc();
        }

        fn look(&mut self, minute: u64) -> Vec<String> {
            let (route, metrics) = (&self.config.routes[0].route, self.route());
            let said =
                self.watch.look(std::iter::once((route, &*metrics)), Now::at(1_800_000_000, minute * 60));
            said.iter().map(|event| event.told().2.into_owned()).collect()
        }

        /// As it is exposed; `None` if there is no such series.
        fn gauge(&self) -> Option<String> {
            let text = String::from_utf8(self.metrics.text(&Levels::default())).unwrap();
            let series = "hookgate_silence_seconds{route=\"default\"} ";
            text.lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned)
        }
    }

    #[test]
    fn silence_is_said_once_when_it_begins_and_once_when_it_ends() {
        let mut hours = Hours::new();
        for minute in [0, 30, 60] {
            assert_eq!(hours.look(minute), [""; 0], "it is within what is expected");
            assert_eq!(hours.gauge().as_deref(), Some("0"));
        }
        let begun = hours.look(61);
        assert!(begun[0].contains("no event accepted for 1h 1m,") && begun[0].contains("nothing came"));
        assert_eq!(hours.gauge().as_deref(), Some("3660"));
        assert_eq!(hours.look(120), [""; 0]);
        assert_eq!(hours.gauge().as_deref(), Some("7200"));
        hours.ended(Verdict::Accepted, Reason::Accepted);
        assert_eq!(hours.look(121), ["route default: the silence is over, it lasted for 2h"]);
        assert_eq!(hours.gauge().as_deref(), Some("0"));
        assert_eq!(hours.look(181), [""; 0], "the next hour begins with the event");
        assert_eq!(hours.look(182).len(), 1);
    }

    #[test]
    fn what_is_not_accepted_ends_no_silence_but_is_told() {
        let mut hours = Hours::new();
        hours.look(0);
        hours.ended(Verdict::Refused, Reason::SignatureMismatch);
        hours.ended(Verdict::Refused, Reason::Duplicate);
        hours.ended(Verdict::Failed, Reason::UpstreamTimeout);
        hours.ended(Verdict::Observed, Reason::TimestampStale);
        hours.ended(Verdict::Accepted, Reason::Handshake);
        let begun = hours.look(61);
        assert!(begun.len() == 1 && begun[0].contains("4 were refused or failed"), "{begun:?}");
        hours.ended(Verdict::Refused, Reason::SignatureMismatch);
        assert_eq!(hours.look(62), [""; 0]);
        assert_eq!(hours.gauge().as_deref(), Some("3720"));
    }

    #[test]
    fn a_reload_neither_ends_a_silence_nor_keeps_one_that_nobody_expects() {
        let mut hours = Hours::new();
        hours.look(0);
        hours.config = config(None);
        assert_eq!(hours.look(59), [""; 0]);
        assert_eq!(hours.gauge(), None, "nothing is expected");
        hours.config = config(Some("1h"));
        hours.route();
        assert_eq!(hours.gauge().as_deref(), Some("0"), "the series is there before the watch has looked");
        assert_eq!(hours.look(61).len(), 1, "it was silent all the time");
        hours.config = config(Some("2h"));
        assert_eq!(hours.look(62).len(), 1, "more time was given");
        hours.metrics.keep_only(std::iter::empty());
        assert_eq!(hours.gauge(), None, "the route is gone");
    }
}
