//! Whether a signature is genuine: the keys of a recipe, each ready to judge.

use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use super::algorithm::{Algorithm, KeyedMac, Tag};
use super::key::KeyError;
use super::public_key::PublicKey;
use super::reading::{Reading, Variant};
use crate::gate::parse::Unreadable;

/// A key, ready to verify under one recipe.
#[derive(Clone)]
pub struct Key {
    pub id: Arc<str>,
    pub verifier: Verifier,
}

/// What tells whether a signature is genuine.
#[derive(Clone)]
pub enum Verifier {
    /// The sender shares the key.
    Mac(Box<KeyedMac>),
    /// The sender keeps the other half of it.
    Public(PublicKey),
}

impl Verifier {
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        match algorithm.keyed(key) {
            Some(mac) => Ok(Verifier::Mac(Box::new(mac))),
            None => PublicKey::new(algorithm, key).map(Verifier::Public),
        }
    }

    /// The key, if the sender shares it.
    pub fn shared(&self) -> Option<&KeyedMac> {
        match self {
            Verifier::Mac(keyed) => Some(keyed),
            Verifier::Public(_) => None,
        }
    }

    /// Whether one of the tags was made with the key over this form of the content. For a shared
    /// key the time taken tells nothing.
    pub fn made_any(
        &self,
        tags: &[Tag],
        reading: &Reading<'_>,
        variant: Variant<'_>,
    ) -> Result<Choice, Unreadable> {
        match self {
            Verifier::Mac(keyed) => {
                let mut mac = (**keyed).clone();
                reading.signed(variant, keyed.secret(), |bytes| mac.update(bytes))?;
                let expected = mac.finish();
                let matches = tags.iter().map(|tag| expected.as_bytes().ct_eq(tag.as_bytes()));
                Ok(matches.fold(Choice::from(0), |any, one| any | one))
            }
            Verifier::Public(key) => {
                let mut message = Vec::new();
                reading.signed(variant, &[], |bytes| message.extend_from_slice(bytes))?;
                Ok(Choice::from(u8::from(tags.iter().any(|tag| key.verifies(&message, tag)))))
            }
        }
    }
}
