//! A rate limit for each client address: the generic cell rate algorithm (GCRA),
//! exact and one number per client.
//!
//! The step is a pure function. The table around it is the one thing in the gate
//! that changes; it is bounded and survives reloads.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::quality::RandomState;
use sha2::{Digest, Sha256};

use crate::clock::Now;
use crate::gate::delivery::Client;
use crate::gate::reason::{Reason, Reject};

/// So many requests in so much time; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Time that one request uses up, in nanoseconds.
    interval: u64,
    /// Time that may be used up in advance: the burst.
    tolerance: u64,
}

impl Quota {
    /// `None` if the count or the period is zero.
    pub fn new(count: u32, period: Duration) -> Option<Self> {
        let period = u64::try_from(period.as_nanos()).ok().filter(|p| *p > 0)?;
        let interval = period.checked_div(u64::from(count))?.max(1);
        // Rounded up, so that the limit is never exceeded.
        let interval = if interval * u64::from(count) < period { interval + 1 } else { interval };
        Some(Quota { interval, tolerance: interval.checked_mul(u64::from(count))? })
    }

    /// So many times as many requests in the same time.
    #[must_use]
    pub fn times(self, n: u32) -> Self {
        Quota { interval: (self.interval / u64::from(n.max(1))).max(1), ..self }
    }

    /// What one request uses up and what may be used up in advance, in microseconds, for
    /// clocks that are no finer. Rounded so that the limit is never exceeded.
    fn micros(self) -> (u64, u64) {
        let interval = self.interval.div_ceil(1000);
        (interval, interval.saturating_mul(self.tolerance / self.interval))
    }

    /// How many requests in how much time.
    pub fn limit(self) -> (u64, Duration) {
        (self.tolerance / self.interval, Duration::from_nanos(self.tolerance))
    }

    /// One request at `now`, given the theoretical arrival time of the client's next
    /// conforming request. Gives the new arrival time, or how long to wait.
    pub fn step(self, arrival: u64, now: u64) -> Result<u64, Duration> {
        let next = arrival.max(now).saturating_add(self.interval);
        match (next - now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(next),
            Some(early) => Err(Duration::from_nanos(early)),
        }
    }
}

/// The limit of a route. Cloning shares the table.
#[derive(Clone, Debug)]
pub struct RateLimit {
    quota: Quota,
    /// Whether gates that share a store count a client's requests together.
    shared: bool,
    cells: Arc<Cells>,
}

/// A client's place in a limit that gates share, by a digest that says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedCell {
    pub digest: [u8; 16],
    pub interval_us: u64,
    pub tolerance_us: u64,
}

/// Clients that are remembered at once, for each route.
const MAX_CLIENTS: usize = 65_536;

#[derive(Debug, Default)]
struct Cells {
    /// Its seed is drawn at the start and no answer tells of it, so nobody can choose addresses that collide.
    arrivals: DashMap<IpAddr, u64, RandomState>,
    /// When the table is full of active clients, newcomers share one cell.
    overflow: AtomicU64,
    swept: AtomicU64,
}

impl RateLimit {
    pub fn new(quota: Quota) -> Self {
        RateLimit { quota, shared: false, cells: Arc::default() }
    }

    /// Whether gates that share a store share the limit too.
    #[must_use]
    pub fn shared(self, shared: bool) -> Self {
        RateLimit { shared, ..self }
    }

    /// The new limit, with what the old one remembers of the clients.
    #[must_use]
    pub fn adopting(&self, old: &RateLimit) -> Self {
        RateLimit { cells: Arc::clone(&old.cells), ..*self }
    }

    /// The time that one request uses up.
    pub fn pace(&self) -> Duration {
        Duration::from_nanos(self.quota.interval)
    }

    /// Where gates that share the limit count the client; `None` if each counts for itself.
    pub fn shared_cell(&self, route: &str, client: Client) -> Option<SharedCell> {
        if !self.shared {
            return None;
        }
        let digest =
            Sha256::new().chain_update(route).chain_update([0]).chain_update(octets(cell_of(client)));
        let mut cell = [0; 16];
        cell.copy_from_slice(&digest.finalize()[..16]);
        let (interval_us, tolerance_us) = self.quota.micros();
        Some(SharedCell { digest: cell, interval_us, tolerance_us })
    }

