//! What an operator asks of the shelf of refused requests, over the [control socket](super::control): its list,
//! one request, what it would come to now, and to have it delivered, which is put on record.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::clock::to_rfc3339;
use crate::gate::filter::replay::ReplayKey;
use crate::gate::filter::signature::{Authentic, Named};
use crate::gate::reason::Reason;
use crate::gate::withhold::{BLANKED, is_credential};
use crate::inbox::seal::Unreadable;
use crate::inbox::shelf::{Kept, Listed, Selection, Shelf};
use crate::ops::control::parse_key;
use crate::proxy::Sidecar;
use crate::proxy::refused::{Delivered, key_of};
use crate::telemetry::log::RefusedOrder;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    List {
        which: Which,
    },
    Show {
        id: String,
        /// As it is kept, with what is for no screen.
        raw: bool,
    },
    Verify {
        id: String,
    },
    Deliver {
        id: String,
        may_be_twice: bool,
    },
}

/// Which requests are meant; all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    pub id: Option<String>,
    pub route: Option<String>,
    pub reason: Option<String>,
    pub since_ms: Option<i64>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    Listed { records: Vec<Record> },
    Shown { record: Box<Record>, request: Option<Sent> },
    Judged(Box<Judged>),
    Refused { message: String },
}

/// A record, by the names that scripts rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The request's id: the sender was told it, and the log has it.
    pub id: String,
    pub route: String,
    pub tenant: Option<String>,
    pub reason: String,
    pub client: Option<String>,
    pub received_at: String,
    /// How much of it is there.
    pub held: String,
    pub bytes: u64,
}

/// The request as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub head_base64: String,
    pub body_base64: String,
}

/// What it comes to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub id: String,
    /// As of a delivery.
    pub verdict: String,
    pub reason: Option<String>,
    pub key_id: Option<String>,
    pub key: Option<String>,
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    /// Why nobody can say what it comes to, or why it was not delivered.
    pub message: Option<String>,
}

impl From<Listed> for Record {
    fn from(listed: Listed) -> Self {
        Record {
            id: listed.id.to_string(),
            route: listed.route,
            tenant: listed.tenant,
            reason: listed.reason,
            client: listed.client,
            received_at: to_rfc3339(listed.received_ms),
            held: listed.held,
            bytes: listed.bytes,
        }
    }
}

impl Which {
    fn selection(self) -> Result<Selection, String> {
        let Which { id, route, reason, since_ms } = self;
        if let Some(reason) = reason.as_ref().filter(|reason| !is_reason(reason)) {
            let known = Shelf::REASONS.map(Reason::label).join(", ");
            return Err(format!("no request is kept for {reason:?}: the reasons are {known}"));
        }
        Ok(Selection { id: id.as_deref().map(id_of).transpose()?, route, reason, since_ms })
    }
}

fn is_reason(text: &str) -> bool {
    Shelf::REASONS.iter().any(|reason| reason.label() == text)
}

fn id_of(text: &str) -> Result<ReplayKey, String> {
    parse_key(text).ok_or_else(|| {
        "an id is 32 hex digits: the Hookgate-Request-Id that the sender was told, which the log has too \
         (hookgate.request_id)"
            .to_owned()
    })
}

/// Does what is asked.
pub async fn answer(sidecar: &Sidecar, request: Request, uid: Option<u32>) -> Answer {
    let Some(shelf) = &sidecar.shelf else {
        return refused(
            "this gate keeps nothing of what it refuses: it is started without refused in its file",
        );
    };
    let done = match request {
        Request::List { which } => list(shelf, which).await,
        Request::Show { id, raw } => show(shelf, &id, raw).await,
        Request::Verify { id } => verify(sidecar, shelf, &id).await,
        Request::Deliver { id, may_be_twice } => deliver(sidecar, shelf, &id, may_be_twice, uid).await,
    };
    done.unwrap_or_else(|message| Answer::Refused { message })
}

fn refused(message: &str) -> Answer {
    Answer::Refused { message: message.to_owned() }
}

const AWAY: &str = "the shelf cannot be read: the log of the gate says why";
const GONE: &str = "it is not on the shelf, or not any more";

async fn list(shelf: &Shelf, which: Which) -> Result<Answer, String> {
    let listed = shelf.list(which.selection()?).await.map_err(|_| AWAY)?;
    Ok(Answer::Listed { records: listed.into_iter().map(Record::from).collect() })
}

