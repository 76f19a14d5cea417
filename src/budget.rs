//! What all requests together may hold: their bodies, and what surrounds these: long heads,
//! buffers, room that is reserved. Everything is charged when it is allocated, and given back
//! when it is dropped. When all of it is taken, whoever waits for a sender gives way, beginning
//! with the address that holds most: idle senders cannot keep out others.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::oneshot;

use crate::gate::delivery::Client;
use crate::gate::reason::Reason;
use crate::lock::lock;

/// A head up to this size is part of what every connection takes.
pub const SHORT_HEAD: usize = 4096;
/// No head is read further. Heads above half of it are refused as well, but as a whole.
const LONGEST_HEAD: usize = 64 * 1024;
/// Surroundings that even the smallest budget has.
const LEAST_AROUND: usize = 1 << 20;

/// The sum of all that is held.
#[derive(Debug)]
pub struct Budget {
    /// For bodies.
    limit: usize,
    /// For bodies and what surrounds them.
    most: usize,
    bodies: AtomicUsize,
    all: AtomicUsize,
    /// Of `all`: heads that are not complete. They have no address to be fair to, so they may
    /// take an eighth.
    heads: AtomicUsize,
    waiting: Mutex<Waiting>,
}

impl Budget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget {
            limit,
            most: Budget::most(limit),
            bodies: AtomicUsize::new(0),
            all: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            waiting: Mutex::default(),
        })
    }

    /// What is held at most where `limit` bytes of bodies may be.
    pub const fn most(limit: usize) -> usize {
        limit.saturating_add(limit / 4).saturating_add(LEAST_AROUND)
    }

    /// Bytes of bodies that are held.
    pub fn bodies(&self) -> usize {
        self.bodies.load(Ordering::Relaxed)
    }

    fn take(&self, what: What, bytes: usize) -> bool {
        let (counter, limit) = match what {
            What::Body => (&self.bodies, self.limit),
            What::Room => (&self.all, self.most),
            What::Head => (&self.heads, self.most / 8),
        };
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Ends the oldest wait of the address that holds most, if that is more than the one who
    /// asks would hold. What comes back resolves when the memory is free.
    fn unseat(&self, holder: IpAddr, wants: usize) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.waiting();
        let own = waiting.holders.get(&holder).map_or(0, |of| of.held);
        let (most, of) = waiting.holders.iter_mut().max_by_key(|(_, of)| of.held)?;
        if of.held <= own + wants {
            return None;
        }
        let most = *most;
        let seat = *of.seats.first_entry()?.key();
        let seat = waiting.leave(most, seat)?;
        let (heir, gone) = oneshot::channel();
        _ = seat.give_way.send(heir); // if its wait is just over, `gone` resolves at once
        Some(gone)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

/// Who has a network of IPv6 is one sender.
pub fn one_sender(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[derive(Clone, Copy)]
enum What {
    Body,
    Room,
    Head,
}

/// Who waits for its sender, by address.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    holders: HashMap<IpAddr, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    held: usize,
    seats: BTreeMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    held: usize,
    give_way: oneshot::Sender<oneshot::Sender<()>>,
}

impl Waiting {
    fn leave(&mut self, holder: IpAddr, seat: u64) -> Option<Seat> {
        let of = self.holders.get_mut(&holder)?;
        let seat = of.seats.remove(&seat)?;
        of.held -= seat.held;
        if of.seats.is_empty() {
            self.holders.remove(&holder);
        }
        Some(seat)
    }
}

/// Removes a seat, also from under a wait that is given up.
struct Seated<'b> {
    budget: &'b Budget,
    holder: IpAddr,
    seat: u64,
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        self.budget.waiting().leave(self.holder, self.seat);
    }
}

/// What one request or one delivery holds.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    holder: IpAddr,
    body: usize,
    room: usize,
    /// Waits for this share to end.
    heir: Option<oneshot::Sender<()>>,
}

impl Share {
    pub fn new(budget: &Arc<Budget>) -> Self {
        let holder = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Share { budget: Arc::clone(budget), holder, body: 0, room: 0, heir: None }
    }

    /// Another one of the same sender.
    #[must_use]
    pub fn beside(&self) -> Self {
        let mut share = Share::new(&self.budget);
        share.holder = self.holder;
        share
    }

    /// To whom it is charged.
    pub fn belongs_to(&mut self, client: Client) {
        if let Client::Known(ip) = client {
            self.holder = one_sender(ip);
        }
    }

    /// Bytes of a body. The room for them is taken apart.
    pub fn body(&self) -> usize {
        self.body
    }

    pub fn room(&self) -> usize {
        self.room
    }

    pub async fn take_body(&mut self, bytes: usize) -> Result<(), Reason> {
        if !self.budget.take(What::Body, bytes) {
            self.unseat_for(What::Body, bytes).await?;
        }
        self.body += bytes;
        Ok(())
    }

