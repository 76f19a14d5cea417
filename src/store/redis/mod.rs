//! A replay memory that many gates share, in Redis or what speaks its protocol.
//!
//! An event is one key, `PREFIX{DIGEST}`: `h` and the holder's token while it is held, `d`
//! when it is done, `s` and the number of its record while the inbox has it, each with an expiry that the server's clock decides. How a delivery failed
//! stands under `PREFIX{DIGEST}:TOKEN` for as long as followers wait; the braces keep both on
//! one node of a cluster. Each transition is one script, so nothing comes between its reading
//! and its writing.
//!
//! What differs from the embedded store: a delivery whose lease was lost, or whose store was
//! replaced by an empty one, is done all the same if nobody else holds the event; followers
//! ask instead of being called; and a store out of reach makes [`Unavailable`], or an embedded
//! memory takes its place for the time.

pub mod address;
mod breaker;
pub(crate) mod durability;
mod link;
mod parts;
mod stored;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use self::address::Address;
pub use self::breaker::Breaker;
pub use self::durability::{Disk, Durability};
pub use self::link::{Cause, Failures, Health, Settings, Trouble, password};
pub(crate) use self::link::{Failure, Link, Script};
pub(crate) use self::stored::InInbox;
use super::{Found, Holder, Memory, Outcome, Swept, Unavailable, Way};
use crate::clock::Now;
use crate::gate::filter::rate_limit::SharedCell;
use crate::gate::filter::replay::{Forgotten, Keep, ReplayKey, ReplayPolicy};
use crate::gate::reason::Reason;

static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("reserve.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("settle.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::once(include_str!("forget.lua")));
static OUTCOME: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("outcome.lua")));
static FIELD: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("field.lua")));
static FIELDS: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("fields.lua")));
static RATE: LazyLock<Script> = LazyLock::new(|| Script::once(include_str!("rate.lua")));

/// Between two questions of a follower: from soon to seldom.
const FIRST_LOOK: Duration = Duration::from_millis(25);
const LATER_LOOKS: Duration = Duration::from_millis(250);
/// Between two attempts to settle with a store that does not answer.
const SETTLE_AGAIN: Duration = Duration::from_millis(500);
/// An outcome outlives the wait of those who ask for it.
const OUTCOME_MARGIN: Duration = Duration::from_secs(1);
/// A store that took a write so lately needs no asking whether it is there.
const RECENTLY: Duration = Duration::from_millis(900);

/// Some fields of a hash, behind where the next ones begin.
pub(super) type Part = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// Texts one after another, each with its length before it.
struct Texts<'t>(&'t [u8]);

impl<'t> Iterator for Texts<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let colon = self.0.iter().position(|byte| *byte == b':')?;
        let length = std::str::from_utf8(&self.0[..colon]).ok()?.parse().ok()?;
        let (text, rest) = self.0[colon + 1..].split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}

/// Cloning shares the connection.
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    policy: ReplayPolicy,
    /// Takes the store's place while it is out of reach.
    fallback: Option<Memory>,
}

impl Redis {
    /// Connects when it is first asked.
    pub fn new(settings: Settings, policy: ReplayPolicy, fallback: Option<Memory>) -> Self {
        Redis { link: Link::new(settings), policy, fallback }
    }

    pub(super) async fn reserve(&self, key: ReplayKey, keep: Keep, now: Now) -> Result<Found, Unavailable> {
        // What the fallback has taken on, it sees through, also when the store is back.
        if let Some(memory) = self.fallback.as_ref().filter(|memory| memory.knows(key, now)) {
            return in_its_place(memory.reserve(key, now));
        }
        match (self.reserve_shared(key, keep).await, &self.fallback) {
            (Err(Unavailable), Some(memory)) => in_its_place(memory.reserve(key, now)),
            (reserved, _) => reserved,
        }
    }

