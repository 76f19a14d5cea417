//! The demand for HTTPS. Never a redirect: a sender that followed it would have
//! sent the event in the clear already.

use crate::gate::delivery::Head;
use crate::gate::reason::Reason;

/// Whether plain HTTP is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Https {
    Required,
    /// `--insecure-allow-http`.
    Optional,
}

impl Https {
    pub fn check(self, head: &Head<'_>) -> Result<(), Reason> {
        match self {
            Https::Required if !head.secure => Err(Reason::HttpsRequired),
            Https::Required | Https::Optional => Ok(()),
        }
    }
}
