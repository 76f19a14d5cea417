//! The keys that a delivery is judged by, where the route does not hold them itself: they are looked up
//! for this delivery and handed in as a value. A route that looks its keys up holds none of its own, so
//! whoever forgets to hand them in refuses everything.

use std::sync::Arc;

use super::filter::signature::Scheme;
use super::rotation::Rotation;
use super::scheme::Key;
use super::scheme::algorithm::KeyedMac;
use crate::clock::Now;

/// By which keys a delivery is judged.
#[derive(Clone)]
pub enum Keys {
    /// Those that the route holds.
    OfRoute,
    /// Those that were looked up for this delivery.
    Found(Arc<KeyRing>),
    /// Nobody can say which they are: the delivery is neither genuine nor forged.
    Unavailable,
}

/// Keys that were looked up.
#[derive(Clone, Default)]
pub struct KeyRing {
    /// Of each scheme of the route, in its order. A scheme beyond the end has none.
    pub schemes: Vec<Vec<Key>>,
    pub rotation: Rotation,
    /// Whose keys they are, if they are a tenant's. Events of two tenants are never the same.
    pub tenant: Option<Arc<str>>,
    /// Nobody has them: they stand in for the keys of a tenant that does not exist, and prove nothing.
    pub is_decoy: bool,
    /// Those that answers to handshakes are made with, newest first.
    pub answering: Vec<(Arc<str>, KeyedMac)>,
}

impl Keys {
    /// The tenant whose keys they are.
    pub(in crate::gate) fn tenant(&self) -> Option<&Arc<str>> {
        match self {
            Keys::Found(ring) => ring.tenant.as_ref(),
            Keys::OfRoute | Keys::Unavailable => None,
        }
    }

    /// Whether they prove nothing, whoever signs with them.
    pub(in crate::gate) fn are_decoys(&self) -> bool {
        matches!(self, Keys::Found(ring) if ring.is_decoy)
    }

    /// The keys of a scheme, the one with that number.
    pub(in crate::gate) fn of<'k>(&'k self, n: usize, scheme: &'k Scheme) -> &'k [Key] {
        match self {
            Keys::OfRoute => scheme.keys(),
            Keys::Found(ring) => ring.schemes.get(n).map_or(&[], Vec::as_slice),
            Keys::Unavailable => &[],
        }
    }

    /// The keys that answers to handshakes are made with.
    pub(in crate::gate) fn answering<'k>(
        &'k self,
        own: &'k [(Arc<str>, KeyedMac)],
    ) -> &'k [(Arc<str>, KeyedMac)] {
        match self {
            Keys::OfRoute => own,
            Keys::Found(ring) => &ring.answering,
            Keys::Unavailable => &[],
        }
    }

    /// Whether the key of that id may be used now.
    pub(in crate::gate) fn is_usable(&self, own: &Rotation, id: &str, now: Now) -> bool {
        match self {
            Keys::OfRoute => own.is_usable(id, now),
            Keys::Found(ring) => ring.rotation.is_usable(id, now),
            Keys::Unavailable => false,
        }
    }
}
