//! The pure core: facts in, proof or reason out.
//!
//! It knows no socket, no clock, no log and no Pingora. Time comes in as a
//! [`Now`](crate::clock::Now), the request as a [`Head`](delivery::Head) and bytes,
//! and what comes out is either the proof that the next step asks for or a
//! [`Reject`](reason::Reject). The order of the checks stands in [`chain`].

pub mod chain;
pub mod delivery;
pub mod fetched;
pub mod filter;
pub mod handshake;
pub mod identity;
pub mod keys;
pub mod parse;
pub mod reason;
pub mod resign;
pub mod rotation;
pub mod route;
pub mod scheme;
pub mod tenant;
pub mod withhold;
