//! What happened in a run, in one order, and the laws that every run must obey.
//!
//! Who acts writes down what it does *before* it does it, and who sees something writes it
//! down *after*: so if an entry stands before another one, that is how it was wherever
//! the laws ask.

use std::collections::{HashMap, HashSet};
use std::fmt;

/// One call of the application: a connection of the gate, and how many calls were on it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub link: usize,
    pub turn: usize,
}

/// A webhook, whoever sends it and however often.
pub type Event = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first bytes of a call came from the gate with that number of restarts.
    Issued { call: Call, life: usize },
    /// The application has read the whole request. Of no event: nobody signed these bytes.
    Arrived { call: Call, event: Option<Event> },
    /// The application answers. The answer ends with that byte of the connection.
    Said { call: Call, status: u16, end: u64 },
    /// The connection breaks. So many bytes of answers the gate has surely read; if it has
    /// read more, nobody can know.
    Broken { link: usize, read: u64 },
    /// The gate has closed the connection, and has read that many bytes of answers.
    Left { link: usize, read: u64 },
    /// A sender has read an answer.
    Answered { event: Event, status: u16 },
    /// A sender has tried in vain for far too long, with no fault in the way.
    Lost { event: Event },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A sender was told 2xx and will not try again, but the application has not said so.
    Unkept(Event),
    /// A call was made while an earlier one of the same event was open, or had succeeded.
    Twice(Event, Call, Call),
    /// The application saw what nobody signed.
    Altered(Call),
    /// Retries do not get through.
    Lost(Event),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Unkept(event) => {
                write!(f, "event {event}: 2xx to the sender, but not from the application")
            }
            Violation::Twice(event, first, second) => {
                write!(f, "event {event}: {second:?} was made although {first:?} had not failed")
            }
            Violation::Altered(call) => write!(f, "{call:?}: bytes that nobody signed"),
            Violation::Lost(event) => write!(f, "event {event}: never delivered"),
        }
    }
}

pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Every breach of a law.
pub fn violations(history: &[Entry]) -> Vec<Violation> {
    let mut found = answers(history);
    found.extend(deliveries(history));
    found
}

/// What senders were told, and what the application saw.
fn answers(history: &[Entry]) -> Vec<Violation> {
    let mut events = HashMap::new();
    let mut delivered: HashSet<Event> = HashSet::new();
    let mut found = Vec::new();
    for entry in history {
        match *entry {
            Entry::Arrived { call, event: None } => found.push(Violation::Altered(call)),
            Entry::Arrived { call, event: Some(event) } => _ = events.insert(call, event),
            Entry::Said { call, status, .. } if is_success(status) => delivered.extend(events.get(&call)),
            Entry::Answered { event, status } if is_success(status) && !delivered.contains(&event) => {
                found.push(Violation::Unkept(event));
            }
            Entry::Lost { event } => found.push(Violation::Lost(event)),
            _ => {}
        }
    }
    found
}

/// What is known of a call at some point of the history.
struct Known {
    call: Call,
    issued: usize,
    life: usize,
    /// The gate had given it up before its first byte was seen: nobody can say when it was made.
    late: bool,
    said: Option<(usize, u16)>,
    /// The byte of the connection with which its answer ends; beyond all bytes if there is none.
    end: u64,
}

