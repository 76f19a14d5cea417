//! What an operator asks of the inbox, over the [control socket](super::control): a part of its list at a
//! time, one record, and what is to be done with some of them. Each change is put on record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use tokio::task::JoinSet;

use crate::clock::{self, to_rfc3339};
use crate::gate::filter::replay::ReplayKey;
use crate::inbox::state::State;
use crate::inbox::{Id, Inbox, Listed, Refusal, Selection};
use crate::proxy::Sidecar;
use crate::telemetry::log::InboxOrder;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The records behind `after`.
    List {
        which: Which,
        after: Id,
    },
    Show {
        id: Id,
    },
    /// Makes them due, each so many milliseconds after the one before, the first after `from_ms`.
    Replay {
        ids: Vec<Id>,
        which: Which,
        from_ms: i64,
        apart_ms: i64,
    },
    Drop {
        ids: Vec<Id>,
        which: Which,
    },
    Pause {
        route: String,
    },
    Resume {
        route: String,
    },
}

/// Which events are meant; all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    pub route: Option<String>,
    pub tenant: Option<String>,
    pub state: Option<String>,
    pub event: Option<String>,
    pub since_ms: Option<i64>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    /// A part of the list, and where the next one begins.
    Listed {
        records: Vec<Record>,
        next: Option<Id>,
    },
    Shown {
        record: Box<Record>,
        request: Option<Sent>,
    },
    /// So many were changed.
    Done {
        count: u64,
    },
    Refused {
        message: String,
    },
}

/// A record, by the names that scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: Id,
    pub key: String,
    pub route: String,
    pub tenant: Option<String>,
    pub state: String,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub received_at: String,
    pub attempts: u32,
    pub next_attempt_at: Option<String>,
    pub last_outcome: Option<String>,
    pub bytes: u64,
}

/// The request as the application gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub head: String,
    pub body_base64: String,
}

impl From<Listed> for Record {
    fn from(listed: Listed) -> Self {
        Record {
            id: listed.id,
            key: listed.key.to_string(),
            route: listed.route,
            tenant: listed.tenant,
            state: listed.state.label().to_owned(),
            event_id: listed.event_id,
            event_type: listed.event_type,
            received_at: to_rfc3339(listed.received_ms),
            attempts: listed.attempts,
            next_attempt_at: listed.next_attempt_ms.map(to_rfc3339),
            last_outcome: listed.last_outcome,
            bytes: listed.bytes,
        }
    }
}

impl Which {
    fn selection(&self) -> Result<Selection, String> {
        let state = self.state.as_deref().map(str::parse::<State>).transpose()?;
        let Which { route, event, since_ms, .. } = self.clone();
        Ok(Selection { route, state, event, since_ms })
    }

