//! No more than the burst and the rate get through, and whoever waits as told does.

use std::time::Duration;

use hookgate::clock::Now;
use hookgate::gate::delivery::Client;
use hookgate::gate::filter::rate_limit::{Quota, RateLimit};
use proptest::collection::vec;
use proptest::prelude::*;

use super::kept;

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn no_window_holds_more_than_burst_and_rate((limit, gaps) in traffic()) {
        let admitted = limit.admitted(&gaps);
        for (n, start) in admitted.iter().enumerate() {
            for (more, end) in admitted[n..].iter().enumerate() {
                let beyond_burst = (more as u128 + 1).saturating_sub(u128::from(limit.count));
                // As products, because the rate is rarely a whole number of nanoseconds.
                let allowed = u128::from(end - start) * u128::from(limit.count);
                let used = beyond_burst * u128::from(limit.period);
                prop_assert!(used <= allowed, "{} from {start} to {end}", more + 1);
            }
        }
    }

    #[test]
    fn the_wait_that_is_told_is_enough_and_no_longer((limit, gaps) in traffic()) {
        let quota = limit.quota();
        let (mut arrival, mut now) = (0, 0);
        for gap in gaps {
            now += gap;
            match quota.step(arrival, now) {
                Ok(next) => arrival = next,
                Err(wait) => {
                    let then = now + nanos(wait);
                    prop_assert!(quota.step(arrival, then - 1).is_err(), "{wait:?} is longer than needed");
                    prop_assert!(quota.step(arrival, then).is_ok(), "{wait:?} is too short");
                }
            }
        }
    }

    #[test]
    fn a_client_that_obeys_retry_after_is_admitted((limit, gaps) in traffic()) {
        let checked = RateLimit::new(limit.quota());
        let mut now = Duration::ZERO;
        let ask = |now| checked.check(Client::Unknown, Now { mono: now, ..Now::at(0, 0) });
        for gap in gaps {
            now += Duration::from_nanos(gap);
            if let Err(refused) = ask(now) {
                now += Duration::from_secs(refused.retry_after_seconds().unwrap());
                prop_assert_eq!(ask(now), Ok(()));
            }
        }
    }

    #[test]
    fn no_quota_and_no_clock_make_it_panic(count: u32, period: Duration, arrival: u64, now: u64) {
        if let Some(quota) = Quota::new(count, period) {
            _ = quota.step(arrival, now);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    count: u32,
    /// In nanoseconds.
    period: u64,
}

impl Limit {
    fn quota(self) -> Quota {
        Quota::new(self.count, Duration::from_nanos(self.period)).unwrap()
    }

    /// When requests were let through.
    fn admitted(self, gaps: &[u64]) -> Vec<u64> {
        let (mut arrival, mut now) = (0, 0);
        let mut admitted = vec![];
        for gap in gaps {
            now += gap;
            if let Ok(next) = self.quota().step(arrival, now) {
                arrival = next;
                admitted.push(now);
            }
        }
        admitted
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// A limit, and the nanoseconds between requests that come about as fast as it allows.
fn traffic() -> impl Strategy<Value = (Limit, Vec<u64>)> {
    // Short periods show how an interval is rounded, long ones how Retry-After is.
    let period = prop_oneof![1u64..100, 1u64..100_000_000_000];
    let limit = (1u32..20, period).prop_map(|(count, period)| Limit { count, period });
    limit.prop_flat_map(|limit| {
        let gap = prop_oneof![Just(0), 0..=2 * limit.period / u64::from(limit.count)];
        (Just(limit), vec(gap, 0..80))
    })
}
