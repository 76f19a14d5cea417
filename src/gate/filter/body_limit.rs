//! How much body may be read, and by whom.

use crate::gate::delivery::Head;
use crate::gate::filter::signature::Presented;
use crate::gate::reason::Reason;

/// Permission to read a body. Made here only, after every check of the head that applies, so
/// nothing is read from a sender that those checks refuse. An unsigned question that the application
/// is to answer shows no signature, so that check does not apply to it.
#[derive(Debug)]
pub struct Admitted {
    limit: usize,
    declared: Option<usize>,
    presented: Option<Presented>,
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

    /// What the sender presents as proof; absent on an observing route, and with an unsigned question
    /// that the application is to answer.
    pub(in crate::gate) fn into_presented(self) -> Option<Presented> {
        self.presented
    }
}

/// Refuses a declared length over the limit before a byte of the body is read.
pub fn admit(limit: usize, head: &Head<'_>, presented: Option<Presented>) -> Result<Admitted, Reason> {
    let declared = match head.content_length {
        None => None,
        Some(length) => match usize::try_from(length) {
            Ok(length) if length <= limit => Some(length),
            Ok(_) | Err(_) => return Err(Reason::BodyTooLarge),
        },
    };
    Ok(Admitted { limit, declared, presented })
}
