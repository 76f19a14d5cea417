//! The signature over the raw bytes: every active key, constant time, no early exit.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use subtle::ConditionallySelectable;

use crate::gate::delivery::Head;
use crate::gate::fetched::Need;
use crate::gate::filter::events::{Events, Kind};
use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::gate::identity::{self, Identity, Scope};
use crate::gate::keys::Keys;
use crate::gate::parse::Unreadable;
use crate::gate::parse::json::Pointer;
use crate::gate::reason::Reason;
use crate::gate::scheme::algorithm::{Algorithm, Tag};
use crate::gate::scheme::presented::Shown;
use crate::gate::scheme::reading::{Reading, Variant};
use crate::gate::scheme::source::Source;
use crate::gate::scheme::{Assurance, Key, Recipe};

/// What a route demands: the recipes of its provider, each with the keys that fit it.
#[derive(Clone)]
pub struct Signature {
    schemes: Vec<Scheme>,
    /// Those that would judge if their keys were there. Then `schemes` is empty.
    awaiting: Vec<Scheme>,
    identity: identity::Rule,
    events: Option<Events>,
    /// How long its events are remembered, if not as long as those of other routes.
    window: Option<Duration>,
}

/// One recipe and its keys.
#[derive(Clone)]
pub struct Scheme {
    recipe: Recipe,
    keys: Vec<Key>,
    /// What the recipe reads from JSON.
    pointers: Vec<Pointer>,
    /// The schemes of the same signature under which its events have other names.
    others: Vec<usize>,
    /// Whether a signed id names its events, and nothing joins it.
    by_id: bool,
}

impl Scheme {
    pub fn new(recipe: Recipe, keys: Vec<Key>) -> Self {
        let by_id = recipe.distinct.is_empty() && recipe.id.iter().any(|source| recipe.identifies(source));
        Scheme { pointers: recipe.pointers(), recipe, keys, others: Vec::new(), by_id }
    }

    fn reading<'r>(&'r self, head: &'r Head<'r>, body: &'r [u8]) -> Reading<'r> {
        Reading::new(&self.recipe, head, body).at(&self.pointers)
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// The schemes whose a delivery may be, by what stands in the place of its signature.
#[derive(Debug)]
pub struct Presented {
    candidates: SmallVec<[Candidate; 1]>,
}

#[derive(Debug)]
struct Candidate {
    scheme: usize,
    /// `None` if the body holds them.
    tags: Option<Vec<Tag>>,
}

/// Proof that a key of the route signed exactly these bytes. Only [`Signature::verify`]
/// makes one, and everything in it that decides something was covered by the signature. It is on the
/// heap, because every step hands it to the next.
#[derive(Clone, Debug)]
pub struct Authentic(Box<Proven>);

#[derive(Clone, Debug)]
struct Proven {
    key_id: Arc<str>,
    tenant: Option<Arc<str>>,
    assurance: Assurance,
    signed_at: Option<SignedTime>,
    identity: Option<Identity>,
    event_id: Option<Named>,
    event_type: Option<Named>,
    taken: bool,
    by_id: bool,
    window: Option<Duration>,
}

/// What an event is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub text: Arc<str>,
    /// Whether the signature covers it; else anybody on the way could have written it.
    pub signed: bool,
}

/// The time that the signature covers, with the tolerance of its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedTime {
    /// Milliseconds since the epoch; `None` if the signed body holds no time.
    pub ms: Option<i64>,
    pub tolerance_ms: i64,
    pub future_tolerance_ms: i64,
    /// Until when the sender says that it is good.
    pub expires_ms: Option<i64>,
}

impl Authentic {
    pub fn key_id(&self) -> &Arc<str> {
        &self.0.key_id
    }