/// Between two calls of one event there is the failure of the earlier one.
fn deliveries(history: &[Entry]) -> Vec<Violation> {
    let mut calls: Vec<Known> = Vec::new();
    let mut place = HashMap::new();
    let mut by_event: HashMap<Event, Vec<usize>> = HashMap::new();
    let mut ends: HashMap<usize, Vec<(usize, u64)>> = HashMap::new();
    for (at, entry) in history.iter().enumerate() {
        match *entry {
            Entry::Issued { call, life } => {
                place.insert(call, calls.len());
                let late = ends.contains_key(&call.link);
                calls.push(Known { call, issued: at, life, late, said: None, end: u64::MAX });
            }
            Entry::Arrived { call, event: Some(event) } => {
                by_event.entry(event).or_default().extend(place.get(&call));
            }
            Entry::Said { call, status, end } => {
                if let Some(known) = place.get(&call) {
                    calls[*known].said = Some((at, status));
                    calls[*known].end = end;
                }
            }
            Entry::Broken { link, read } | Entry::Left { link, read } => {
                ends.entry(link).or_default().push((at, read));
            }
            Entry::Arrived { event: None, .. } | Entry::Answered { .. } | Entry::Lost { .. } => {}
        }
    }
    let failed_before = |known: &Known, at: usize| {
        let refused = known.said.is_some_and(|(said, status)| said < at && !is_success(status));
        let ends = ends.get(&known.call.link).into_iter().flatten();
        refused || ends.into_iter().any(|(end, read)| *end < at && *read < known.end)
    };
    let mut found = Vec::new();
    for (event, mut of_event) in by_event {
        of_event.sort_by_key(|call| calls[*call].issued);
        for (n, later) in of_event.iter().map(|n| &calls[*n]).enumerate().filter(|(_, later)| !later.late) {
            let earlier = of_event[..n].iter().map(|n| &calls[*n]).filter(|c| c.life == later.life);
            let open = earlier.filter(|earlier| !failed_before(earlier, later.issued));
            found.extend(open.map(|earlier| Violation::Twice(event, earlier.call, later.call)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Call = Call { link: 1, turn: 1 };
    const SECOND: Call = Call { link: 2, turn: 1 };
    const OK: Entry = Entry::Answered { event: 7, status: 200 };

    fn issued(call: Call) -> Entry {
        Entry::Issued { call, life: 0 }
    }

    fn arrived(call: Call) -> Entry {
        Entry::Arrived { call, event: Some(7) }
    }

    fn said(call: Call, status: u16) -> Entry {
        Entry::Said { call, status, end: 100 }
    }

    #[test]
    fn a_plain_delivery_breaks_no_law() {
        assert_eq!(violations(&[issued(FIRST), arrived(FIRST), said(FIRST, 200), OK, OK]), []);
    }

    #[test]
    fn a_success_before_the_applications_is_caught() {
        let unkept = [Violation::Unkept(7)];
        assert_eq!(violations(&[OK]), unkept, "it saw nothing");
        assert_eq!(violations(&[issued(FIRST), arrived(FIRST), OK, said(FIRST, 200)]), unkept, "too early");
        assert_eq!(violations(&[issued(FIRST), arrived(FIRST), said(FIRST, 500), OK]), unkept, "it refused");
        let other = Entry::Arrived { call: FIRST, event: Some(8) };
        assert_eq!(violations(&[issued(FIRST), other, said(FIRST, 200), OK]), unkept, "another event");
        let failed = Entry::Answered { event: 7, status: 502 };
        assert_eq!(violations(&[failed]), [], "a failure promises nothing");
    }

    #[test]
    fn a_call_beside_an_open_one_is_caught() {
        let twice = [Violation::Twice(7, FIRST, SECOND)];
        let open = [issued(FIRST), arrived(FIRST), issued(SECOND), arrived(SECOND)];
        assert_eq!(violations(&open), twice);
        let overtaking = [issued(FIRST), issued(SECOND), arrived(SECOND), arrived(FIRST)];
        assert_eq!(violations(&overtaking), twice, "what counts is when the gate made them");
        let late_failure = [issued(FIRST), arrived(FIRST), issued(SECOND), said(FIRST, 500), arrived(SECOND)];
        assert_eq!(violations(&late_failure), twice, "it failed only later");
    }

    #[test]
    fn a_call_after_a_success_is_caught() {
        let twice = [Violation::Twice(7, FIRST, SECOND)];
        let done = [issued(FIRST), arrived(FIRST), said(FIRST, 200)];
        let again = [issued(SECOND), arrived(SECOND)];
        assert_eq!(violations(&[&done[..], &again].concat()), twice);
        let closed = Entry::Left { link: 1, read: 100 };
        assert_eq!(violations(&[&done[..], &[closed], &again].concat()), twice, "it had read the answer");
        let cut = Entry::Broken { link: 1, read: 100 };
        assert_eq!(violations(&[&done[..], &[cut], &again].concat()), twice, "it broke in a later call");
        let kept = Call { link: 1, turn: 2 };
        let again = [issued(kept), arrived(kept)];
        let twice = [Violation::Twice(7, FIRST, kept)];
        assert_eq!(violations(&[&done[..], &again].concat()), twice, "on the same connection");
    }

    #[test]
    fn a_call_after_a_failure_is_a_retry() {
        let begun = [issued(FIRST), arrived(FIRST)];
        let again = [issued(SECOND), arrived(SECOND)];
        for failure in [
            &[said(FIRST, 500)][..],
            &[Entry::Broken { link: 1, read: 0 }],
            &[Entry::Left { link: 1, read: 0 }],
            &[said(FIRST, 200), Entry::Broken { link: 1, read: 99 }],
            &[said(FIRST, 200), Entry::Left { link: 1, read: 99 }],
        ] {
            assert_eq!(violations(&[&begun[..], failure, &again].concat()), [], "{failure:?}");
        }
    }

    #[test]
    fn memory_ends_with_its_process() {
        let restarted = Entry::Issued { call: SECOND, life: 1 };
        let done = [issued(FIRST), arrived(FIRST), said(FIRST, 200), restarted, arrived(SECOND)];
        assert_eq!(violations(&done), []);
    }

    #[test]
    fn a_call_that_was_given_up_before_it_was_seen_is_in_nobodys_way() {
        let late = [Entry::Left { link: 1, read: 0 }, issued(FIRST), arrived(FIRST)];
        let other = [issued(SECOND), arrived(SECOND), said(SECOND, 200)];
        assert_eq!(violations(&[&late[..], &other].concat()), []);
        assert_eq!(violations(&[&other[..], &late].concat()), []);
    }

    #[test]
    fn strange_bytes_and_lost_events_are_caught() {
        let strange = Entry::Arrived { call: FIRST, event: None };
        assert_eq!(violations(&[strange]), [Violation::Altered(FIRST)]);
        assert_eq!(violations(&[Entry::Lost { event: 7 }]), [Violation::Lost(7)]);
    }
}
