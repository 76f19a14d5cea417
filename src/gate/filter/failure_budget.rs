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
    /// Of a client in the names of all tenants, where there are some.
    of_all_tenants: Option<RateLimit>,
    lane: RateLimit,
}

/// A client that delivers for many tenants has so many times the budget. What fails for one of them counts
/// for that one first; and whoever invents names has no new budget with each.
const FOR_ALL_TENANTS: u32 = 10;

impl FailureBudget {
    /// `failures` for each client address, `lane` for all together that have spent them.
    pub fn new(failures: Quota, lane: Quota) -> Self {
        FailureBudget { failures: RateLimit::new(failures), of_all_tenants: None, lane: RateLimit::new(lane) }
    }

    /// The same, for a route that tenants share.
    #[must_use]
    pub fn of_tenants(self) -> Self {
        let all = self.failures.quota().times(FOR_ALL_TENANTS);
        FailureBudget { of_all_tenants: Some(RateLimit::new(all)), ..self }
    }

    /// For each client address.
    pub fn quota(&self) -> Quota {
        self.failures.quota()
    }

    /// The new budget, with what the old one remembers of the clients.
    #[must_use]
    pub fn adopting(&self, old: &FailureBudget) -> Self {
        let of_all_tenants = match (&self.of_all_tenants, &old.of_all_tenants) {
            (Some(limit), Some(old)) => Some(limit.adopting(old)),
            (limit, _) => limit.clone(),
        };
        FailureBudget {
            failures: self.failures.adopting(&old.failures),
            of_all_tenants,
            lane: self.lane.adopting(&old.lane),
        }
    }

    /// Whether a delivery of this client is verified at all; `counted_as` is the client, or what stands for
    /// it where it delivers for one tenant.
    pub fn check(&self, counted_as: Client, client: Client, now: Now) -> Result<(), Reject> {
        let of_all = self.of_all_tenants.as_ref().map_or(Ok(()), |all| all.peek(client, now));
        // The lane is shared: everybody in it is one client.
        of_all
            .and_then(|()| self.failures.peek(counted_as, now))
            .or_else(|_| self.lane.check(Client::Unknown, now))
    }

    /// A delivery of this client had no valid signature.
    pub fn charge(&self, counted_as: Client, client: Client, now: Now) {
        // What is spent already cannot be more than spent.
        _ = self.failures.check(counted_as, now);
        if let Some(all) = &self.of_all_tenants {
            _ = all.check(client, now);
        }
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
            assert!(budget.check(sender, sender, Now::at(0, 0)).is_ok());
        }
        for _ in 0..3 {
            assert!(budget.check(sender, sender, Now::at(0, 0)).is_ok());
            budget.charge(sender, sender, Now::at(0, 0));
        }
        assert!(
            budget.check(client("192.0.2.2"), client("192.0.2.2"), Now::at(0, 0)).is_ok(),
            "others are untouched"
        );
        let through = (0..100).filter(|_| budget.check(sender, sender, Now::at(0, 0)).is_ok()).count();
        assert_eq!(through, 2, "the lane is small");
        assert!(budget.check(sender, sender, Now::at(0, 1)).is_ok(), "and stays open");
        assert!(budget.check(sender, sender, Now::at(0, 70)).is_ok(), "the budget comes back");
    }

    #[test]
    fn a_tenant_that_fails_leaves_the_others_their_budget_and_names_are_no_new_budget() {
        let budget = budget().of_tenants();
        let (sender, now) = (client("192.0.2.1"), Now::at(0, 0));
        let named = |name: &str| sender.of_tenant(name);
        for _ in 0..100 {
            budget.charge(named("a"), sender, now);
        }
        let through = |counted_as| (0..10).filter(|_| budget.check(counted_as, sender, now).is_ok()).count();
        assert!(through(named("b")) < 10, "a hundred failures are ten times the budget");
        let budget = budget_of_tenants();
        for _ in 0..3 {
            budget.charge(named("a"), sender, now);
        }
        let through = |counted_as| (0..10).filter(|_| budget.check(counted_as, sender, now).is_ok()).count();
        assert_eq!(through(named("b")), 10, "another tenant of the same sender");
        assert_eq!(through(named("a")), 2, "the lane");
        for n in 0..30 {
            budget.charge(named(&n.to_string()), sender, now);
        }
        assert_eq!(through(named("new")), 0, "invented names are no new budget, and the lane is used up");
        let other = client("192.0.2.2");
        assert!(budget.check(other.of_tenant("a"), other, now).is_ok(), "nor anybody else's");
    }

    fn budget_of_tenants() -> FailureBudget {
        budget().of_tenants()
    }
}
