//! What the replay file is made of: a header and records of one size, each with its checksum.
//!
//! ```text
//! 0     1       4                20           28       32
//! kind  span    key or boot id   time (ms)    CRC-32
//! ```
//!
//! The span is for events that are kept for a time of their own, in minutes; elsewhere it is zero.
//! Numbers are little-endian. A time is the machine's uptime, which nobody sets; the marks tell
//! what the wall clock showed beside it.

use std::time::Duration;

use crate::clock::{self, BootId, Doubt, Stamp};
use crate::gate::filter::replay::{Keep, ReplayKey};

pub const SIZE: usize = 32;
/// 1 named events by the place of their signature as well.
const VERSION: u32 = 2;
const MAGIC: &[u8; 16] = b"hookgate replay\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Everything before it is on the disk. What follows was written in this run of the machine.
    Mark {
        boot: BootId,
        /// Wall time minus uptime; `None` if the wall clock was not set.
        offset_ms: Option<i64>,
    },
    Done {
        key: ReplayKey,
        keep: Keep,
        /// When it was delivered.
        uptime_ms: i64,
    },
    /// An operator wanted it to be delivered again.
    Forgotten { key: ReplayKey },
}

const MARK: u8 = 1;
const DONE_UNTIL_STALE: u8 = 2;
const DONE_WHOLE_WINDOW: u8 = 3;
const FORGOTTEN: u8 = 4;
const DONE_FOR: u8 = 5;
const MINUTE_MS: i64 = 60_000;
/// The span has three bytes.
const MOST_MINUTES: i64 = 0xff_ffff;
/// Stands for an offset that nobody knows.
const UNKNOWN: i64 = i64::MIN;

impl Record {
    pub fn mark(stamp: &Stamp) -> Self {
        let offset_ms = match stamp.now.doubt {
            Doubt::Unset => None,
            Doubt::None | Doubt::Jumped { .. } => Some(stamp.now.wall_ms - stamp.uptime_ms),
        };
        Record::Mark { boot: stamp.boot, offset_ms }
    }

    pub fn encode(&self) -> [u8; SIZE] {
        let (kind, minutes, id, time) = match self {
            Record::Mark { boot, offset_ms } => (MARK, 0, boot, offset_ms.unwrap_or(UNKNOWN)),
            Record::Done { key, keep: Keep::UntilStale, uptime_ms } => {
                (DONE_UNTIL_STALE, 0, key.as_bytes(), *uptime_ms)
            }
            Record::Done { key, keep: Keep::WholeWindow, uptime_ms } => {
                (DONE_WHOLE_WINDOW, 0, key.as_bytes(), *uptime_ms)
            }
            Record::Done { key, keep: Keep::For(span), uptime_ms } => {
                let (minutes, earlier_ms) = in_minutes(*span);
                (DONE_FOR, minutes, key.as_bytes(), uptime_ms.saturating_sub(earlier_ms))
            }
            Record::Forgotten { key } => (FORGOTTEN, 0, key.as_bytes(), 0),
        };
        let mut bytes = [0; SIZE];
        bytes[0] = kind;
        bytes[1..4].copy_from_slice(&minutes.to_le_bytes()[..3]);
        bytes[4..20].copy_from_slice(id);
        bytes[20..28].copy_from_slice(&time.to_le_bytes());
        sealed(bytes)
    }

    /// `None` if these are not the bytes of a record.
    pub fn decode(bytes: &[u8; SIZE]) -> Option<Record> {
        let minutes = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], 0]);
        if !is_sealed(bytes) || (minutes == 0) == (bytes[0] == DONE_FOR) {
            return None;
        }
        let id: [u8; 16] = bytes[4..20].try_into().ok()?;
        let time = i64::from_le_bytes(bytes[20..28].try_into().ok()?);
        let key = ReplayKey::from_bytes(id);
        match bytes[0] {
            MARK => Some(Record::Mark { boot: id, offset_ms: Some(time).filter(|time| *time != UNKNOWN) }),
            DONE_UNTIL_STALE => Some(Record::Done { key, keep: Keep::UntilStale, uptime_ms: time }),
            DONE_WHOLE_WINDOW => Some(Record::Done { key, keep: Keep::WholeWindow, uptime_ms: time }),
            DONE_FOR => {
                let keep = Keep::For(Duration::from_secs(u64::from(minutes) * 60));
                Some(Record::Done { key, keep, uptime_ms: time })
            }
            FORGOTTEN => Some(Record::Forgotten { key }),
            _ => None,
        }
    }
}

