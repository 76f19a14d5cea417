//! What makes two deliveries the same event: the one place that decides it, and why.
//!
//! - An id that the signature covers names the event.
//! - Without one it is everything that was signed, value by value. Where the signature leaves a part of
//!   the body open, or leaves open where a value ends, the whole body joins: what differs in one byte was
//!   not delivered yet.
//! - Where the signature stands does not count, nor which key made it: a copy that shows it in another
//!   header is a copy.
//! - What a provider says tells its events apart besides the id ([`Recipe::distinct`]) joins the id.
//! - A route may let the provider's unsigned delivery id join too, or remember nothing: [`Rule`].
//! - Where the schemes of a provider name an event differently, a delivery has every name that its
//!   signature vouches for, so that a copy under another scheme meets one of them.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::filter::replay::ReplayKey;
use super::parse::Unreadable;
use super::scheme::content::{Piece, Segment};
use super::scheme::reading::{Reading, Variant};
use super::scheme::source::Source;
use super::scheme::{Assurance, Recipe};

/// What tells the events of a route apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// What is signed: the id, else all of it.
    #[default]
    Signed,
    /// That, and the provider's delivery id, which is not signed: whoever has seen a delivery can send it
    /// again under another one.
    Delivery,
    /// Nothing: each delivery is an event of its own, and none is a duplicate.
    None,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Signed => "signed",
            Rule::Delivery => "delivery",
            Rule::None => "none",
        })
    }
}

/// The names of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    told: ReplayKey,
    /// Sorted, so that deliveries which share several ask for them in one order.
    names: SmallVec<[ReplayKey; 1]>,
}

impl Identity {
    /// What the application is told as the event's idempotency key. It is the same under each scheme.
    pub fn told(&self) -> ReplayKey {
        self.told
    }

    /// All of them; a delivery is the event's first if it holds every one.
    pub fn names(&self) -> &[ReplayKey] {
        &self.names
    }
}

/// Within what events are told apart: the same id on two routes, or of two tenants, is two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'s> {
    pub route: &'s str,
    pub tenant: Option<&'s str>,
}

/// The identity of a delivery that was signed in this form. `others` are the recipes of the same
/// provider under which its events have [other names](differs), with what they read in it. `None` on
/// routes that remember nothing.
pub fn of<'r>(
    rule: Rule,
    scope: Scope<'_>,
    recipe: &Recipe,
    reading: &Reading<'_>,
    variant: Variant<'_>,
    others: impl Iterator<Item = (&'r Recipe, Reading<'r>)>,
) -> Result<Option<Identity>, Unreadable> {
    if rule == Rule::None {
        return Ok(None);
    }
    let mut names = SmallVec::<[ReplayKey; 1]>::new();
    for (other, reading) in others {
        // What cannot be read there is refused there: no copy comes under that name.
        names.extend(name_under(scope, other, &reading, recipe).ok().flatten());
    }
    names.push(match signed_id(recipe, reading, |_| true)? {
        Some(id) => id.key(scope),
        None => by_content(scope, recipe, reading, variant)?,
    });
    if rule == Rule::Delivery
        && let Some(id) = delivery_id(recipe, reading)?
    {
        names.iter_mut().for_each(|name| *name = of_delivery(*name, &id));
    }
    // A name that the schemes share stands first, so that each of them tells the same one.
    let told = names[0];
    names.sort_unstable();
    names.dedup();
    Ok(Some(Identity { told, names }))
}

/// Whether a delivery under `signed` could come under `other` as well, and has another name there. A
/// scheme with conditions stands alone, so that nothing of another one comes under it.
pub fn differs(signed: &Recipe, other: &Recipe) -> bool {
    let ids = |recipe: &Recipe| -> Vec<Source> {
        recipe.id.iter().filter(|source| recipe.identifies(source)).cloned().collect()
    };
    let same_content = signed.content == other.content || (is_body(signed) && is_body(other));
    let apart = signed.distinct == other.distinct;
    let named = ids(other).iter().any(|source| signed.identifies(source)) || is_body(other);
    let covered = signed.content.keeps_body();
    named && covered && other.when.is_empty() && !(same_content && apart && ids(signed) == ids(other))
}

