//! Repeats what is not as it was configured for as long as it is not: a secret that is missing every
//! hour, what needs a restart every day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use crate::gate::route::Route;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When something was last told, on the monotonic clock.
#[derive(Debug, Default)]
pub struct Reminder {
    /// By route and key.
    missing: HashMap<(Arc<str>, Arc<str>), Duration>,
    pending: Option<Duration>,
}

impl Reminder {
    /// The secrets that are missing, of which nothing was told for an hour.
    pub fn of_missing<'r>(
        &mut self,
        routes: impl Iterator<Item = &'r Route>,
        now: Duration,
    ) -> Vec<Event<'r>> {
        let mut told = Vec::new();
        let mut missing = HashMap::new();
        for route in routes {
            for awaited in &route.awaits {
                let name = (Arc::clone(&route.name), Arc::clone(&awaited.key));
                let last = self.missing.get(&name).copied().filter(|last| now.saturating_sub(*last) < HOUR);
                if last.is_none() {
                    let serves = !route.signature.awaits_keys();
                    told.push(Event::SecretMissing { route: &route.name, awaited, serves });
                }
                missing.insert(name, last.unwrap_or(now));
            }
        }
        self.missing = missing;
        told
    }

    /// Whether it is time to tell again what needs a restart. When it begins, the reload tells it.
    pub fn of_restart(&mut self, is_pending: bool, now: Duration) -> bool {
        let is_due = self.pending.is_some_and(|last| now.saturating_sub(last) >= DAY);
        let last = if is_due { now } else { self.pending.unwrap_or(now) };
        self.pending = is_pending.then_some(last);
        is_due && is_pending
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;
    use crate::config::flags::{Given, RunArgs};

    fn hours(n: u64) -> Duration {
        HOUR * u32::try_from(n).unwrap()
    }

    #[test]
    fn a_missing_secret_is_told_every_hour_until_it_comes() {
        let args = RunArgs {
            config: Some(PathBuf::from("tests/config/good/secret-missing.yaml").into()),
            ..RunArgs::default()
        };
        let config = Config::load(&Given::flags(args)).unwrap_or_else(|problems| panic!("{problems}"));
        let mut reminder = Reminder::default();
        let mut look = |n: u64, came: bool| {
            let routes = config.routes.iter().map(|keyed| &keyed.route);
            let routes = routes.filter(|route| !came || route.awaits.is_empty());
            let said = reminder.of_missing(routes, hours(n));
            said.iter().map(|event| event.told().2.into_owned()).collect::<Vec<_>>()
        };
        let first = look(0, false);
        assert_eq!(first.len(), 1);
        assert!(first[0].starts_with("route partner: the secret nowhere is missing: the route answers 503"));
        assert_eq!(look(0, false), [""; 0]);
        assert_eq!(look(1, false), first);
        assert_eq!(look(2, true), [""; 0]);
        assert_eq!(look(2, false), first, "it is gone again");
    }

    #[test]
    fn a_restart_that_is_pending_is_told_every_day_until_it_is_not() {
        let mut reminder = Reminder::default();
        for (hour, is_pending, is_told) in [
            (0, false, false),
            (1, true, false), // the reload has told it
            (24, true, false),
            (25, true, true),
            (26, true, false),
            (49, true, true),
            (50, false, false),
            (99, true, false),
            (123, true, true),
            (147, false, false),
        ] {
            assert_eq!(reminder.of_restart(is_pending, hours(hour)), is_told, "hour {hour}");
        }
    }
}