    /// The tenant whose key it is, on a route that has some.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        self.0.tenant.as_ref()
    }

    pub fn assurance(&self) -> Assurance {
        self.0.assurance
    }

    /// `None` if the provider signs no time.
    pub fn signed_at(&self) -> Option<SignedTime> {
        self.0.signed_at
    }

    /// `None` on routes that remember nothing.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// Every name by which a copy of the event is known; none on routes that remember nothing.
    pub fn names(&self) -> &[ReplayKey] {
        self.0.identity.as_ref().map_or(&[], Identity::names)
    }

    pub fn event_id(&self) -> Option<&Named> {
        self.0.event_id.as_ref()
    }

    pub fn event_type(&self) -> Option<&Named> {
        self.0.event_type.as_ref()
    }

    /// Whether a signed id that is there is all that the event goes by.
    pub fn goes_by_id(&self) -> bool {
        self.0.by_id
    }

    /// How long the event is remembered once it is delivered. Who names a window gets all of it.
    pub fn keep(&self) -> Keep {
        match (self.0.window, self.0.signed_at) {
            (Some(window), _) => Keep::For(window),
            (None, Some(_)) => Keep::UntilStale,
            (None, None) => Keep::WholeWindow,
        }
    }

    /// Whether the event is one that the route takes.
    pub fn is_taken(&self) -> bool {
        self.0.taken
    }
}

/// Why a scheme does not take a delivery.
enum Objection {
    /// Its tags are of another kind: another scheme may be meant.
    OtherTags(Reason),
    /// No key made one of its tags: another scheme that writes tags in the same way may have.
    NotMade,
    /// The delivery is of this scheme, and wrong.
    Final(Reason),
}

impl From<Reason> for Objection {
    fn from(reason: Reason) -> Self {
        Objection::Final(reason)
    }
}

impl Signature {
    /// `schemes` in the order of the preset: the first whose header is present decides alone.
    pub fn new(mut schemes: Vec<Scheme>) -> Self {
        for n in 0..schemes.len() {
            let differs =
                |other: &usize| *other != n && identity::differs(&schemes[n].recipe, &schemes[*other].recipe);
            schemes[n].others = (0..schemes.len()).filter(differs).collect();
        }
        Signature {
            schemes,
            awaiting: Vec::new(),
            identity: identity::Rule::default(),
            events: None,
            window: None,
        }
    }

    /// The same, as long as none of its keys is there.
    #[must_use]
    pub fn awaiting_keys(mut self) -> Self {
        self.awaiting = std::mem::take(&mut self.schemes);
        self
    }