/// A span as whole minutes, and by how many milliseconds these are longer: so much earlier they begin.
fn in_minutes(span: Duration) -> (u32, i64) {
    let span_ms = clock::millis(span);
    let minutes = (span_ms / MINUTE_MS + i64::from(span_ms % MINUTE_MS > 0)).clamp(1, MOST_MINUTES);
    let earlier_ms = (minutes * MINUTE_MS).saturating_sub(span_ms).max(0);
    (u32::try_from(minutes).unwrap_or(u32::MAX), earlier_ms)
}

/// What a replay file begins with.
pub fn header() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..20].copy_from_slice(&VERSION.to_le_bytes());
    sealed(bytes)
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// It is none.
    Foreign,
    /// A later program wrote it.
    Later(u32),
    /// An earlier program wrote it, which named events in another way.
    Earlier(u32),
}

pub fn check_header(bytes: &[u8; SIZE]) -> Result<(), Strange> {
    if !is_sealed(bytes) || bytes[..16] != MAGIC[..] {
        return Err(Strange::Foreign);
    }
    match u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) {
        VERSION => Ok(()),
        earlier if earlier < VERSION => Err(Strange::Earlier(earlier)),
        later => Err(Strange::Later(later)),
    }
}

fn sealed(mut bytes: [u8; SIZE]) -> [u8; SIZE] {
    let sum = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn is_sealed(bytes: &[u8; SIZE]) -> bool {
    bytes[28..] == crc32fast::hash(&bytes[..28]).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> [Record; 6] {
        let key = ReplayKey::from_bytes([7; 16]);
        [
            Record::Mark { boot: [9; 16], offset_ms: Some(1_767_225_600_000) },
            Record::Mark { boot: [0; 16], offset_ms: None },
            Record::Done { key, keep: Keep::UntilStale, uptime_ms: 12_345 },
            Record::Done { key, keep: Keep::WholeWindow, uptime_ms: -1 },
            Record::Done { key, keep: Keep::For(Duration::from_secs(60 * 60 * 24 * 365 * 10)), uptime_ms: 9 },
            Record::Forgotten { key },
        ]
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        for record in records() {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(check_header(&header()), Ok(()));
    }

    #[test]
    fn a_span_of_its_own_ends_to_the_millisecond() {
        for ms in [1, 59_999, 60_000, 60_001, 11 * 60_000, 90 * 86_400_000] {
            let keep = Keep::For(Duration::from_millis(ms));
            let written = Record::Done { key: ReplayKey::from_bytes([7; 16]), keep, uptime_ms: 1000 };
            let Some(Record::Done { keep: Keep::For(span), uptime_ms, .. }) =
                Record::decode(&written.encode())
            else {
                panic!("{ms} ms")
            };
            assert_eq!(
                uptime_ms + i64::try_from(span.as_millis()).unwrap(),
                1000 + i64::try_from(ms).unwrap(),
                "{ms} ms"
            );
        }
    }

    #[test]
    fn no_changed_byte_is_read() {
        for bytes in records().map(|record| record.encode()).into_iter().chain([header()]) {
            for at in 0..SIZE {
                for flip in 1..=255 {
                    let mut changed = bytes;
                    changed[at] ^= flip;
                    assert_eq!(Record::decode(&changed), None);
                    assert_eq!(check_header(&changed), Err(Strange::Foreign));
                }
            }
        }
        assert_eq!(Record::decode(&[0; SIZE]), None, "a hole in a file is no record");
    }

    #[test]
    fn another_version_and_an_unknown_kind_are_known_as_such() {
        for (version, strange) in [(1, Strange::Earlier(1)), (3, Strange::Later(3))] {
            let mut other = header();
            other[16] = version;
            assert_eq!(check_header(&sealed(other)), Err(strange));
        }
        for (kind, minutes) in [(6, 0), (DONE_WHOLE_WINDOW, 1), (MARK, 1), (DONE_FOR, 0)] {
            let mut unknown = records()[0].encode();
            (unknown[0], unknown[1]) = (kind, minutes);
            assert_eq!(Record::decode(&sealed(unknown)), None, "{kind}, {minutes} minutes");
        }
    }
}