    async fn reserve_shared(&self, key: ReplayKey, keep: Keep) -> Result<Found, Unavailable> {
        let holding = Holding { redis: self.clone(), key, keep, token: Token::random()? };
        // From here on we may hold the event, whether we are told so or not, and even if nobody
        // waits for the answer any more.
        let mut held = Unconfirmed(Some(holding.clone()));
        let lease = millis(self.policy.lease());
        let answer = self.link.ask(&RESERVE, &[&self.event(key)], &[holding.token.as_str(), &lease]).await;
        if answer == Err(Failure::Unanswered) {
            return Err(Unavailable);
        }
        held.0 = None;
        match answer.map_err(|_| Unavailable)?.as_slice() {
            b"+" => Ok(Found::Lead(Holder::Redis(Box::new(holding)))),
            b"=d" => Ok(Found::Done),
            [b'=', mark @ ..] if stored::is_mark(mark) => Ok(Found::Done),
            stored => {
                let holder = stored.strip_prefix(b"=h").and_then(Token::parse).ok_or(Unavailable)?;
                Ok(Found::Follow(Way::Asking(Following { redis: self.clone(), key, holder })))
            }
        }
    }

    /// Lets an event be delivered again, by whichever gate it comes to, and by this one's fallback.
    pub(super) async fn forget(&self, key: ReplayKey, now: Now) -> Result<Forgotten, Unavailable> {
        let word = Token::random()?;
        let answer = self.link.ask(&FORGET, &[&self.event(key)], &[word.as_str()]).await;
        let shared = match answer.map_err(|_| Unavailable)?.as_slice() {
            b"=d" => Forgotten::Done,
            [b'=', ..] => Forgotten::Held,
            _ => Forgotten::Nothing,
        };
        let own = self.fallback.as_ref().map_or(Forgotten::Nothing, |memory| memory.forget(key, now));
        Ok(match (shared, own) {
            (Forgotten::Done, _) | (_, Forgotten::Done) => Forgotten::Done,
            (Forgotten::Held, _) | (_, Forgotten::Held) => Forgotten::Held,
            (Forgotten::Nothing, Forgotten::Nothing) => Forgotten::Nothing,
        })
    }

    /// Asks a limit that gates share. `None` if it lets the request through, or cannot say.
    pub(super) async fn excess(&self, cell: &SharedCell) -> Option<Duration> {
        let word = Token::random().ok()?;
        let key = format!(
            "{}rate:{{{}}}",
            self.link.settings().prefix,
            data_encoding::HEXLOWER.encode(&cell.digest)
        );
        let (interval, tolerance) = (cell.interval_us.to_string(), cell.tolerance_us.to_string());
        let answer = self.link.ask(&RATE, &[&key], &[word.as_str(), &interval, &tolerance]).await.ok()?;
        let early = std::str::from_utf8(answer.strip_prefix(b"=")?).ok()?.parse().ok()?;
        Some(Duration::from_micros(early))
    }

    /// The value of a field in a hash that others keep; `None` if it is not there.
    pub(super) async fn field(&self, hash: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.of_hash(&FIELD, hash, name).await
    }

