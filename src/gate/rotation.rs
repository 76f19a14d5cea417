//! Keys come and go: until when each may be used, and when an old one can be taken away
//! without an event being lost.

use std::sync::Arc;

use crate::clock::{Doubt, Now};

/// The keys of a route, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    keys: Vec<KeyLife>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLife {
    pub id: Arc<str>,
    /// Milliseconds since the epoch; the last at which it may be used.
    pub not_after_ms: Option<i64>,
}

impl Rotation {
    pub fn new(keys: Vec<KeyLife>) -> Self {
        Rotation { keys }
    }

    pub fn keys(&self) -> &[KeyLife] {
        &self.keys
    }

    /// Whether a key may be used now. One that may not is as good as absent.
    pub fn is_usable(&self, id: &str, now: Now) -> bool {
        self.keys.iter().find(|key| *key.id == *id).is_none_or(|key| !key.has_ended(now))
    }
}

impl KeyLife {
    /// A clock that has just jumped ends no key by itself: what it showed before must agree.
    pub fn has_ended(&self, now: Now) -> bool {
        let earliest = match now.doubt {
            Doubt::Jumped { otherwise_ms } => now.wall_ms.min(otherwise_ms),
            Doubt::None | Doubt::Unset => now.wall_ms,
        };
        self.not_after_ms.is_some_and(|end| earliest > end)
    }
}

const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// How long before its end a key is spoken of.
const NOTICE_MS: i64 = 7 * DAY_MS;

/// How a key has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Since when it has been watched.
    pub since_ms: i64,
    /// When a signature last held under it.
    pub last_match_ms: Option<i64>,
}

/// What an operator should know of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It may be used no longer.
    Ended,
    /// It may be used for so many days more, not counting the last one if that is short.
    Ends { days: i64 },
    /// It has signed nothing for a day, while a newer one has: it can be removed.
    Removable,
    /// It is the newest, but events are still signed with older ones, and none with it.
    NotYetUsed,
}

impl Advice {
    /// What is to be said of the end of a key, which needs no watching.
    pub fn of_end(key: &KeyLife, now: Now) -> Option<Advice> {
        let left = key.not_after_ms? - now.wall_ms;
        if key.has_ended(now) {
            return Some(Advice::Ended);
        }
        (left <= NOTICE_MS).then_some(Advice::Ends { days: left.max(0) / DAY_MS })
    }

    /// What is to be said of the key with that number. `uses` are in the order of the keys.
    pub fn of(rotation: &Rotation, uses: &[Use], n: usize, now: Now) -> Option<Advice> {
        let (key, its) = (rotation.keys.get(n)?, uses.get(n)?);
        if let end @ Some(_) = Advice::of_end(key, now) {
            return end;
        }
        let older = uses.get(n + 1..).unwrap_or_default();
        if n == 0 {
            let unused = its.last_match_ms.is_none() && now.wall_ms - its.since_ms >= HOUR_MS;
            return (unused && older.iter().any(|old| old.matched_within_a_day(now)))
                .then_some(Advice::NotYetUsed);
        }
        // Silence proves something only if events come at all, and under a key that stays.
        let newer = uses.iter().zip(&rotation.keys).take(n);
        let replaced =
            newer.filter(|(_, key)| !key.has_ended(now)).any(|(newer, _)| newer.matched_within_a_day(now));
        (replaced && its.silent_for_a_day(now)).then_some(Advice::Removable)
    }

    pub fn is_warning(self) -> bool {
        matches!(self, Advice::Ended | Advice::Ends { .. })
    }

    pub fn text(self, route: &str, key: &str) -> String {
        match self {
            Advice::Ended => {
                format!(
                    "route {route}: the secret {key} has passed its not_after: what it signs is refused; remove it"
                )
            }
            Advice::Ends { days: 0 } => {
                format!(
                    "route {route}: the secret {key} passes its not_after within a day: what it signs is refused then"
                )
            }
            Advice::Ends { days } => {
                format!(
                    "route {route}: the secret {key} passes its not_after in {days} days: what it signs is refused then"
                )
            }
            Advice::Removable => {
                format!(
                    "route {route}: the secret {key} has signed nothing for a day, a newer one has: it can be removed"
                )
            }
            Advice::NotYetUsed => {
                format!(
                    "route {route}: the newest secret {key} has signed nothing yet, an older one has: keep the older one"
                )
            }
        }
    }
}

impl Use {
    fn matched_within_a_day(&self, now: Now) -> bool {
        self.last_match_ms.is_some_and(|last| now.wall_ms - last < DAY_MS)
    }

