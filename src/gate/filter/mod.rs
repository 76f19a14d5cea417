//! The checks, one file each. A check is a pure function of facts; it returns what
//! the next step needs, or a [`Reject`](super::reason::Reject). It cannot log,
//! count or answer: it has no way to.

pub mod body_limit;
pub mod events;
pub mod failure_budget;
pub mod freshness;
pub mod https;
pub mod ip_allowlist;
pub mod rate_limit;
pub mod replay;
pub mod signature;
