//! How much body may be read, and by whom.

use crate::gate::delivery::Head;
use crate::gate::filter::signature::Presented;
use crate::gate::reason::Reason;

/// Permission to read a body. Made here only, after every check of the head that applies, so
/// nothing is read from a sender that those checks refuse.
#[derive(Debug)]
pub struct Admitted {
    limit: usize,
    declared: Option<usize>,
    proof: Proof,
}

/// What the body is judged by.
#[derive(Debug)]
pub enum Proof {
    /// What the head presents.
    Presented(Presented),
    /// Nothing that could be judged, and the route only observes, or passes on.
    Nothing,
    /// Nothing: it is an unsigned question, and the application is to answer it.
    Asked,
    /// Nothing yet: the body tells whether it is an unsigned question, or it is one that is answered with a
    /// key which has to be looked up.
    Open,
}

impl Admitted {
    /// The most bytes that may be read.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What the sender declared; never more than the limit.
    pub fn declared(&self) -> Option<usize> {
        self.declared
    }

    /// Whether the body is read only to see if it is an unsigned question.
    pub(in crate::gate) fn is_open(&self) -> bool {
        matches!(self.proof, Proof::Open)
    }

    pub(in crate::gate) fn judged_by(&mut self, proof: Proof) {
        self.proof = proof;
    }

    pub(in crate::gate) fn proof(&self) -> &Proof {
        &self.proof
    }
}

/// Refuses a declared length over the limit before a byte of the body is read.
pub(in crate::gate) fn admit(limit: usize, head: &Head<'_>, proof: Proof) -> Result<Admitted, Reason> {
    let declared = match head.content_length {
        None => None,
        Some(length) => match usize::try_from(length) {
            Ok(length) if length <= limit => Some(length),
            Ok(_) | Err(_) => return Err(Reason::BodyTooLarge),
        },
    };
    Ok(Admitted { limit, declared, proof })
}