    /// Whether nothing can be judged, because no key is there yet.
    pub fn awaits_keys(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// The same, with its events told apart by this rule.
    #[must_use]
    pub fn identified(self, identity: identity::Rule) -> Self {
        Signature { identity, ..self }
    }

    /// The longest time for which a delivery stays fresh; `None` if no scheme signs a time.
    pub fn freshness_window(&self) -> Option<Duration> {
        let rules = self.every_scheme().map(|scheme| scheme.recipe.timestamp.as_ref());
        rules.map(|rule| rule.map(|rule| rule.tolerance + rule.future_tolerance)).max().flatten()
    }

    /// The same, with its events remembered for so long.
    #[must_use]
    pub fn remembered(self, window: Option<Duration>) -> Self {
        Signature { window, ..self }
    }

    /// How long its events are remembered, if not as long as those of other routes.
    pub fn window(&self) -> Option<Duration> {
        self.window
    }

    /// The same, of whose events these are taken.
    #[must_use]
    pub fn choosing(mut self, events: Events) -> Self {
        for scheme in &mut self.schemes {
            scheme.recipe.looked_at = events.when.iter().map(|condition| condition.source.clone()).collect();
            scheme.pointers = scheme.recipe.pointers();
        }
        Signature { events: Some(events), ..self }
    }

    /// Which events are taken; all if nothing is said.
    pub fn events(&self) -> Option<&Events> {
        self.events.as_ref()
    }

    pub fn identity(&self) -> identity::Rule {
        self.identity
    }

    pub fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// The schemes, also those whose keys are not there yet.
    pub fn every_scheme(&self) -> impl Iterator<Item = &Scheme> {
        self.schemes.iter().chain(&self.awaiting)
    }

    /// The key that an event with this signed id has; `None` if no scheme goes by an id alone.
    pub fn key_of(&self, scope: Scope<'_>, id: &str) -> Option<ReplayKey> {
        let by_id = self.schemes.iter().any(|scheme| self.goes_by_id(scheme));
        by_id.then(|| identity::by_id(scope, id))
    }

    /// Whether an event's key shows from its signed id.
    fn goes_by_id(&self, scheme: &Scheme) -> bool {
        scheme.by_id && self.identity == identity::Rule::Signed
    }

    /// Whether the head carries a signature of any of the schemes. One that cannot be read is one.
    pub fn is_present(&self, head: &Head<'_>) -> bool {
        self.schemes.iter().any(|scheme| scheme.recipe.is_present(head) != Ok(false))
    }

    /// What the head presents. No fall-back: a sender that presents the newer form badly is not
    /// judged by the older one. A scheme with conditions that are met stands alone; beside another
    /// one stand those that read the same place, and there the tags tell whose they are. All places in
    /// a body are one: which of them it has shows when it is read.
    pub fn presented(&self, head: &Head<'_>) -> Result<Presented, Reason> {
        let mut candidates = SmallVec::new();
        let mut place: Option<&[Source]> = None;
        let mut nothing = Reason::SignatureMissing;
        for (n, Scheme { recipe, .. }) in self.schemes.iter().enumerate() {
            let in_body = |place: &[Source]| place.iter().all(Source::is_in_body);
            let from = &recipe.signature.from;
            let elsewhere = place.is_some_and(|place| place != from && !(in_body(place) && in_body(from)));
            if elsewhere || !recipe.is_present(head)? {
                continue;
            }
            let first = place.replace(from).is_none();
            match recipe.presented(head)? {
                Shown::Tags(tags) => candidates.push(Candidate { scheme: n, tags: Some(tags) }),
                Shown::InBody => candidates.push(Candidate { scheme: n, tags: None }),
                Shown::Nothing(reason) if first => nothing = reason,
                Shown::Nothing(_) => {}
            }
            if !recipe.when.is_empty() {
                break;
            }
        }
        if !candidates.is_empty() {
            return Ok(Presented { candidates });
        }
        Err(if self.awaits_keys() { Reason::Overloaded } else { nothing })
    }

    /// What is needed to judge a delivery, for each scheme whose it may be. Nothing of what it says is proved:
    /// what is no delivery of the scheme by its own words needs nothing, and is refused.
    pub fn needs(&self, presented: &Presented, head: &Head<'_>, body: &[u8]) -> Vec<(usize, Need)> {
        let need = |candidate: &Candidate| {
            let scheme = &self.schemes[candidate.scheme];
            let place = scheme.recipe.keys.as_ref()?;
            let need = |reading: &Reading<'_>| {
                let speaks = candidate.tags.is_some() || reading.tags().is_ok();
                let judged = speaks && reading.check().is_ok() && reading.is_of_recipe() == Ok(true);
                judged.then(|| place.need(reading).ok()).flatten()
            };
            let reading = scheme.reading(head, body);
            if !scheme.recipe.is_of_each() {
                return Some((candidate.scheme, need(&reading)?));
            }
            let all = reading.each().ok()?;
            let needs = all.iter().map(|one| need(&scheme.reading(head, body).of_one(one)));
            Some((candidate.scheme, Need::of_all(needs.collect::<Option<_>>()?)?))
        };
        presented.candidates.iter().filter_map(need).collect()
    }

    /// The keys of a chain that a delivery holds.
    pub fn of_chain(&self, scheme: usize, chain: &[Vec<u8>], now_ms: i64) -> Vec<Key> {
        let recipe = &self.schemes[scheme].recipe;
        let place = recipe.keys.as_ref();
        place.map_or_else(Vec::new, |place| place.of_chain(chain, recipe.algorithm, now_ms))
    }

    /// Verifies with the keys that the schemes hold. Only keys that are `usable` are tried; which are does
    /// not depend on the request.
    pub fn verify(
        &self,
        presented: &Presented,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
        usable: impl Fn(&str) -> bool,
    ) -> Result<Authentic, Reason> {
        self.verify_by(&Keys::OfRoute, presented, route, head, body, usable)
    }