    /// A part of such a hash, and where the next one begins: "0" if there is none.
    pub(super) async fn fields(&self, hash: &str, at: &str) -> Result<Part, String> {
        let told = self.of_hash(&FIELDS, hash, at).await?.unwrap_or_default();
        let mut texts = Texts(&told);
        let next = texts.next().ok_or("what answers there is no Redis")?;
        let mut fields = Vec::new();
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            fields.push((name.to_vec(), value.to_vec()));
        }
        Ok((String::from_utf8_lossy(next).into_owned(), fields))
    }

    async fn of_hash(&self, script: &Script, hash: &str, about: &str) -> Result<Option<Vec<u8>>, String> {
        let word = Token::random().map_err(|_| "no randomness".to_owned())?;
        let answer = self.link.ask(script, &[hash], &[word.as_str(), about]).await;
        let answer = answer.map_err(|_| match &*self.link.health().borrow() {
            Health::Down(Trouble { reason, .. }) => format!("the store does not answer: {reason}"),
            Health::Up | Health::Unknown => "the store does not answer".to_owned(),
        })?;
        match answer.as_slice() {
            [b'=', value @ ..] => Ok(Some(value.to_vec())),
            b"-" => Ok(None),
            [_, why @ ..] => {
                Err(format!("the store: {}", String::from_utf8_lossy(&why[..why.len().min(200)])))
            }
            [] => Err("what answers there is no Redis".to_owned()),
        }
    }

    /// Asks whether the store is there, unless it said so just now: with the very call that an
    /// event makes, so that a store which reads but does not write is not taken for usable.
    pub(crate) async fn probe(&self) {
        let mut probes = JoinSet::new();
        for key in self.link.unproven(RECENTLY) {
            let (Ok(token), link) = (Token::random(), Arc::clone(&self.link)) else { return };
            probes.spawn(async move { link.ask(&RESERVE, &[&key], &[token.as_str(), "1"]).await });
        }
        probes.join_all().await;
    }

    pub(super) fn failures(&self) -> Failures {
        self.link.failures()
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    pub(super) fn is_usable(&self) -> bool {
        self.is_up() || self.fallback.as_ref().is_some_and(|memory| memory.entries() < memory.capacity())
    }

    pub fn fallback(&self) -> Option<&Memory> {
        self.fallback.as_ref()
    }

    pub(super) fn sweep(&self, now: Now) -> Swept {
        self.fallback.as_ref().map(|memory| memory.sweep(now)).unwrap_or_default()
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    fn event(&self, key: ReplayKey) -> String {
        format!("{}{{{key}}}", self.link.settings().prefix)
    }

    fn outcome(&self, key: ReplayKey, token: &Token) -> String {
        format!("{}{{{key}}}:{}", self.link.settings().prefix, token.as_str())
    }
}

/// What a fallback found, which knows nothing of the inbox.
fn in_its_place(reserved: Result<Found, Unavailable>) -> Result<Found, Unavailable> {
    reserved.map(|found| match found {
        Found::Lead(Holder::Memory(memory, id)) => Found::Lead(Holder::Fallback(memory, id)),
        found => found,
    })
}

/// An event that we hold.
#[derive(Clone)]
pub(super) struct Holding {
    redis: Redis,
    key: ReplayKey,
    keep: Keep,
    token: Token,
}

impl Holding {
    /// Settles; if the store does not answer, goes on trying after this returns, for as long as
    /// the lease could hold the event. The sender need not wait for that.
    pub async fn settle(self, outcome: Outcome) {
        if self.try_settle(Some(outcome)).await.is_err() {
            self.settle_in_background(Some(outcome));
        }
    }

    /// Settles in a task of its own. Where no task can run, the lease ends by itself.
    pub fn settle_in_background(self, outcome: Option<Outcome>) {
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let until = Instant::now() + self.redis.policy.lease();
            let event = self.redis.event(self.key);
            // The calls that try a store are for those that write: whoever only lets go waits.
            while self.redis.link.holds_back(&event) || self.try_settle(outcome).await.is_err() {
                if Instant::now() >= until {
                    return;
                }
                sleep(SETTLE_AGAIN).await;
            }
        });
    }

    async fn try_settle(&self, outcome: Option<Outcome>) -> Result<(), Failure> {
        let Holding { redis, key, keep, token } = self;
        let window = match outcome {
            Some(Outcome::Delivered) => millis(keep.span(redis.policy.window())),
            // Of what is stored the inbox has told the store, and tells it what becomes of it.
            Some(Outcome::Stored | Outcome::Failed { .. }) | None => "0".to_owned(),
        };
        let told = outcome.map_or_else(String::new, Outcome::to_text);
        let kept = millis(redis.policy.wait() + OUTCOME_MARGIN);
        let keys = [&*redis.event(*key), &redis.outcome(*key, token)];
        redis.link.ask(&SETTLE, &keys, &[token.as_str(), &window, &told, &kept]).await.map(drop)
    }
}

