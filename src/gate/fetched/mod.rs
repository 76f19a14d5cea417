//! Keys that are no files of the route: where they are found, which of them a delivery is to be judged
//! with, and what is asked of them. Whatever selects a key is written by whoever sends, and nothing of it
//! is proved yet: it is held against an exact grammar before anybody looks anything up.
//!
//! Nothing is fetched here. [`KeyPlace::wanted`] says what is needed; whoever has it hands it to
//! [`KeyPlace::choose`].

pub mod address;
pub mod certificate;
pub mod document;
pub mod parameters;

use std::sync::Arc;

use self::address::Address;
use self::certificate::ChainRule;
use self::document::{Document, Form, PublishedKey};
use super::parse::Unreadable;
use super::scheme::algorithm::Algorithm;
use super::scheme::reading::Reading;
use super::scheme::source::Source;
use super::scheme::{Key, Verifier, is_plain};

/// Where the keys of a recipe are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    pub source: KeySource,
    /// What names the key within what is found there.
    pub id: KeyName,
    pub form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// At addresses that are known before anything is delivered.
    Fixed(Vec<Pinned>),
    /// At an address that has the key's id in it.
    ById(Vec<Pinned>),
    /// At one that the delivery names, in one of these places or in each.
    Named(Vec<Source>, Vec<Pinned>),
    /// In the token, as a chain of certificates.
    Token(ChainRule),
}

/// An address, and what is demanded of a certificate that is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub address: Address,
    /// To whom it must have been given.
    pub name: Option<String>,
    /// Whether it must lead to one of the roots that are believed.
    pub chain: bool,
}

/// What names a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// Nothing: each of them is tried.
    None,
    /// The `kid` of the token.
    Token,
    /// This value.
    Value(Source),
}

/// What a delivery needs, in the gate's own words: only addresses that are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub url: Arc<str>,
    /// The key's name there.
    pub id: Option<Arc<str>>,
    pub pinned: Pinned,
}

/// What a recipe's keys are taken from for one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any one of these.
    Documents(Vec<Wanted>),
    /// It is in the delivery.
    Chain(Vec<Vec<u8>>),
}

impl Need {
    /// What several together need; `None` if no key can be had for all of them.
    pub fn of_all(needs: Vec<Need>) -> Option<Need> {
        let mut all = Vec::new();
        for need in needs {
            let Need::Documents(wanted) = need else { return None };
            for wanted in wanted {
                if !all.contains(&wanted) {
                    all.push(wanted);
                }
            }
        }
        Some(Need::Documents(all))
    }
}

impl KeyPlace {
    /// What is needed to judge a delivery; unreadable if it names nothing that is pinned.
    pub fn need(&self, reading: &Reading<'_>) -> Result<Need, Unreadable> {
        let id = match &self.id {
            KeyName::None => None,
            KeyName::Token => reading.token_parameter("kid")?,
            KeyName::Value(source) => Some(text(reading, source)?),
        };
        if id.as_ref().is_some_and(|id| !is_plain(id.as_bytes())) {
            return Err(Unreadable);
        }
        let id: Option<Arc<str>> = id.map(Into::into);
        let wanted = |url: String, pinned: &Pinned, id: &Option<Arc<str>>| Wanted {
            url: url.into(),
            id: id.clone(),
            pinned: pinned.clone(),
        };
        let found: Vec<_> = match &self.source {
            KeySource::Token(_) => return Ok(Need::Chain(reading.token_chain()?)),
            KeySource::Fixed(all) => {
                all.iter().filter_map(|one| Some(wanted(one.address.fixed()?, one, &id))).collect()
            }
            KeySource::ById(all) => {
                let id = id.as_deref().ok_or(Unreadable)?;
                all.iter().filter_map(|one| Some(wanted(one.address.of(id)?, one, &None))).collect()
            }
            KeySource::Named(by, all) => {
                let mut found = Vec::new();
                for by in by {
                    let Some(named) = reading.value(by)? else { continue };
                    let named = std::str::from_utf8(&named).map_err(|_| Unreadable)?;
                    let url = |one: &Pinned| {
                        one.address.matching(named).or_else(|| one.address.matching_path(named))
                    };
                    let first = all.iter().find_map(|one| Some(wanted(url(one)?, one, &id)));
                    found.push(first.ok_or(Unreadable)?);
                }
                found
            }
        };
        if found.is_empty() { Err(Unreadable) } else { Ok(Need::Documents(found)) }
    }

    /// Where it reads what it needs.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let by = match &self.source {
            KeySource::Named(by, _) => &**by,
            KeySource::Fixed(_) | KeySource::ById(_) | KeySource::Token(_) => &[],
        };
        let id = match &self.id {
            KeyName::Value(source) => Some(source),
            KeyName::None | KeyName::Token => None,
        };
        by.iter().chain(id)
    }

    /// The addresses that may be asked.
    pub fn addresses(&self) -> &[Pinned] {
        match &self.source {
            KeySource::Fixed(all) | KeySource::ById(all) | KeySource::Named(_, all) => all,
            KeySource::Token(_) => &[],
        }
    }

    /// The key of a chain that the token holds.
    pub fn of_chain(&self, chain: &[Vec<u8>], algorithm: Algorithm, now_ms: i64) -> Vec<Key> {
        let KeySource::Token(rule) = &self.source else { return Vec::new() };
        let material = certificate::of_chain(chain, rule, now_ms).ok();
        let key = material.and_then(|material| {
            Some(Key {
                id: material.fingerprint().into(),
                verifier: Verifier::Public(material.verifier(algorithm)?),
            })
        });
        key.into_iter().collect()
    }
}

impl Wanted {
    /// The address of the document. What stands behind `#` is the id of a key, which is asked for in another way.
    pub fn document(&self) -> &str {
        self.url.split('#').next().unwrap_or_default()
    }

    /// The keys of a document that the delivery can have been signed with.
    pub fn choose(&self, document: &Document, algorithm: Algorithm, now_ms: i64) -> Vec<Key> {
        let good = |key: &&PublishedKey| match (&key.certificate, &self.pinned.name) {
            (Some(facts), Some(name)) => facts.is_of(name) && facts.is_good(now_ms),
            (Some(facts), None) => facts.is_good(now_ms),
            (None, Some(_)) => false,
            (None, None) => true,
        };
        let key = |key: &PublishedKey| {
            let verifier = Verifier::Public(key.material.verifier(algorithm)?);
            Some(Key { id: key.called(), verifier })
        };
        document.named(self.id.as_deref()).filter(good).filter_map(key).collect()
    }
}

impl PublishedKey {
    /// What stands for it in logs and headers.
    pub fn called(&self) -> Arc<str> {
        match &self.id {
            Some(id) if is_plain(id.as_bytes()) => Arc::clone(id),
            _ => self.material.fingerprint().into(),
        }
    }
}

fn text(reading: &Reading<'_>, source: &Source) -> Result<String, Unreadable> {
    let value = reading.value(source)?.ok_or(Unreadable)?;
    String::from_utf8(value.into_owned()).map_err(|_| Unreadable)
}
