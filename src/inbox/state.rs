//! The states of an event in the inbox, and what may follow what: pure, so that every engine and the test
//! of their histories read one table.
//!
//! | from | by | to |
//! |---|---|---|
//! | absent, dead | `store` | stored |
//! | stored | a copy's `store` | stored, untouched |
//! | stored | an attempt that the application answered with 2xx | absent here, done in the replay memory |
//! | stored | an attempt that failed | stored, due later |
//! | stored | the last attempt that failed | dead |
//! | stored, dead | `replay` | stored, due now |
//! | stored, dead, damaged | `drop` | absent |
//! | stored | its record cannot be read any more | damaged |
//! | dead | a copy that the application took, or too long a time | absent |

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// The inbox has given it up; an operator or its sender can still have it delivered.
    Dead,
    /// What was written cannot be read: set aside, so that the rest goes on.
    Damaged,
    /// It will be delivered.
    Stored,
}

/// What happens to an event that the inbox has, or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    Store,
    Done,
    Later,
    GivenUp,
    Replay,
    Drop,
    Unreadable,
    /// Its copy was delivered past the inbox.
    Overtaken,
}

impl State {
    pub const ALL: [State; 3] = [State::Dead, State::Damaged, State::Stored];

    pub const fn label(self) -> &'static str {
        match self {
            State::Dead => "dead",
            State::Damaged => "damaged",
            State::Stored => "stored",
        }
    }

    /// The state after; `None` is absent.
    pub fn after(before: Option<State>, happens: Happens) -> Option<State> {
        use Happens::{Done, Drop, GivenUp, Later, Overtaken, Replay, Store, Unreadable};
        match (before, happens) {
            (None | Some(State::Dead | State::Damaged), Store) | (Some(State::Dead), Replay) => {
                Some(State::Stored)
            }
            (Some(State::Stored), Done)
            | (Some(_), Drop)
            | (Some(State::Dead | State::Damaged), Overtaken) => None,
            (Some(State::Stored), GivenUp) => Some(State::Dead),
            (Some(State::Stored), Unreadable) => Some(State::Damaged),
            (Some(State::Stored), Store | Later | Replay | Overtaken)
            | (Some(State::Dead | State::Damaged), Done | Later | GivenUp | Unreadable)
            | (Some(State::Damaged), Replay)
            | (None, Done | Later | GivenUp | Replay | Drop | Unreadable | Overtaken) => before,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = State::ALL.into_iter().find(|state| state.label() == text);
        found.ok_or_else(|| format!("{text:?} is no state: write stored, dead or damaged"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_event_is_taken_again_and_a_stored_one_is_left_alone() {
        assert_eq!(State::after(Some(State::Dead), Happens::Store), Some(State::Stored));
        assert_eq!(State::after(Some(State::Stored), Happens::Store), Some(State::Stored));
        assert_eq!(
            State::after(Some(State::Dead), Happens::Done),
            Some(State::Dead),
            "no attempt of it is out"
        );
        assert_eq!(State::after(Some(State::Dead), Happens::Overtaken), None);
        assert_eq!(State::after(Some(State::Stored), Happens::Overtaken), Some(State::Stored));
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        for state in State::ALL {
            assert_eq!(state.label().parse(), Ok(state));
        }
        assert!("done".parse::<State>().unwrap_err().contains("stored"));
    }
}