    /// Whether [`check`](Self::check) would let the client through; uses nothing up.
    pub fn peek(&self, client: Client, now: Now) -> Result<(), Reject> {
        let arrival = self.cells.arrivals.get(&cell_of(client)).map_or(0, |arrival| *arrival);
        self.step(arrival, nanos(now)).map(drop)
    }

    pub fn check(&self, client: Client, now: Now) -> Result<(), Reject> {
        let now = nanos(now);
        let key = cell_of(client);
        if let Some(mut arrival) = self.cells.arrivals.get_mut(&key) {
            *arrival = self.step(*arrival, now)?;
            return Ok(());
        }
        if self.cells.is_full(now) {
            return self.check_overflow(now);
        }
        let mut arrival = self.cells.arrivals.entry(key).or_insert(0);
        *arrival = self.step(*arrival, now)?;
        Ok(())
    }

    /// Two at once must not both take the last place: a step holds if nobody stepped in between.
    fn check_overflow(&self, now: u64) -> Result<(), Reject> {
        let overflow = &self.cells.overflow;
        let mut arrival = overflow.load(Ordering::Relaxed);
        loop {
            let next = self.step(arrival, now)?;
            match overflow.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(meanwhile) => arrival = meanwhile,
            }
        }
    }

    fn step(&self, arrival: u64, now: u64) -> Result<u64, Reject> {
        self.quota.step(arrival, now).map_err(|wait| Reject::retry_after(Reason::RateLimited, wait))
    }

    pub fn quota(&self) -> Quota {
        self.quota
    }

    pub fn clients(&self) -> usize {
        self.cells.arrivals.len()
    }
}

impl Cells {
    /// A cell whose arrival time has passed is as good as none, so dropping it loses nothing.
    fn is_full(&self, now: u64) -> bool {
        const SWEEP_EVERY: u64 = 1_000_000_000;
        if self.arrivals.len() < MAX_CLIENTS {
            return false;
        }
        let swept = self.swept.load(Ordering::Relaxed);
        let due = now.saturating_sub(swept) >= SWEEP_EVERY || swept == 0;
        if due && self.swept.compare_exchange(swept, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.arrivals.retain(|_, arrival| *arrival > now);
        }
        self.arrivals.len() >= MAX_CLIENTS
    }
}

fn nanos(now: Now) -> u64 {
    u64::try_from(now.mono.as_nanos()).unwrap_or(u64::MAX)
}

