//! When a delivery was signed, and how far from now that may be.

use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::clock::to_rfc3339;

/// Where the signed time stands and how it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampRule {
    /// The first source that is present decides.
    pub from: Vec<Source>,
    pub unit: TimeUnit,
    /// Where the sender says how long the event is good, if it does: the sooner end counts.
    pub expires: Option<Source>,
    /// Whether a delivery without a time has none to judge. What is signed cannot be left out on the way.
    pub optional: bool,
    /// How old an event may be.
    pub tolerance: Duration,
    /// How far ahead of our clock the sender's may be.
    pub future_tolerance: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TimeUnit {
    /// Unix time in seconds.
    S,
    /// Unix time in milliseconds.
    Ms,
    /// RFC 3339; without a zone it is UTC. A JSON integer is Unix time in seconds.
    Rfc3339,
    /// RFC 3339 with its zone.
    Rfc3339Zoned,
    /// An HTTP date (RFC 9110, section 5.6.7).
    HttpDate,
}

impl TimeUnit {
    /// Milliseconds since the epoch, if the text is exactly one time in this unit.
    ///
    /// Numbers are plain digits without sign, space or leading zero, so that what is
    /// signed and what is judged are the same. A unit is never guessed from the length.
    pub fn parse(self, text: &[u8]) -> Option<i64> {
        match self {
            TimeUnit::S => digits(text, 12)?.checked_mul(1000),
            TimeUnit::Ms => digits(text, 15),
            TimeUnit::Rfc3339 => rfc3339(std::str::from_utf8(text).ok()?),
            TimeUnit::Rfc3339Zoned => {
                Some(DateTime::parse_from_rfc3339(std::str::from_utf8(text).ok()?).ok()?.timestamp_millis())
            }
            // The parser passes over white space at both ends, of which there are many kinds.
            TimeUnit::HttpDate
                if text.iter().all(|b| matches!(b, 0x20..=0x7e)) && text.trim_ascii() == text =>
            {
                let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
                let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
                i64::try_from(since.as_millis()).ok()
            }
            TimeUnit::HttpDate => None,
        }
    }

    /// Whether a time that [`parse`](Self::parse) takes shows by itself where it ends: cut
    /// short or made longer, it is none, or another one by far.
    pub fn shows_its_end(self, text: &[u8]) -> bool {
        match self {
            TimeUnit::S | TimeUnit::Ms | TimeUnit::HttpDate => true,
            // Without a zone, what is left of a fraction that is cut short is nearly the same time.
            TimeUnit::Rfc3339 | TimeUnit::Rfc3339Zoned => {
                std::str::from_utf8(text).is_ok_and(|text| DateTime::parse_from_rfc3339(text).is_ok())
            }
        }
    }

    /// A JSON integer in this unit.
    pub fn from_integer(self, n: i64) -> Option<i64> {
        match self {
            TimeUnit::Ms => Some(n).filter(|n| *n >= 0),
            TimeUnit::S | TimeUnit::Rfc3339 => n.checked_mul(1000).filter(|n| *n >= 0),
            TimeUnit::Rfc3339Zoned | TimeUnit::HttpDate => None,
        }
    }

    /// The time as a sender would write it.
    pub fn format(self, ms: i64) -> String {
        match self {
            TimeUnit::S => ms.div_euclid(1000).to_string(),
            TimeUnit::Ms => ms.to_string(),
            TimeUnit::Rfc3339 | TimeUnit::Rfc3339Zoned => to_rfc3339(ms),
            TimeUnit::HttpDate => {
                let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
                httpdate::fmt_http_date(std::time::UNIX_EPOCH + since)
            }
        }
    }
}

fn digits(text: &[u8], most: usize) -> Option<i64> {
    let canonical = matches!(text, [b'1'..=b'9', ..] | [b'0']) && text.len() <= most;
    if !canonical || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn rfc3339(text: &str) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")));
    Some(time.ok()?.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_their_unit_only() {
        assert_eq!(TimeUnit::S.parse(b"1700000000"), Some(1_700_000_000_000));
        assert_eq!(TimeUnit::Ms.parse(b"1700000000123"), Some(1_700_000_000_123));
        assert_eq!(TimeUnit::Rfc3339.parse(b"2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(TimeUnit::Rfc3339.parse(b"2023-11-14T22:13:20.123456789Z"), Some(1_700_000_000_123));
        assert_eq!(TimeUnit::Rfc3339.parse(b"2023-11-14T22:13:20"), Some(1_700_000_000_000));
        assert_eq!(TimeUnit::Rfc3339.parse(b"2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        assert_eq!(TimeUnit::HttpDate.parse(b"Tue, 14 Nov 2023 22:13:20 GMT"), Some(1_700_000_000_000));
        for space in [" ", "\u{b}", "\u{a0}"] {
            let spaced = format!("Tue, 14 Nov 2023 22:13:20 GMT{space}");
            assert_eq!(TimeUnit::HttpDate.parse(spaced.as_bytes()), None, "{space:?}");
        }
        for sloppy in ["023-11-14T22:13:20Z", "2023-11-14T22:13:2", "2023-11-14T22:13: 20", "2023-1-4T2:3:4"]
        {
            assert_eq!(TimeUnit::Rfc3339.parse(sloppy.as_bytes()), None, "{sloppy}");
        }
    }

    #[test]
    fn anything_but_canonical_digits_is_refused() {
        for bad in [
            "",
            "-1",
            "+1700000000",
            " 1700000000",
            "1700000000 ",
            "1700000000.5",
            "1e9",
            "0x65",
            "01700000000",
            "1700000000000",
            "9223372036854775808",
            "18446744073709551616",
            "\u{0661}",
            "1111111111111111111111111111111111111111",
            "2023-11-14T22:13:20Z",
        ] {
            assert_eq!(TimeUnit::S.parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_time_survives_being_written() {
        for unit in [TimeUnit::S, TimeUnit::Ms, TimeUnit::Rfc3339, TimeUnit::HttpDate] {
            let text = unit.format(1_700_000_000_000);
            assert_eq!(unit.parse(text.as_bytes()), Some(1_700_000_000_000), "{text}");
        }
    }
}