    pub async fn take_room(&mut self, bytes: usize) -> Result<(), Reason> {
        if !self.budget.take(What::Room, bytes) {
            self.unseat_for(What::Room, bytes).await?;
        }
        self.room += bytes;
        Ok(())
    }

    pub fn give_back_room(&mut self, bytes: usize) {
        self.budget.all.fetch_sub(bytes, Ordering::Relaxed);
        self.room -= bytes;
    }

    /// There is none left: others give theirs up.
    async fn unseat_for(&mut self, what: What, bytes: usize) -> Result<(), Reason> {
        if bytes == 0 {
            return Ok(());
        }
        loop {
            let gone = self.budget.unseat(self.holder, self.room + bytes).ok_or(Reason::Overloaded)?;
            _ = gone.await; // an error as well says that the other share is dropped
            if self.budget.take(what, bytes) {
                return Ok(());
            }
        }
    }

    /// Waits for the sender, with a seat that can be taken away. `also` is held beside this.
    pub async fn wait<T>(&mut self, also: usize, sender: impl Future<Output = T>) -> Result<T, Reason> {
        let (give_way, asked) = oneshot::channel();
        let seated = {
            let mut waiting = self.budget.waiting();
            waiting.next += 1;
            let (seat, held) = (waiting.next, self.room + also);
            let of = waiting.holders.entry(self.holder).or_default();
            of.held += held;
            of.seats.insert(seat, Seat { held, give_way });
            Seated { budget: &self.budget, holder: self.holder, seat }
        };
        let heir = tokio::select! {
            biased;
            came = sender => return Ok(came),
            heir = asked => heir,
        };
        drop(seated);
        self.heir = heir.ok();
        Err(Reason::Overloaded)
    }

    /// Whether its place was given to somebody else, who waits for it.
    pub fn gives_way(&self) -> bool {
        self.heir.is_some()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bodies.fetch_sub(self.body, Ordering::Relaxed);
        self.budget.all.fetch_sub(self.room, Ordering::Relaxed);
    }
}

/// Counts a connection's bytes while a head is expected (or the handshake of TLS). Nobody else
/// sees a head before it is complete.
pub struct Intake {
    budget: Arc<Budget>,
    counts: AtomicBool,
    read: AtomicUsize,
    charged: AtomicUsize,
    /// What every connection takes anyway.
    free: usize,
    fault: OnceLock<Reason>,
    /// Whether a head was ever complete.
    served: AtomicBool,
    /// How the connection ended, if that was before the end of a head.
    cut: OnceLock<Cut>,
}

/// A connection that ended without a whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The sender left.
    Left,
    /// It was closed here: the time was over.
    Late,
    /// And nothing had come at all.
    Silent,
}

impl Intake {
    pub fn new(budget: &Arc<Budget>, free: usize) -> Arc<Self> {
        Arc::new(Intake {
            budget: Arc::clone(budget),
            counts: AtomicBool::new(true),
            read: AtomicUsize::new(0),
            charged: AtomicUsize::new(0),
            free,
            fault: OnceLock::new(),
            served: AtomicBool::new(false),
            cut: OnceLock::new(),
        })
    }

    /// A head begins.
    pub fn begin(&self) {
        self.release();
        self.read.store(0, Ordering::Relaxed);
        self.counts.store(true, Ordering::Relaxed);
    }