    /// For the log.
    fn in_words(&self) -> String {
        let Which { route, tenant, state, event, since_ms } = self;
        let since = since_ms.map(to_rfc3339);
        let given =
            [("route", route), ("tenant", tenant), ("state", state), ("event", event), ("since", &since)];
        let words = given.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// What the page tells of a route's part of the inbox, beside how much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// When the next attempt is due; `None` if none is.
    pub next_ms: Option<i64>,
    /// An operator has said that nothing is delivered.
    pub paused: bool,
    /// Some that were given up.
    pub dead: Vec<Listed>,
}

/// More of what was given up is for a list.
const MOST_DEAD: usize = 5;

/// What is to come of each of these routes, as far as the inbox tells within that time.
pub async fn outlook(inbox: &Inbox, routes: Vec<String>, within: Duration) -> BTreeMap<String, Outlook> {
    let mut found = BTreeMap::new();
    let looking = async {
        let held_back = inbox.paused().await.unwrap_or_default();
        for route in routes {
            let paused = held_back.contains(&route);
            let next_ms = inbox.next_due(&route).await.ok().flatten();
            let which =
                Selection { route: Some(route.clone()), state: Some(State::Dead), ..Selection::default() };
            let mut dead = inbox.list(which, Id::default()).await.unwrap_or_default().0;
            dead.drain(..dead.len().saturating_sub(MOST_DEAD));
            found.insert(route, Outlook { next_ms, paused, dead });
        }
    };
    _ = tokio::time::timeout(within, looking).await;
    found
}

/// Does what is asked.
pub async fn answer(sidecar: &Sidecar, request: Request, uid: Option<u32>) -> Answer {
    let Some(inbox) = &sidecar.inbox else {
        return refused("this gate has no inbox: it is started without a state_dir");
    };
    let done = match request {
        Request::List { which, after } => return list(inbox, &which, after).await,
        Request::Show { id } => return show(inbox, id).await,
        Request::Replay { ids, which, from_ms, apart_ms } => {
            replay(sidecar, inbox, &ids, (from_ms, apart_ms)).await.map(|n| ("replay", which, n))
        }
        Request::Drop { ids, which } => discard(sidecar, inbox, &ids).await.map(|n| ("drop", which, n)),
        Request::Pause { route } => pause(sidecar, inbox, route, true).await,
        Request::Resume { route } => pause(sidecar, inbox, route, false).await,
    };
    match done {
        Ok((what, which, count)) => {
            let selection = &which.in_words();
            sidecar.telemetry.log.inbox_order(&InboxOrder { what, selection, count, uid });
            Answer::Done { count }
        }
        Err(message) => Answer::Refused { message },
    }
}

fn refused(message: &str) -> Answer {
    Answer::Refused { message: message.to_owned() }
}

fn in_words(refusal: Refusal) -> String {
    format!("{refusal}: the log of the gate says why")
}

async fn list(inbox: &Inbox, which: &Which, after: Id) -> Answer {
    let selection = match which.selection() {
        Ok(selection) => selection,
        Err(message) => return Answer::Refused { message },
    };
    let mut after = after;
    loop {
        match inbox.list(selection.clone(), after).await {
            // A part of the numbers in which there is nothing.
            Ok((listed, Some(next))) if listed.is_empty() => after = next,
            Ok((listed, next)) => {
                let is_meant = |listed: &Listed| which.tenant.is_none() || which.tenant == listed.tenant;
                let records = listed.into_iter().filter(is_meant).map(Record::from).collect();
                return Answer::Listed { records, next };
            }
            Err(refusal) => return refused(&in_words(refusal)),
        }
    }
}

async fn show(inbox: &Inbox, id: Id) -> Answer {
    match inbox.show(id).await {
        Ok(Some((listed, due))) => Answer::Shown {
            record: Box::new(listed.into()),
            request: due.map(|due| Sent {
                head: String::from_utf8_lossy(&due.head).into_owned(),
                body_base64: BASE64.encode(&due.body),
            }),
        },
        Ok(None) => refused("it is not in the inbox any more"),
        Err(refusal) => refused(&in_words(refusal)),
    }
}

async fn replay(
    sidecar: &Sidecar,
    inbox: &Inbox,
    ids: &[Id],
    (from_ms, apart_ms): (i64, i64),
) -> Result<u64, String> {
    let now = clock::now();
    let mut orders = JoinSet::new();
    for (n, id) in (0_i64..).zip(ids.iter().copied()) {
        let due_ms = now.wall_ms.saturating_add(from_ms).saturating_add(n.saturating_mul(apart_ms));
        let inbox = inbox.clone();
        orders.spawn(async move { inbox.replay(id, now.wall_ms, due_ms).await });
    }
    let replayed = changed(orders).await?;
    for names in &replayed {
        sidecar.store.stored(names, now);
    }
    // Whoever asks for it believes that the application is back.
    for endpoint in &sidecar.live.load().endpoints {
        sidecar.breakers.open(&endpoint.route.name);
    }
    inbox.wake().notify_one();
    Ok(replayed.len() as u64)
}

async fn discard(sidecar: &Sidecar, inbox: &Inbox, ids: &[Id]) -> Result<u64, String> {
    let mut orders = JoinSet::new();
    for id in ids.iter().copied() {
        let inbox = inbox.clone();
        orders.spawn(async move { inbox.discard(id).await });
    }
    let dropped = changed(orders).await?;
    for names in &dropped {
        sidecar.store.left_inbox(names, None, clock::now());
    }
    Ok(dropped.len() as u64)
}

/// The names of each event that was changed. The orders go together, so that the disk confirms many at once.
async fn changed(
    orders: JoinSet<Result<Option<Vec<ReplayKey>>, Refusal>>,
) -> Result<Vec<Vec<ReplayKey>>, String> {
    let done: Result<Vec<_>, Refusal> = orders.join_all().await.into_iter().collect();
    Ok(done.map_err(in_words)?.into_iter().flatten().collect())
}

async fn pause(
    sidecar: &Sidecar,
    inbox: &Inbox,
    route: String,
    is_paused: bool,
) -> Result<(&'static str, Which, u64), String> {
    let depths = inbox.depths();
    let live = sidecar.live.load();
    let known: BTreeSet<&str> =
        live.routes().map(|(route, _)| &*route.name).chain(depths.keys().map(String::as_str)).collect();
    if !known.contains(&*route) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        return Err(format!("there is no such route; the routes are: {known}"));
    }
    inbox.pause(&route, is_paused).await.map_err(in_words)?;
    let count = depths.get(&route).map_or(0, |depth| depth.stored);
    Ok((if is_paused { "pause" } else { "resume" }, Which { route: Some(route), ..Which::default() }, count))
}