    /// The same with these keys.
    pub fn verify_by(
        &self,
        keys: &Keys,
        presented: &Presented,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
        usable: impl Fn(&str) -> bool,
    ) -> Result<Authentic, Reason> {
        let mut met: Option<&Recipe> = None;
        let mut reason = None;
        for candidate in &presented.candidates {
            let scheme = &self.schemes[candidate.scheme];
            if met.is_some_and(|met| !met.shares_tags_with(&scheme.recipe)) {
                continue;
            }
            let made_by = (scheme, keys.of(candidate.scheme, scheme), keys.tenant());
            match self.judge(made_by, candidate.tags.as_deref(), None, route, head, body, &usable) {
                Ok(authentic) => return Ok(authentic),
                Err(Objection::Final(reason)) => return Err(reason),
                Err(Objection::NotMade) => {
                    met.get_or_insert(&scheme.recipe);
                    reason.replace(Reason::SignatureMismatch);
                }
                Err(Objection::OtherTags(other)) => _ = reason.get_or_insert(other),
            }
        }
        Err(reason.unwrap_or(Reason::SignatureMismatch))
    }

    #[expect(clippy::too_many_arguments, reason = "what a delivery is judged by")]
    fn judge(
        &self,
        made_by: (&Scheme, &[Key], Option<&Arc<str>>),
        tags: Option<&[Tag]>,
        one: Option<&str>,
        route: &str,
        head: &Head<'_>,
        body: &[u8],
        usable: &impl Fn(&str) -> bool,
    ) -> Result<Authentic, Objection> {
        let (scheme, keys, tenant) = made_by;
        let recipe = &scheme.recipe;
        let mut reading = scheme.reading(head, body);
        if let Some(one) = one {
            reading = reading.of_one(one);
        }
        let in_body = match tags {
            Some(_) => Vec::new(),
            None if recipe.is_of_each() && one.is_none() => {
                let all = reading.each().map_err(Objection::OtherTags)?;
                let one = |one: &String| self.judge(made_by, None, Some(one), route, head, body, usable);
                return Ok(together(all.iter().map(one).collect::<Result<_, _>>()?)?);
            }
            None => reading.tags().map_err(Objection::OtherTags)?,
        };
        reading.check()?;
        if !reading.is_of_recipe().map_err(Reason::from)? {
            return Err(Objection::OtherTags(Reason::SignatureMismatch));
        }
        let made = matching_key(keys, tags.unwrap_or(&in_body), &reading, usable);
        let (key, variant) = made.map_err(Reason::from)?.ok_or(Objection::NotMade)?;

        // From here on a key of the route has signed it, and whatever is wrong with it is wrong.
        let others = scheme.others.iter().map(|n| &self.schemes[*n]);
        let others = others.map(|other| (&other.recipe, other.reading(head, body)));
        let scope = Scope { route, tenant: tenant.map(|tenant| &**tenant) };
        let signed = || -> Result<_, Reason> {
            if !reading.holds_besides().map_err(unreadable)? {
                return Ok(None);
            }
            let event_id = named(recipe, head, &recipe.id, |source| reading.id(source))?;
            let event_type = named(recipe, head, &recipe.event_type, |source| Ok(reading.text(source)))?;
            Ok(Some(Authentic(Box::new(Proven {
                by_id: self.goes_by_id(scheme),
                window: self.window,
                taken: self.takes(recipe, &reading, event_type.as_ref()),
                key_id: Arc::clone(&key.id),
                tenant: tenant.cloned(),
                assurance: recipe.assurance,
                signed_at: signed_time(recipe, &reading).map_err(unreadable)?,
                identity: identity::of(self.identity, scope, recipe, &reading, variant, others)
                    .map_err(unreadable)?,
                event_id,
                event_type,
            }))))
        };
        signed()?.ok_or(Objection::Final(Reason::SignatureMismatch))
    }

