//! A budget for failed signatures, so that a flood of forgeries is answered at the cost of a
//! look at the head.
//!
//! A client address that has spent it is not cut off, because a provider may share it with
//! the flood (one ingress, one cloud's egress): a small lane stays open, in which deliveries
//! are still verified. Deliveries that verify never use the budget up.

use super::rate_limit::{Quota, RateLimit};
use crate::clock::Now;
use crate::gate::delivery::Client;
use crate::gate::reason::Reject;

/// Cloning shares what is remembered.
#[derive(Clone, Debug)]
pub struct FailureBudget {
    failures: RateLimit,
    lane: RateLimit,
}

impl FailureBudget {
    /// `failures` for each client address, `lane` for all together that have spent them.
    pub fn new(failures: Quota, lane: Quota) -> Self {
        FailureBudget { failures: RateLimit::new(failures), lane: RateLimit::new(lane) }
    }

    /// For each client address.
    pub fn quota(&self) -> Quota {
        self.failures.quota()
    }

    /// The new budget, with what the old one remembers of the clients.
    #[must_use]
    pub fn adopting(&self, old: &FailureBudget) -> Self {
        FailureBudget { failures: self.failures.adopting(&old.failures), lane: self.lane.adopting(&old.lane) }
    }

    /// Whether a delivery of this client is verified at all.
    pub fn check(&self, client: Client, now: Now) -> Result<(), Reject> {
        // The lane is shared: everybody in it is one client.
        self.failures.peek(client, now).or_else(|_| self.lane.check(Client::Unknown, now))
    }

    /// A delivery of this client had no valid signature.
    pub fn charge(&self, client: Client, now: Now) {
        _ = self.failures.check(client, now); // spent already: it cannot be more than spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn budget() -> FailureBudget {
        let quota = |count, seconds| Quota::new(count, Duration::from_secs(seconds)).unwrap();
        FailureBudget::new(quota(3, 60), quota(2, 1))
    }

    fn client(ip: &str) -> Client {
        Client::Known(ip.parse().unwrap())
    }

    #[test]
    fn only_failures_use_the_budget_up() {
        let budget = budget();
        let sender = client("192.0.2.1");
        for _ in 0..1000 {
            assert!(budget.check(sender, Now::at(0, 0)).is_ok());
        }
        for _ in 0..3 {
            assert!(budget.check(sender, Now::at(0, 0)).is_ok());
            budget.charge(sender, Now::at(0, 0));
        }
        assert!(budget.check(client("192.0.2.2"), Now::at(0, 0)).is_ok(), "others are untouched");
        let through = (0..100).filter(|_| budget.check(sender, Now::at(0, 0)).is_ok()).count();
        assert_eq!(through, 2, "the lane is small");
        assert!(budget.check(sender, Now::at(0, 1)).is_ok(), "and stays open");
        assert!(budget.check(sender, Now::at(0, 70)).is_ok(), "the budget comes back");
    }
}