    fn silent_for_a_day(&self, now: Now) -> bool {
        let last = self.last_match_ms.unwrap_or(self.since_ms).max(self.since_ms);
        now.wall_ms - last >= DAY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(id: &str, not_after: Option<i64>) -> KeyLife {
        KeyLife { id: id.into(), not_after_ms: not_after.map(|s| s * 1000) }
    }

    #[test]
    fn a_key_is_used_to_its_last_moment_and_not_beyond() {
        let rotation = Rotation::new(vec![key("a", None), key("b", Some(NOW))]);
        for (wall, usable) in [(NOW - 1, true), (NOW, true), (NOW + 1, false)] {
            assert!(rotation.is_usable("a", Now::at(wall, 0)));
            assert_eq!(rotation.is_usable("b", Now::at(wall, 0)), usable, "{}", wall - NOW);
        }
    }

    #[test]
    fn a_clock_that_jumped_ends_no_key() {
        let rotation = Rotation::new(vec![key("b", Some(NOW))]);
        let jumped = |wall: i64, otherwise: i64| Now {
            doubt: Doubt::Jumped { otherwise_ms: otherwise * 1000 },
            ..Now::at(wall, 0)
        };
        assert!(rotation.is_usable("b", jumped(NOW + 86400, NOW - 10)));
        assert!(rotation.is_usable("b", jumped(NOW - 10, NOW + 86400)));
        assert!(!rotation.is_usable("b", jumped(NOW + 10, NOW + 86400)));
    }

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    /// `(watched for, matched ago)` of each key, newest first.
    fn advice(uses: &[(i64, Option<i64>)], n: usize) -> Option<Advice> {
        let keys = (0..uses.len()).map(|n| key(&n.to_string(), None)).collect();
        of(&Rotation::new(keys), uses, n)
    }

    fn of(rotation: &Rotation, uses: &[(i64, Option<i64>)], n: usize) -> Option<Advice> {
        let uses: Vec<_> = uses
            .iter()
            .map(|(since, last)| Use {
                since_ms: (NOW - since) * 1000,
                last_match_ms: last.map(|ago| (NOW - ago) * 1000),
            })
            .collect();
        Advice::of(rotation, &uses, n, Now::at(NOW, 0))
    }

    #[test]
    fn an_old_key_can_go_once_it_is_silent_and_a_newer_one_is_not() {
        let old = |newest, old| advice(&[newest, old], 1);
        assert_eq!(old((2 * DAY, Some(HOUR)), (9 * DAY, Some(DAY))), Some(Advice::Removable));
        assert_eq!(old((2 * DAY, Some(HOUR)), (2 * DAY, None)), Some(Advice::Removable), "it never signed");
        assert_eq!(old((2 * DAY, Some(HOUR)), (9 * DAY, Some(DAY - 1))), None, "it signed within a day");
        assert_eq!(old((2 * DAY, Some(HOUR)), (DAY - 1, None)), None, "it was not watched for a day");
        assert_eq!(old((9 * DAY, Some(DAY)), (9 * DAY, Some(DAY))), None, "nothing comes at all");
        assert_eq!(old((9 * DAY, None), (9 * DAY, Some(2 * DAY))), None, "the new one is not in use");
        assert_eq!(
            advice(&[(9 * DAY, None), (9 * DAY, Some(1)), (9 * DAY, None)], 2),
            Some(Advice::Removable)
        );
        assert_eq!(advice(&[(9 * DAY, None)], 0), None, "an only key is left alone");
        let ending = Rotation::new(vec![key("0", Some(NOW - 1)), key("1", None)]);
        assert_eq!(
            of(&ending, &[(9 * DAY, Some(HOUR)), (9 * DAY, None)], 1),
            None,
            "what has ended replaces nothing"
        );
    }

    #[test]
    fn the_newest_key_is_missed_if_the_old_one_is_still_in_use() {
        assert_eq!(advice(&[(2 * HOUR, None), (9 * DAY, Some(60))], 0), Some(Advice::NotYetUsed));
        assert_eq!(
            advice(&[(HOUR - 1, None), (9 * DAY, Some(60))], 0),
            None,
            "the provider has not been told yet"
        );
        assert_eq!(advice(&[(2 * HOUR, Some(60)), (9 * DAY, Some(60))], 0), None, "both are in use");
        assert_eq!(advice(&[(2 * HOUR, None), (9 * DAY, Some(DAY))], 0), None, "nothing comes at all");
    }

    #[test]
    fn an_end_is_announced_a_week_ahead() {
        let of_end = |left: i64| Advice::of_end(&key("a", Some(NOW + left)), Now::at(NOW, 0));
        assert_eq!(of_end(7 * DAY + 1), None);
        assert_eq!(of_end(7 * DAY), Some(Advice::Ends { days: 7 }));
        assert_eq!(of_end(2 * DAY - 1), Some(Advice::Ends { days: 1 }));
        assert_eq!(of_end(0), Some(Advice::Ends { days: 0 }));
        assert_eq!(of_end(-1), Some(Advice::Ended));
        assert_eq!(Advice::of_end(&key("a", None), Now::at(NOW, 0)), None);
    }
}