    fn takes(&self, recipe: &Recipe, reading: &Reading<'_>, event_type: Option<&Named>) -> bool {
        let Some(events) = &self.events else { return true };
        let action = recipe.action.iter().find_map(|source| reading.text(source));
        let kind = Kind::new(event_type.map(|name| &*name.text), action.as_deref());
        events.take(&kind, |source| reading.value(source))
    }
}

/// One proof of several that a delivery holds. It is as new as the newest of them, and ends with the first.
fn together(proofs: Vec<Authentic>) -> Result<Authentic, Reason> {
    let mut times = proofs.iter().filter_map(Authentic::signed_at);
    let both = |so_far: SignedTime, other: SignedTime| {
        // Whatever ends says so.
        let ends = so_far.expires_ms.zip(other.expires_ms).ok_or(Reason::TimestampMissing)?;
        let ms = so_far.ms.zip(other.ms).map(|(one, other)| one.max(other));
        Ok::<_, Reason>(SignedTime { ms, expires_ms: Some(ends.0.min(ends.1)), ..so_far })
    };
    let signed_at = times.next().map(|first| times.try_fold(first, both)).transpose()?;
    let Authentic(proven) = proofs.into_iter().next().ok_or(Reason::SignatureMissing)?;
    Ok(Authentic(Box::new(Proven { signed_at, ..*proven })))
}

/// The key that made one of the tags, and the form of the content that it signed. Every key meets
/// every tag, and which of them match does not show in the time taken.
fn matching_key<'k, 'r>(
    keys: &'k [Key],
    tags: &[Tag],
    reading: &Reading<'r>,
    usable: &impl Fn(&str) -> bool,
) -> Result<Option<(&'k Key, Variant<'r>)>, Unreadable> {
    const NONE: u32 = u32::MAX;
    let mut matched = NONE;
    for (v, variant) in reading.variants().enumerate() {
        for (k, key) in keys.iter().enumerate().filter(|(_, key)| usable(&key.id)) {
            let n = u32::try_from(v * keys.len() + k).unwrap_or(NONE);
            matched.conditional_assign(&n, key.verifier.made_any(tags, reading, variant)?);
        }
    }
    let Some(n) = usize::try_from(matched).ok().filter(|_| matched != NONE) else { return Ok(None) };
    let variant = reading.variants().nth(n / keys.len());
    Ok(variant.map(|variant| (&keys[n % keys.len()], variant)))
}

fn signed_time(recipe: &Recipe, reading: &Reading<'_>) -> Result<Option<SignedTime>, Unreadable> {
    let Some(rule) = &recipe.timestamp else { return Ok(None) };
    let ms = reading.time(rule)?;
    if ms.is_none() && rule.optional && !reading.has_time(rule)? {
        return Ok(None);
    }
    Ok(Some(SignedTime {
        ms,
        tolerance_ms: millis(rule.tolerance),
        future_tolerance_ms: millis(rule.future_tolerance),
        expires_ms: reading.expiry(rule)?,
    }))
}

/// A key has signed it, and what it signed cannot be read.
fn unreadable(_: Unreadable) -> Reason {
    Reason::BodyMalformed
}

/// What the first of these sources says, for people. A header that comes twice is the head's fault,
/// whoever signed the body.
fn named<'r>(
    recipe: &Recipe,
    head: &Head<'_>,
    sources: &[Source],
    read: impl Fn(&Source) -> Result<Option<Cow<'r, str>>, Unreadable>,
) -> Result<Option<Named>, Reason> {
    for source in sources {
        let said = read(source).map_err(|fault| match source {
            Source::Header(_) | Source::Field(_) => fault.into(),
            _ => unreadable(fault),
        });
        if let Some(text) = said? {
            // Who shows a credential signs nothing.
            let claimed = matches!(source, Source::Claim(_)) && recipe.algorithm != Algorithm::Token;
            let signed = claimed || (!recipe.is_shown() && recipe.vouches_for(source, head)?);
            return Ok(Some(Named { text: text.into(), signed }));
        }
    }
    Ok(None)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
