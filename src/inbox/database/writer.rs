//! The thread of the database: gathers orders, commits them together, and answers once they are durable.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::tables::Tables;
use super::{Observer, Totals};
use crate::inbox::{Depth, Refusal};
use crate::lock::lock;

/// What the thread tells of without being asked.
pub(super) struct Shared {
    pub depths: Mutex<BTreeMap<String, Depth>>,
    pub bytes: AtomicU64,
    /// Whether the last event that came had no room.
    pub is_full: AtomicBool,
    /// Whether any event is dead or damaged.
    pub has_dead: AtomicBool,
    pub totals: Mutex<Totals>,
    pub wake: Notify,
}

/// One order: done within a transaction, answered after it.
pub(super) trait Work: Send {
    fn carry_out(&mut self, tables: &mut Tables) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, is_durable: bool);
}

pub(super) type Order = Box<dyn Work>;

struct Job<W, T> {
    work: W,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Refusal>>,
}

/// An order, and who waits for it.
pub(super) fn order<T: Send + 'static>(
    work: impl FnMut(&mut Tables) -> rusqlite::Result<T> + Send + 'static,
    reply: oneshot::Sender<Result<T, Refusal>>,
) -> Order {
    Box::new(Job { work, done: None, reply })
}

impl<T: Send, W: FnMut(&mut Tables) -> rusqlite::Result<T> + Send> Work for Job<W, T> {
    fn carry_out(&mut self, tables: &mut Tables) -> rusqlite::Result<()> {
        self.done = Some((self.work)(tables)?);
        Ok(())
    }

    fn answer(self: Box<Self>, is_durable: bool) {
        // Who asked may have gone: what was stored is stored.
        _ = self.reply.send(self.done.filter(|_| is_durable).ok_or(Refusal::Unavailable));
    }
}

/// How many orders one commit takes.
const BATCH: usize = 512;

pub(super) struct Writer {
    tables: Tables,
    /// Held as long as the database is open.
    _lock: File,
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    wrote: Observer,
}

impl Writer {
    pub(super) fn new(
        tables: Tables,
        lock: File,
        orders: Receiver<Order>,
        shared: Arc<Shared>,
        wrote: Observer,
    ) -> Self {
        Writer { tables, _lock: lock, orders, shared, wrote }
    }

    /// Until nobody can order any more.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.orders.recv() {
            let mut batch = vec![first];
            // What came while the last commit was on its way.
            batch.extend(self.orders.try_iter().take(BATCH - 1));
            if self.commit(&mut batch) {
                self.publish();
                for order in batch {
                    order.answer(true);
                }
                continue;
            }
            let alone = batch.len() == 1;
            for order in batch {
                let mut alone_again = vec![order];
                let is_durable = !alone && self.commit(&mut alone_again);
                self.publish();
                for order in alone_again {
                    order.answer(is_durable);
                }
            }
        }
    }

    /// Whether all of them are on the disk; if not, none is.
    fn commit(&mut self, batch: &mut [Order]) -> bool {
        let started = Instant::now();
        let tables = &mut self.tables;
        let result = tables.begin().and_then(|()| {
            batch.iter_mut().try_for_each(|order| order.carry_out(tables))?;
            tables.commit()
        });
        if result.is_err() {
            tables.roll_back();
        }
        (self.wrote)(started.elapsed(), result.is_ok());
        let mut totals = lock(&self.shared.totals);
        totals.commits += 1;
        totals.commit_time += started.elapsed();
        totals.writes = result.is_ok();
        totals.failed += u64::from(result.is_err());
        totals.set_aside = tables.set_aside;
        totals.dead_dropped = tables.dead_dropped;
        totals.trouble = result.as_ref().err().map(ToString::to_string);
        result.is_ok()
    }

    fn publish(&mut self) {
        self.shared.bytes.store(self.tables.bytes(), Ordering::Relaxed);
        self.shared.has_dead.store(self.tables.has_dead(), Ordering::Relaxed);
        let mut depths = lock(&self.shared.depths);
        if let Some(changed) = self.tables.changed() {
            depths.clone_from(changed);
        }
    }
}
