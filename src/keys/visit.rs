//! Addresses that are visited for a provider: it confirms a subscription when somebody asks for one. The gate puts
//! each together itself, and asks for it as it asks for keys.
//!
//! The sender waits for that. If it fails, only the sender can have it done again, so it must learn that it failed.
//! Copies cause one visit a minute.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::fetch::{Fault, Fetcher, LIMIT};
use crate::clock;
use crate::gate::handshake::Visit;
use crate::gate::reason::Reason;
use crate::gate::route::Route;
use crate::lock::lock;
use crate::telemetry::Telemetry;
use crate::telemetry::event::Event;

/// How long it is known that an address was visited.
const DONE: Duration = Duration::from_secs(60);
/// How long no other visit is tried after one that failed.
const FAILED: Duration = Duration::from_secs(1);
/// How many are remembered.
const MAX: usize = 64;

const SUCCESS: &str = "success";

/// How a visit can end, as metrics say it.
pub fn results() -> impl Iterator<Item = &'static str> {
    Fault::LABELS.into_iter().chain([SUCCESS])
}

/// What was visited lately.
#[derive(Default)]
pub struct Visits {
    lately: Mutex<HashMap<String, Lately>>,
}

/// What is known of an address, and until when.
struct Lately {
    said: Result<(), Reason>,
    until: Duration,
}

impl Visits {
    /// Visits an address, unless that was done lately.
    pub async fn make(
        &self,
        visit: &Visit,
        route: &Route,
        fetcher: &Fetcher,
        telemetry: &Telemetry,
    ) -> Result<(), Reason> {
        if let Some(said) = self.begin(&visit.url, clock::now().mono) {
            return said;
        }
        let ended = fetcher.visit(&visit.url).await;
        let (result, said, lasts) = match &ended {
            Ok(()) => (SUCCESS, Ok(()), DONE),
            Err(fault) => (fault.label(), Err(Reason::StoreUnavailable), FAILED),
        };
        self.end(&visit.url, said, clock::now().mono + lasts);
        telemetry.metrics.confirmed(&route.provider, result);
        let (route, url) = (&*route.name, &*visit.shown);
        match ended {
            Ok(()) => telemetry.tell(Event::Confirmed { route, url }),
            Err(fault) => telemetry.tell(Event::NotConfirmed { route, url, fault: &fault.to_string() }),
        }
        said
    }

    /// What is known of it; `None` if it is to be visited now.
    fn begin(&self, url: &str, now: Duration) -> Option<Result<(), Reason>> {
        let mut lately = lock(&self.lately);
        lately.retain(|_, known| now < known.until);
        if let Some(known) = lately.get(url) {
            return Some(known.said);
        }
        if lately.len() >= MAX {
            return Some(Err(Reason::Overloaded));
        }
        // However it ends, it is over by then.
        lately.insert(url.to_owned(), Lately { said: Err(Reason::InFlight), until: now + LIMIT });
        None
    }

    fn end(&self, url: &str, said: Result<(), Reason>, until: Duration) {
        lock(&self.lately).insert(url.to_owned(), Lately { said, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_cause_one_visit_and_no_more_are_remembered_than_there_is_room_for() {
        let (visits, at) = (Visits::default(), Duration::from_millis);
        assert_eq!(visits.begin("a", at(0)), None);
        assert_eq!(visits.begin("a", at(10)), Some(Err(Reason::InFlight)));
        visits.end("a", Err(Reason::StoreUnavailable), at(20) + FAILED);
        assert_eq!(visits.begin("a", at(30)), Some(Err(Reason::StoreUnavailable)));
        assert_eq!(visits.begin("a", at(1020)), None, "it is tried again");
        visits.end("a", Ok(()), at(1030) + DONE);
        assert_eq!(visits.begin("a", at(1040)), Some(Ok(())));
        for n in 1..MAX {
            assert_eq!(visits.begin(&n.to_string(), at(1050)), None);
        }
        assert_eq!(visits.begin("b", at(1060)), Some(Err(Reason::Overloaded)));
        assert_eq!(visits.begin("b", at(1050) + LIMIT), None, "whoever was dropped holds no place");
        assert_eq!(visits.begin("a", at(1030) + DONE), None);
    }
}
