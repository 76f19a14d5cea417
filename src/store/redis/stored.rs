//! What the names of an event say while the inbox has it, and after. Each name is a key of its own, in its own
//! slot of a cluster, and says which record of the inbox it stands for: so what is meant for one record never
//! changes what a later one has said.

use std::sync::LazyLock;

use super::{Failure, Redis, Script, Token, millis};
use crate::gate::filter::replay::{Keep, ReplayKey};

static STORED: LazyLock<Script> = LazyLock::new(|| Script::repeatable(include_str!("stored.lua")));

/// Whether a name says that the inbox has its event: `s`, and the 28 hex digits of a record's number.
pub(super) fn is_mark(said: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    said.strip_prefix(b"s").is_some_and(|number| number.len() == 28 && number.iter().all(is_digit))
}

/// What happens to an event in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InInbox {
    /// Whoever holds the event puts it there.
    Takes,
    /// It is there.
    Has,
    /// The application has taken it from there.
    Delivered,
    /// It is there no more, and a copy is to be delivered.
    Leaves,
}

impl Redis {
    /// Writes down what happens to the event of that name, which is in the inbox under this mark. That is
    /// remembered for the window, like all else: an inbox that has it for longer says so again, and a record that
    /// its store has lost does not hold up its sender for ever.
    /// `false` if it had been delivered.
    pub(crate) async fn note(
        &self,
        name: ReplayKey,
        keep: Keep,
        mark: &str,
        what: InInbox,
    ) -> Result<bool, Failure> {
        let meant = match what {
            InInbox::Takes => "takes",
            InInbox::Has => "has",
            InInbox::Delivered => "delivered",
            InInbox::Leaves => "leaves",
        };
        let word = Token::random().map_err(|_| Failure::Unasked)?;
        let args = [word.as_str(), &format!("s{mark}"), meant, &millis(keep.span(self.policy.window()))];
        let answer = self.link.ask(&STORED, &[&self.event(name)], &args).await?;
        match answer.as_slice() {
            b"!" => Err(Failure::Unanswered),
            answer => Ok(answer != b"=d"),
        }
    }
}