/// One cell for each IPv4 address and for each IPv6 /64, which is what one customer
/// gets (RFC 6177). Unknown senders share a cell.
fn cell_of(client: Client) -> IpAddr {
    match client {
        Client::Known(IpAddr::V6(v6)) => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        Client::Known(v4 @ IpAddr::V4(_)) => v4,
        Client::Unknown => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// An IPv4 address as the IPv6 address that stands for it.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(count: u32, period: u64) -> RateLimit {
        RateLimit::new(Quota::new(count, Duration::from_secs(period)).unwrap())
    }

    fn client(ip: &str) -> Client {
        Client::Known(ip.parse().unwrap())
    }

    #[test]
    fn the_hundred_and_first_in_a_minute_is_refused_and_told_the_truth() {
        let limit = limit(100, 60);
        let sender = client("192.0.2.1");
        for n in 0..100 {
            assert_eq!(limit.check(sender, Now::at(0, 5)), Ok(()), "request {n}");
        }
        let refused = limit.check(sender, Now::at(0, 5)).unwrap_err();
        assert_eq!(refused.reason, Reason::RateLimited);
        let wait = refused.retry_after_seconds().unwrap();
        assert_eq!(limit.check(sender, Now::at(0, 5 + wait)), Ok(()), "after the wait it passes");
    }

    #[test]
    fn clients_do_not_share_a_limit_but_a_customer_network_does() {
        let limit = limit(1, 60);
        for ip in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert!(limit.check(client(ip), Now::at(0, 0)).is_ok(), "{ip}");
        }
        assert!(limit.check(client("2001:db8::ffff"), Now::at(0, 0)).is_err(), "same /64");
    }

    #[test]
    fn the_table_is_bounded_and_newcomers_are_still_limited() {
        let limit = limit(1, 1_000_000);
        let v4 = |n: usize| Client::Known(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        for n in 0..MAX_CLIENTS {
            assert!(limit.check(v4(n), Now::at(0, 1)).is_ok());
        }
        assert!(limit.check(v4(MAX_CLIENTS), Now::at(0, 1)).is_ok(), "the shared cell");
        assert!(limit.check(v4(MAX_CLIENTS + 1), Now::at(0, 1)).is_err(), "is one cell");
        assert_eq!(limit.clients(), MAX_CLIENTS);
        assert!(limit.check(v4(MAX_CLIENTS + 2), Now::at(0, 2_000_000)).is_ok(), "idle clients make room");
        assert_eq!(limit.clients(), 1);
    }

    #[test]
    fn a_full_table_is_swept_once_a_second_of_clients_that_are_idle_again() {
        let limit = RateLimit::new(Quota::new(1, Duration::from_millis(100)).unwrap());
        let at = |millis| Now { mono: Duration::from_millis(millis), ..Now::at(0, 0) };
        let fill = |now| {
            for n in 0..u32::try_from(MAX_CLIENTS).unwrap() {
                _ = limit.check(Client::Known(IpAddr::from(n.to_be_bytes())), now);
            }
            assert_eq!(limit.clients(), MAX_CLIENTS);
        };
        let newcomer = |now: Now| {
            let address = Ipv6Addr::from_bits(now.mono.as_nanos() << 64);
            _ = limit.check(Client::Known(IpAddr::V6(address)), now);
            limit.clients()
        };
        fill(at(0));
        assert_eq!(newcomer(at(99)), MAX_CLIENTS, "all are active");
        assert_eq!(newcomer(at(1098)), MAX_CLIENTS, "the last sweep was less than a second ago");
        assert_eq!(newcomer(at(1099)), 1);
        fill(at(2000));
        assert_eq!(newcomer(at(2100)), 1, "a cell whose time has just come is as good as none");
    }

    #[test]
    fn while_there_is_room_nobody_is_forgotten() {
        let limit = limit(1, 1);
        limit.check(client("192.0.2.1"), Now::at(0, 0)).unwrap();
        limit.check(client("192.0.2.2"), Now::at(0, 5)).unwrap();
        assert_eq!(limit.clients(), 2);
    }

    #[test]
    fn the_shared_cell_gives_each_place_once() {
        const PLACES: u32 = 100_000;
        let limit = limit(PLACES, 1_000_000_000);
        let taken = || (0..PLACES).filter(|_| limit.check_overflow(1).is_ok()).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(taken)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 100_000);
    }

    #[test]
    fn a_shared_limit_counts_as_its_own_does_and_only_if_it_is_shared() {
        let limit = |count, ms| RateLimit::new(Quota::new(count, Duration::from_millis(ms)).unwrap());
        let sender = client("192.0.2.1");
        assert_eq!(limit(100, 60_000).shared_cell("route", sender), None);
        for (count, ms, interval_us) in [(100, 60_000, 600_000), (7, 1000, 142_858), (5000, 1, 1)] {
            let cell = limit(count, ms).shared(true).shared_cell("route", sender).unwrap();
            assert_eq!(cell.interval_us, interval_us);
            assert_eq!(cell.tolerance_us, interval_us * u64::from(count), "the burst is the whole count");
        }
        let cell = |route, ip| limit(1, 1).shared(true).shared_cell(route, client(ip)).unwrap().digest;
        assert_eq!(cell("a", "2001:db8::1"), cell("a", "2001:db8::2"), "one customer");
        assert_ne!(cell("a", "192.0.2.1"), cell("a", "192.0.2.2"));
        assert_ne!(cell("a", "192.0.2.1"), cell("b", "192.0.2.1"));
    }

    #[test]
    fn a_reload_keeps_what_is_remembered() {
        let old = limit(1, 60);
        old.check(client("192.0.2.1"), Now::at(0, 0)).unwrap();
        let new = limit(1, 60).adopting(&old);
        assert!(new.check(client("192.0.2.1"), Now::at(0, 0)).is_err());
    }

    #[test]
    fn nonsense_quotas_cannot_be_made() {
        assert_eq!(Quota::new(0, Duration::from_secs(1)), None);
        assert_eq!(Quota::new(1, Duration::ZERO), None);
        assert!(Quota::new(u32::MAX, Duration::from_nanos(1)).is_some());
    }
}