/// The name that `other` would give to what was signed under `signed`; none if it could not come under
/// it, because its time is missing or what names it there is not covered here.
fn name_under(
    scope: Scope<'_>,
    other: &Recipe,
    reading: &Reading<'_>,
    signed: &Recipe,
) -> Result<Option<ReplayKey>, Unreadable> {
    // A time that nobody signed here proves nothing: anybody could have left it out.
    if let Some(rule) = &other.timestamp
        && rule.from.iter().all(|source| signed.covers(source))
        && reading.time(rule)?.is_none()
    {
        return Ok(None);
    }
    if let Some(id) = signed_id(other, reading, |source| signed.identifies(source))? {
        return Ok(Some(id.key(scope)));
    }
    match reading.variants().next().filter(|_| is_body(other)) {
        Some(variant) => by_content(scope, other, reading, variant).map(Some),
        None => Ok(None),
    }
}

/// Whether the body as it came is all that differs between two contents.
fn is_body(recipe: &Recipe) -> bool {
    let fixed = |segment: &Segment| {
        matches!(segment, Segment::Literal(_) | Segment::Piece(Piece::Secret | Piece::Body, None))
    };
    recipe.content.covers_body() && recipe.content.segments().iter().all(fixed)
}

/// A signed id, with what makes two events of one id.
struct SignedId<'r> {
    id: Cow<'r, str>,
    distinct: SmallVec<[Cow<'r, [u8]>; 1]>,
}

fn signed_id<'r>(
    recipe: &Recipe,
    reading: &'r Reading<'_>,
    covered: impl Fn(&Source) -> bool,
) -> Result<Option<SignedId<'r>>, Unreadable> {
    for source in recipe.id.iter().filter(|source| recipe.identifies(source) && covered(source)) {
        let Some(id) = reading.id(source)? else { continue };
        let distinct = recipe.distinct.iter().filter(|source| covered(source));
        // What is absent counts as empty.
        let values = distinct.map(|source| Ok(reading.value(source)?.unwrap_or_default()));
        return Ok(Some(SignedId { id, distinct: values.collect::<Result<_, _>>()? }));
    }
    Ok(None)
}

impl SignedId<'_> {
    fn key(&self, scope: Scope<'_>) -> ReplayKey {
        match self.distinct.as_slice() {
            [] => by_id(scope, &self.id),
            values => {
                let mut digest = on(scope, b"distinct id\0");
                for value in std::iter::once(self.id.as_bytes()).chain(values.iter().map(AsRef::as_ref)) {
                    digest.update((value.len() as u64).to_be_bytes());
                    digest.update(value);
                }
                ReplayKey::from_digest(&digest.finalize().into())
            }
        }
    }
}

/// The key of the event with this signed id.
pub fn by_id(scope: Scope<'_>, id: &str) -> ReplayKey {
    let mut digest = on(scope, b"id\0");
    digest.update(id.as_bytes());
    ReplayKey::from_digest(&digest.finalize().into())
}

/// The provider's own number for what it sends, if that does not tell its events apart by itself.
pub fn delivery_id<'r>(
    recipe: &Recipe,
    reading: &'r Reading<'_>,
) -> Result<Option<Cow<'r, str>>, Unreadable> {
    for source in recipe.id.iter().filter(|source| !recipe.identifies(source)) {
        if let Some(id) = reading.id(source)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

fn of_delivery(name: ReplayKey, id: &str) -> ReplayKey {
    let mut digest = Sha256::new();
    digest.update(b"delivery\0");
    digest.update(name.as_bytes());
    digest.update(id.as_bytes());
    ReplayKey::from_digest(&digest.finalize().into())
}

fn by_content(
    scope: Scope<'_>,
    recipe: &Recipe,
    reading: &Reading<'_>,
    variant: Variant<'_>,
) -> Result<ReplayKey, Unreadable> {
    let mut digest = on(scope, b"content\0");
    // What only shows who sends is the same for many events, and another one for a copy.
    if !recipe.is_shown() {
        reading.told_apart(variant, |bytes| digest.update(bytes))?;
    }
    if recipe.assurance != Assurance::Verified && !recipe.content.keeps_body() {
        digest.update(reading.body());
    }
    Ok(ReplayKey::from_digest(&digest.finalize().into()))
}

fn on(Scope { route, tenant }: Scope<'_>, kind: &[u8]) -> Sha256 {
    let mut digest = Sha256::new();
    digest.update((route.len() as u64).to_be_bytes());
    digest.update(route);
    if let Some(tenant) = tenant {
        digest.update(b"tenant\0"); // no kind begins so
        digest.update((tenant.len() as u64).to_be_bytes());
        digest.update(tenant);
    }
    digest.update(kind);
    digest
}