/// An event that we may hold without knowing it: let go of, unless it turns out otherwise.
struct Unconfirmed(Option<Holding>);

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        if let Some(holding) = self.0.take() {
            holding.settle_in_background(None);
        }
    }
}

/// A copy of an event that is held, perhaps by another gate.
pub(super) struct Following {
    redis: Redis,
    key: ReplayKey,
    holder: Token,
}

impl Following {
    /// The outcome; `None` if it is still open when the wait is over, or if the holder vanished
    /// without one.
    pub async fn outcome(self) -> Option<Outcome> {
        let until = Instant::now() + self.redis.policy.wait();
        let mut pause = FIRST_LOOK;
        loop {
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            match self.look().await.as_deref() {
                Ok(b"?") | Err(_) if Instant::now() < until => {}
                Ok(answer) => return answer.strip_prefix(b"=").and_then(Outcome::from_text),
                Err(_) => return None,
            }
            pause = (pause * 2).min(LATER_LOOKS);
        }
    }

    async fn look(&self) -> Result<Vec<u8>, Unavailable> {
        let Following { redis, key, holder } = self;
        let word = Token::random()?;
        let keys = [&*redis.event(*key), &redis.outcome(*key, holder)];
        redis.link.ask(&OUTCOME, &keys, &[word.as_str(), holder.as_str()]).await.map_err(|_| Unavailable)
    }
}

impl Outcome {
    fn to_text(self) -> String {
        match self {
            Outcome::Delivered | Outcome::Stored => "delivered".to_owned(),
            Outcome::Failed { reason, status } => format!("{}:{status}", reason.label()),
        }
    }

    /// Only what is certainly meant: nothing that stands in the store makes a failure look like
    /// a success.
    fn from_text(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if text == "delivered" {
            return Some(Outcome::Delivered);
        }
        let (label, status) = text.split_once(':')?;
        let reasons = [
            Reason::InFlight,
            Reason::UpstreamFailed,
            Reason::UpstreamStatus,
            Reason::UpstreamTimeout,
            Reason::UpstreamUnreachable,
        ];
        let reason = reasons.into_iter().find(|reason| reason.label() == label)?;
        let status = status.parse().ok().filter(|status| (300..600).contains(status))?;
        Some(Outcome::Failed { reason, status })
    }
}

/// Names one holding, or one call: 64 random bits in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token(String);

const TOKEN_BYTES: usize = 8;

impl Token {
    pub fn random() -> Result<Self, Unavailable> {
        let mut bytes = [0; TOKEN_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Unavailable)?;
        Ok(Token(data_encoding::HEXLOWER.encode(&bytes)))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text).ok()?;
        (bytes.len() == TOKEN_BYTES).then(|| Token(data_encoding::HEXLOWER.encode(&bytes)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written_and_nothing_else_is_one() {
        let failed = |reason, status| Outcome::Failed { reason, status };
        for outcome in [
            Outcome::Delivered,
            failed(Reason::UpstreamFailed, 500),
            failed(Reason::UpstreamFailed, 302),
            failed(Reason::UpstreamTimeout, 504),
            failed(Reason::UpstreamUnreachable, 503),
        ] {
            assert_eq!(Outcome::from_text(outcome.to_text().as_bytes()), Some(outcome));
        }
        for text in [
            "",
            "d",
            "Delivered",
            "delivered:200",
            "upstream_failed:200",
            "upstream_failed:",
            "accepted:500",
            "\u{fffd}",
        ] {
            assert_eq!(Outcome::from_text(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_sixteen_hex_digits_and_never_the_same() {
        let token = Token::random().unwrap();
        assert_eq!(Token::parse(token.as_str().as_bytes()), Some(token.clone()));
        assert_ne!(Token::random().unwrap(), token);
        for text in ["", "d", "0123", "0123456789abcdeF", "0123456789abcdef0"] {
            assert_eq!(Token::parse(text.as_bytes()), None, "{text}");
        }
    }
}
