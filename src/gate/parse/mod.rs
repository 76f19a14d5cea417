//! Strict readers of what senders write: each gives a value, says that there is none, or fails with
//! [`Unreadable`], which is not the same as none.

pub mod each;
pub mod form;
pub mod forwarded;
pub mod json;
pub mod jws;
pub mod multipart;
pub mod url;

use super::reason::Reason;

/// What is there and cannot be read, or can be read in more than one way. It is not absent: nobody
/// but the application could say what it makes of it, so whoever needs it refuses the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Until a signature holds, what cannot be read is a fault of the signature.
impl From<Unreadable> for Reason {
    fn from(_: Unreadable) -> Self {
        Reason::SignatureMalformed
    }
}
