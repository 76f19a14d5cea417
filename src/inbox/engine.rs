//! The closed set of engines: one database of this gate, or the store that a fleet shares.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::database::{self, Fault, Kept, Opened, Totals};
use super::redis::durable::Durability;
use super::seal::Keys;
use super::{Attempted, Depth, Due, Event, Id, Listed, Refusal, Selection, Stored, redis};
use crate::gate::filter::replay::ReplayKey;

/// Cloning shares it. What the methods promise stands with the engines.
#[derive(Clone)]
pub enum Inbox {
    Database(database::Inbox),
    Redis(redis::Inbox),
}

/// The same call of whichever engine it is.
macro_rules! either {
    ($self:expr, $inbox:ident => $call:expr) => {
        match $self {
            Inbox::Database($inbox) => $call,
            Inbox::Redis($inbox) => $call,
        }
    };
}

impl Inbox {
    /// Opens the database of this gate.
    pub fn open(
        settings: database::Settings,
        now_ms: i64,
        kept: &mut dyn FnMut(ReplayKey, Kept),
    ) -> Result<(Inbox, Opened), Fault> {
        let (inbox, opened) = database::Inbox::open(settings, now_ms, kept)?;
        Ok((Inbox::Database(inbox), opened))
    }

    /// The store of the fleet, which is connected to when it is first asked.
    pub fn shared(settings: redis::Settings) -> Inbox {
        Inbox::Redis(redis::Inbox::open(settings))
    }

    pub async fn store(&self, event: Event) -> Result<Stored, Refusal> {
        either!(self, inbox => inbox.store(event).await)
    }

    pub async fn claim(
        &self,
        route: &str,
        now_ms: i64,
        lease: Duration,
        most: usize,
    ) -> Result<Vec<Due>, Refusal> {
        either!(self, inbox => inbox.claim(route, now_ms, lease, most).await)
    }

    pub async fn settle(
        &self,
        id: Id,
        attempt: u32,
        came_to: Attempted,
        now_ms: i64,
    ) -> Result<bool, Refusal> {
        either!(self, inbox => inbox.settle(id, attempt, came_to, now_ms).await)
    }

    pub async fn overtaken(&self, names: &[ReplayKey]) -> Result<(), Refusal> {
        either!(self, inbox => inbox.overtaken(names).await)
    }

    pub async fn next_due(&self, route: &str) -> Result<Option<i64>, Refusal> {
        either!(self, inbox => inbox.next_due(route).await)
    }

    pub async fn list(&self, selection: Selection, after: Id) -> Result<(Vec<Listed>, Option<Id>), Refusal> {
        either!(self, inbox => inbox.list(selection, after).await)
    }

    pub async fn show(&self, id: Id) -> Result<Option<(Listed, Option<Due>)>, Refusal> {
        either!(self, inbox => inbox.show(id).await)
    }

    pub async fn replay(&self, id: Id, now_ms: i64, due_ms: i64) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        either!(self, inbox => inbox.replay(id, now_ms, due_ms).await)
    }

    pub async fn discard(&self, id: Id) -> Result<Option<Vec<ReplayKey>>, Refusal> {
        either!(self, inbox => inbox.discard(id).await)
    }

    pub async fn pause(&self, route: &str, is_paused: bool) -> Result<(), Refusal> {
        either!(self, inbox => inbox.pause(route, is_paused).await)
    }

    pub async fn paused(&self) -> Result<Vec<String>, Refusal> {
        either!(self, inbox => inbox.paused().await)
    }

    pub async fn tidy(&self, now_ms: i64, window: Duration, longest: Duration) -> Result<(), Refusal> {
        either!(self, inbox => inbox.tidy(now_ms, window, longest).await)
    }

    pub async fn forget(&self, name: ReplayKey) -> Result<(), Refusal> {
        either!(self, inbox => inbox.forget(name).await)
    }

    /// Whether there is anything to look after: a gate none of whose routes stores leaves a shared store
    /// alone that has no events either.
    pub async fn is_wanted(&self, some_route_stores: bool) -> bool {
        match self {
            Inbox::Database(_) => true,
            Inbox::Redis(inbox) => inbox.is_wanted(some_route_stores).await,
        }
    }

    pub async fn set_keys(&self, keys: Arc<Keys>) -> Result<(), Refusal> {
        either!(self, inbox => inbox.set_keys(keys).await)
    }

    /// How durable an event is before its sender is told, if a server decides of that.
    pub async fn durability(&self) -> Result<Option<Durability>, Refusal> {
        match self {
            Inbox::Database(_) => Ok(None),
            Inbox::Redis(inbox) => inbox.durability().await.map(Some),
        }
    }

    pub fn depths(&self) -> BTreeMap<String, Depth> {
        either!(self, inbox => inbox.depths())
    }

    pub fn bytes(&self) -> u64 {
        either!(self, inbox => inbox.bytes())
    }

    pub fn max_bytes(&self) -> u64 {
        either!(self, inbox => inbox.max_bytes())
    }

    pub fn is_full(&self) -> bool {
        either!(self, inbox => inbox.is_full())
    }

    pub fn totals(&self) -> Totals {
        either!(self, inbox => inbox.totals())
    }

    pub fn wake(&self) -> &Notify {
        either!(self, inbox => inbox.wake())
    }

    pub fn is_usable(&self) -> bool {
        either!(self, inbox => inbox.is_usable())
    }
}