    /// It is complete: what follows is no head. Its memory stays charged.
    pub fn end(&self) {
        self.counts.store(false, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
    }

    /// The connection is closed. Up to `few` bytes are no beginning of a head.
    pub fn close(&self, left: bool, few: usize) {
        if !self.is_idle() || self.fault().is_some() {
            return;
        }
        let cut = match (self.read.load(Ordering::Relaxed) > few, self.served.load(Ordering::Relaxed)) {
            (true, _) if left => Cut::Left,
            (true, _) => Cut::Late,
            (false, false) => Cut::Silent,
            (false, true) => return, // it was kept for another request, and none came
        };
        _ = self.cut.set(cut); // closed once
    }

    pub fn cut(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    /// Whoever goes on with the head has charged it.
    pub fn release(&self) {
        let charged = self.charged.swap(0, Ordering::Relaxed);
        if charged > 0 {
            self.budget.heads.fetch_sub(charged, Ordering::Relaxed);
            self.budget.all.fetch_sub(charged, Ordering::Relaxed);
        }
    }

    /// Charges what was read. An error ends the connection.
    pub fn came(&self, bytes: usize) -> Result<(), Reason> {
        if !self.counts.load(Ordering::Relaxed) {
            return Ok(());
        }
        let read = self.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if read <= self.free {
            return Ok(());
        }
        self.charge(read).map_err(|reason| *self.fault.get_or_init(|| reason))
    }

    /// The buffer of a head doubles as it grows.
    fn charge(&self, read: usize) -> Result<(), Reason> {
        if read > LONGEST_HEAD {
            return Err(Reason::HeadersTooLarge);
        }
        let more = read.next_power_of_two() - self.charged.load(Ordering::Relaxed);
        if !self.budget.take(What::Head, more) {
            return Err(Reason::Overloaded);
        }
        if !self.budget.take(What::Room, more) {
            self.budget.heads.fetch_sub(more, Ordering::Relaxed);
            return Err(Reason::Overloaded);
        }
        self.charged.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Whether nothing is under way that would be lost with the connection.
    pub fn is_idle(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    /// Why nothing more is read.
    pub fn fault(&self) -> Option<Reason> {
        self.fault.get().copied()
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>, address: &str) -> Share {
        let mut share = Share::new(budget);
        share.belongs_to(Client::Known(address.parse().unwrap()));
        share
    }

    /// A request that waits for its sender and holds so much, until it is told to give way.
    fn idle(
        budget: &Arc<Budget>,
        address: &str,
        bytes: usize,
    ) -> tokio::task::JoinHandle<Result<(), Reason>> {
        let mut share = share(budget, address);
        assert!(budget.take(What::Room, bytes));
        share.room = bytes;
        tokio::spawn(async move { share.wait(0, std::future::pending()).await })
    }

    #[tokio::test]
    async fn the_oldest_wait_of_the_address_that_holds_most_gives_way() {
        let budget = Budget::new(0); // a mebibyte for what surrounds bodies
        let few = idle(&budget, "192.0.2.1", 300 << 10);
        let oldest = idle(&budget, "192.0.2.2", 300 << 10);
        tokio::task::yield_now().await;
        let younger = idle(&budget, "192.0.2.2", 300 << 10);
        tokio::task::yield_now().await;
        let mut newcomer = share(&budget, "192.0.2.3");
        assert_eq!(newcomer.take_room(200 << 10).await, Ok(()));
        assert_eq!(oldest.await.unwrap(), Err(Reason::Overloaded));
        assert!(!few.is_finished() && !younger.is_finished());
        assert_eq!(budget.all.load(Ordering::Relaxed), 800 << 10, "what gave way is free");
    }

    #[tokio::test]
    async fn nobody_takes_more_than_another_has() {
        let budget = Budget::new(0);
        let waits: Vec<_> =
            ["192.0.2.1", "192.0.2.2"].map(|address| idle(&budget, address, 500 << 10)).into();
        tokio::task::yield_now().await;
        let mut greedy = share(&budget, "192.0.2.3");
        assert_eq!(greedy.take_room(600 << 10).await, Err(Reason::Overloaded));
        let mut again = share(&budget, "192.0.2.2");
        assert_eq!(again.take_room(100 << 10).await, Err(Reason::Overloaded), "it has its part");
        assert!(waits.iter().all(|wait| !wait.is_finished()));
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_sender() {
        let budget = Budget::new(0);
        let waits: Vec<_> = (1..=10).map(|n| idle(&budget, &format!("2001:db8::{n}"), 100 << 10)).collect();
        tokio::task::yield_now().await;
        let mut same = share(&budget, "2001:db8::ffff");
        assert_eq!(same.take_room(100 << 10).await, Err(Reason::Overloaded));
        let mut other = share(&budget, "2001:db8:0:1::1");
        assert_eq!(other.take_room(100 << 10).await, Ok(()));
        assert_eq!(waits.iter().filter(|wait| wait.is_finished()).count(), 1);
    }

    #[tokio::test]
    async fn what_is_dropped_is_given_back() {
        let budget = Budget::new(1000);
        let mut one = share(&budget, "192.0.2.1");
        assert_eq!(one.take_body(1000).await, Ok(()));
        assert_eq!(one.take_body(1).await, Err(Reason::Overloaded));
        assert_eq!(one.take_room(5000).await, Ok(()));
        one.give_back_room(1000);
        let intake = Intake::new(&budget, 10);
        assert_eq!(intake.came(10), Ok(()));
        assert_eq!(budget.all.load(Ordering::Relaxed), 4000, "a short head is free");
        assert_eq!(intake.came(5000), Ok(()));
        assert_eq!(budget.all.load(Ordering::Relaxed), 4000 + 8192);
        drop((one, intake));
        for counter in [&budget.all, &budget.bodies, &budget.heads] {
            assert_eq!(counter.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_head_is_read_up_to_64_kib_and_within_its_part() {
        let budget = Budget::new(64 << 20);
        let intake = Intake::new(&budget, SHORT_HEAD);
        assert_eq!(intake.came(64 << 10), Ok(()));
        assert_eq!(intake.came(1), Err(Reason::HeadersTooLarge));
        assert_eq!(intake.fault(), Some(Reason::HeadersTooLarge));
        let small = Budget::new(0);
        let heads: Vec<_> = (0..3).map(|_| Intake::new(&small, SHORT_HEAD)).collect();
        let came: Vec<_> = heads.iter().map(|head| head.came(50_000)).collect();
        assert_eq!(came, [Ok(()), Ok(()), Err(Reason::Overloaded)], "an eighth of a mebibyte");
        intake.end();
        assert_eq!(intake.came(1 << 20), Ok(()), "a body is no head");
    }
}
