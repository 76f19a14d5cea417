//! Watches how keys are used, and says once a day what follows from it: which end soon,
//! which old ones can be removed, and which new ones nobody uses yet.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::Event;
use super::metrics::RouteMetrics;
use crate::clock::Now;
use crate::gate::rotation::{Advice, DAY_MS, Use};
use crate::gate::route::Route;

/// What is remembered of each key, by the names of route and key, so that a reload changes nothing.
#[derive(Debug, Default)]
pub struct KeyWatch {
    known: HashMap<(Arc<str>, Arc<str>), Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    since_ms: i64,
    /// What was last said, and when.
    said: Option<(Advice, i64)>,
}

impl KeyWatch {
    /// What is to be said now. What was said within a day is not said again, unless it has changed.
    pub fn look<'r>(
        &mut self,
        routes: impl Iterator<Item = (&'r Route, &'r RouteMetrics)>,
        now: Now,
    ) -> Vec<Event<'r>> {
        // What ends was told at the start.
        let first = self.known.is_empty();
        let mut said = Vec::new();
        let mut present = HashMap::new();
        for (route, metrics) in routes {
            let name = |n: usize| (Arc::clone(&route.name), Arc::clone(&route.rotation.keys()[n].id));
            let fresh = Known { since_ms: now.wall_ms, said: None };
            let mut known: Vec<Known> = (0..route.rotation.keys().len())
                .map(|n| self.known.get(&name(n)).copied().unwrap_or(fresh))
                .collect();
            let uses: Vec<Use> = (known.iter().zip(route.rotation.keys()))
                .map(|(known, key)| Use {
                    since_ms: known.since_ms,
                    last_match_ms: metrics.last_match_ms(&key.id),
                })
                .collect();
            for (n, known) in known.iter_mut().enumerate() {
                let advice = Advice::of(&route.rotation, &uses, n, now);
                let news = advice.filter(|advice| {
                    known.said.is_none_or(|(last, at)| last != *advice || now.wall_ms - at >= DAY_MS)
                });
                if let Some(advice) = news {
                    known.said = Some((advice, now.wall_ms));
                    if !(first && advice.is_warning()) {
                        let key = &route.rotation.keys()[n].id;
                        said.push(Event::Key { route: &route.name, key, advice });
                    }
                }
                present.insert(name(n), *known);
            }
        }
        self.known = present;
        said
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::config::flags::{Given, RunArgs};
    use crate::config::route::words::RouteWords;
    use crate::telemetry::metrics::Metrics;

    const DAY: i64 = 86_400;

    /// A gate with two keys, and how its watch speaks as days go by.
    struct Days {
        config: Config,
        metrics: Metrics,
        watch: KeyWatch,
        start: i64,
    }

    impl Days {
        fn new(files: &[&str]) -> Self {
            let path = |file: &&str| PathBuf::from(format!("tests/config/{file}"));
            let args = RunArgs {
                route: RouteWords {
                    provider: Some("github".to_owned().into()),
                    secrets: Some(files.iter().map(|file| path(file).into()).collect()),
                    ..RouteWords::default()
                },
                ..RunArgs::default()
            };
            let config = Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
            Days { config, metrics: Metrics::new(), watch: KeyWatch::default(), start: 1_800_000_000 }
        }

        fn at(&self, days: f64) -> Now {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "some days")]
            Now::at(self.start + (days * DAY as f64) as i64, 0)
        }

        fn signed(&self, key: &str, days: f64) {
            // A reload makes new handles of the same series.
            self.metrics.route(&self.config.routes[0].route).key_matched(&key.into(), self.at(days).wall_ms);
        }

        fn look(&mut self, days: f64) -> Vec<String> {
            let route = &self.config.routes[0].route;
            let (metrics, now) = (self.metrics.route(route), self.at(days));
            let said = self.watch.look(std::iter::once((route, &*metrics)), now);
            said.iter().map(|event| event.told().2.into_owned()).collect()
        }
    }

    #[test]
    fn a_rotation_is_told_step_by_step_and_once_a_day() {
        let mut days = Days::new(&["secret", "anykey"]);
        assert_eq!(days.look(0.0), [""; 0]);
        days.signed("anykey", 0.5);
        let missed = days.look(0.6);
        assert!(
            missed.len() == 1 && missed[0].contains("newest secret secret has signed nothing"),
            "{missed:?}"
        );
        days.signed("anykey", 1.5);
        assert_eq!(days.look(1.55), [""; 0], "it was said within a day");
        assert_eq!(days.look(1.7), missed, "it is said again");
        days.signed("secret", 2.0);
        assert_eq!(days.look(2.1), [""; 0], "both are in use");
        days.signed("secret", 3.0);
        let done = days.look(3.1);
        assert!(done.len() == 1 && done[0].contains("anykey has signed nothing for a day"), "{done:?}");
        assert_eq!(days.look(3.2), [""; 0]);
        days.config = Days::new(&["secret"]).config;
        assert_eq!(days.look(5.0), [""; 0], "the old one was removed");
    }

    #[test]
    fn a_restart_does_not_make_an_old_key_look_unused() {
        let mut days = Days::new(&["secret", "anykey"]);
        days.look(0.0);
        days.signed("secret", 0.1);
        assert_eq!(days.look(0.9), [""; 0], "nobody has watched for a day");
        days.signed("secret", 1.0);
        assert_eq!(days.look(1.1).len(), 1);
    }
}