async fn read(shelf: &Shelf, id: &str) -> Result<(Listed, Result<Kept, Unreadable>), String> {
    shelf.read(id_of(id)?).await.map_err(|_| AWAY)?.ok_or_else(|| GONE.to_owned())
}

async fn read_whole(shelf: &Shelf, id: &str) -> Result<(Listed, Kept), String> {
    let (listed, kept) = read(shelf, id).await?;
    Ok((listed, kept.map_err(unreadable)?))
}

fn unreadable(why: Unreadable) -> String {
    match why {
        Unreadable::Damaged => "what was kept of it is damaged, and nobody can read it".to_owned(),
        Unreadable::KeyMissing(key) => format!(
            "it is sealed with a key that is not there ({key:08x}): put it back into inbox.encryption_key_file"
        ),
    }
}

async fn show(shelf: &Shelf, id: &str, raw: bool) -> Result<Answer, String> {
    let (listed, kept) = read(shelf, id).await?;
    let request = kept.ok().map(|kept| Sent {
        head_base64: BASE64.encode(&if raw { kept.head.to_vec() } else { for_a_screen(&kept.head) }),
        body_base64: BASE64.encode(&kept.body),
    });
    Ok(Answer::Shown { record: Box::new(listed.into()), request })
}

/// The head without what signs by a header that is called like a credential, and without what the query says in
/// such a way.
fn for_a_screen(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len());
    for (n, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let colon = line.iter().position(|byte| *byte == b':').filter(|_| n > 0);
        match colon {
            Some(colon) if is_credential(&String::from_utf8_lossy(&line[..colon])) => {
                out.extend_from_slice(&line[..colon]);
                out.extend_from_slice(format!(": {BLANKED}\r\n").as_bytes());
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

fn named(name: Option<&Named>) -> Option<String> {
    name.map(|name| name.text.to_string())
}

/// `reason` is none if nobody can say; then there is a message.
fn judged(
    id: &str,
    reason: Option<Reason>,
    message: Option<String>,
    authentic: Option<&Authentic>,
) -> Answer {
    let verdict = reason.map_or("unknown", |reason| reason.verdict().label());
    let reason = reason.map(|reason| reason.label().to_owned());
    Answer::Judged(Box::new(Judged {
        id: id.to_owned(),
        verdict: verdict.to_owned(),
        reason,
        key_id: authentic.map(|authentic| authentic.key_id().to_string()),
        key: authentic.and_then(key_of).map(|key| key.to_string()),
        event_id: named(authentic.and_then(Authentic::event_id)),
        event_type: named(authentic.and_then(Authentic::event_type)),
        message,
    }))
}

async fn verify(sidecar: &Sidecar, shelf: &Shelf, id: &str) -> Result<Answer, String> {
    let (_, kept) = read_whole(shelf, id).await?;
    let found = sidecar.reconsider(&kept).await;
    let authentic = found.as_ref().ok().and_then(|judged| judged.authentic.clone());
    let (reason, message) = match found {
        Ok(judged) => (Some(judged.reason), None),
        Err(message) => (None, Some(message)),
    };
    Ok(judged(id, reason, message, authentic.as_ref()))
}

async fn deliver(
    sidecar: &Sidecar,
    shelf: &Shelf,
    id: &str,
    may_be_twice: bool,
    uid: Option<u32>,
) -> Result<Answer, String> {
    let (listed, kept) = read_whole(shelf, id).await?;
    let (delivered, authentic) = sidecar.deliver_refused(&kept, may_be_twice).await;
    let (reason, message) = match delivered {
        Delivered::Accepted => (Some(Reason::Accepted), None),
        Delivered::Stored => (Some(Reason::Stored), None),
        Delivered::Before => (Some(Reason::Duplicate), None),
        Delivered::Refused(reason) => (Some(reason), None),
        Delivered::Failed(reason, message) => (Some(reason), Some(message)),
        Delivered::Not(message) => (None, Some(message)),
    };
    let outcome = reason.map(Reason::label).or(message.as_deref()).unwrap_or_default();
    sidecar.telemetry.log.refused_order(&RefusedOrder {
        request_id: id,
        route: &listed.route,
        key: authentic.as_ref().and_then(key_of),
        key_id: authentic.as_ref().map(|authentic| &**authentic.key_id()),
        outcome,
        uid,
    });
    if matches!(reason, Some(Reason::Accepted | Reason::Stored | Reason::Duplicate)) {
        // Should it stay, the replay memory knows it.
        _ = shelf.remove(kept.id).await;
    }
    Ok(judged(id, reason, message, authentic.as_ref()))
}
