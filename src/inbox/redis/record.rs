//! How an event lies in the store: its number, and the fields of its record.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::gate::filter::replay::{Keep, ReplayKey};
use crate::inbox::keep::{keep_of, keep_to};
use crate::inbox::seal::{Keys, Sealed, Unreadable};
use crate::inbox::state::State;
use crate::inbox::{Due, Event, Id, Listed};

/// What the store calls an event: ten bytes of chance, and how much room it takes.
pub(super) type Number = [u8; 14];

/// Where the bytes of a number begin in an [`Id`]; before them stands which of the routes it is of.
const ROUTE_AT: u32 = 112;

/// A number that no other event has; `None` if there is no chance, or the event is too large.
pub(super) fn new_number(size: u64) -> Option<Number> {
    use ring::rand::{SecureRandom, SystemRandom};

    let mut number = Number::default();
    let (chance, end) = number.split_at_mut(10);
    SystemRandom::new().fill(chance).ok()?;
    end.copy_from_slice(&u32::try_from(size).ok()?.to_be_bytes());
    Some(number)
}

pub(super) fn size(number: &Number) -> u64 {
    let end = number.last_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(end).into()
}

pub(super) fn id(route: u16, number: &Number) -> Id {
    let mut bytes = [0; 16];
    bytes[2..].copy_from_slice(number);
    Id(u128::from_be_bytes(bytes) | u128::from(route) << ROUTE_AT)
}

/// Which route, and which event of it.
pub(super) fn parts(id: Id) -> (u16, Number) {
    let bytes = id.0.to_be_bytes();
    let mut number = Number::default();
    number.copy_from_slice(&bytes[2..]);
    (u16::from_be_bytes([bytes[0], bytes[1]]), number)
}

pub(super) fn hex(number: &Number) -> String {
    data_encoding::HEXLOWER.encode(number)
}

pub(super) fn number(bytes: &[u8]) -> Option<Number> {
    bytes.try_into().ok()
}

/// Names as they are written: one after the other.
pub(super) fn join(names: &[ReplayKey]) -> Vec<u8> {
    names.iter().flat_map(|name| *name.as_bytes()).collect()
}

pub(super) fn split(bytes: &[u8]) -> SmallVec<[ReplayKey; 1]> {
    let (names, _) = bytes.as_chunks::<16>();
    names.iter().map(|name| ReplayKey::from_bytes(*name)).collect()
}

pub(super) fn keep_from(bytes: &[u8]) -> Keep {
    decimal(bytes).map_or(Keep::WholeWindow, keep_of)
}

/// The fields of an event's record, each with its name before it.
pub(super) fn fields(event: &Event, sealed: &Sealed) -> Vec<Vec<u8>> {
    let text = |text: Option<&str>| text.unwrap_or_default().as_bytes().to_vec();
    let number = |number: i64| number.to_string().into_bytes();
    let fields = [
        ("key", event.key.as_bytes().to_vec()),
        ("keep", number(keep_to(event.keep))),
        ("tenant", text(event.tenant.as_deref())),
        ("event_id", text(event.event_id.as_deref())),
        ("event_type", text(event.event_type.as_deref())),
        ("received", number(event.received_ms)),
        ("since", number(event.received_ms)),
        ("attempts", number(event.attempts.into())),
        ("lease", if event.leased { b"live".to_vec() } else { Vec::new() }),
        ("outcome", text(event.last_outcome.as_deref())),
        ("by", sealed.by.map(|by| format!("{by:08x}").into_bytes()).unwrap_or_default()),
        ("sum", number(sealed.checksum.into())),
    ];
    fields.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value]).collect()
}

/// The keys that open what is stored, as scripts look them up.
pub(super) fn known(keys: &Keys) -> String {
    keys.ids().fold(String::from(" "), |known, id| format!("{known}{id:08x} "))
}

/// What is needed of a record to deliver its event.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub names: &'a [u8],
    pub key: &'a [u8],
    pub keep: &'a [u8],
    pub attempts: &'a [u8],
    pub received: &'a [u8],
    pub since: &'a [u8],
    pub by: &'a [u8],
    pub sum: &'a [u8],
    pub bytes: &'a [u8],
}

impl Raw<'_> {
    pub fn due(&self, id: Id, keys: &Keys) -> Result<Due, Unreadable> {
        let mut due = self.head(id).ok_or(Unreadable::Damaged)?;
        let by = match self.by {
            b"" => None,
            by => Some(hexadecimal(by).ok_or(Unreadable::Damaged)?),
        };
        let checksum = decimal(self.sum).ok_or(Unreadable::Damaged)?;
        let sealed = Sealed { bytes: self.bytes.to_vec(), by, checksum };
        (due.head, due.body) = keys.open(due.key, sealed)?;
        Ok(due)
    }

    fn head(&self, id: Id) -> Option<Due> {
        Some(Due {
            id,
            key: key(self.key)?,
            names: split(self.names),
            keep: keep_from(self.keep),
            attempt: decimal(self.attempts)?,
            received_ms: decimal(self.received)?,
            since_ms: decimal(self.since)?,
            head: Bytes::new(),
            body: Bytes::new(),
        })
    }
}

/// A record as `read.lua` tells of it.
pub(super) struct Shown<'a>(pub &'a [Vec<u8>]);

impl Shown<'_> {
    fn at(&self, place: usize) -> &[u8] {
        self.0.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    fn text(&self, place: usize) -> Option<String> {
        let text = self.at(place);
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// What can be told of it, also if it is damaged.
    pub fn listed(&self, id: Id, route: &str) -> Option<Listed> {
        let state = std::str::from_utf8(self.at(0)).ok()?.parse::<State>().ok()?;
        let names = split(self.at(2));
        Some(Listed {
            id,
            key: key(self.at(4)).or_else(|| names.first().copied()).unwrap_or(ReplayKey::from_bytes([0; 16])),
            route: route.to_owned(),
            tenant: self.text(5),
            state,
            event_id: self.text(6),
            event_type: self.text(7),
            received_ms: decimal(self.at(8)).unwrap_or_default(),
            attempts: decimal(self.at(9)).unwrap_or_default(),
            next_attempt_ms: decimal(self.at(1)).filter(|_| state == State::Stored),
            last_outcome: self.text(10),
            bytes: size(&parts(id).1),
        })
    }

    pub fn due(&self, id: Id, keys: &Keys) -> Result<Due, Unreadable> {
        let raw = Raw {
            names: self.at(2),
            keep: self.at(14),
            key: self.at(4),
            attempts: self.at(9),
            received: self.at(8),
            since: self.at(11),
            by: self.at(12),
            sum: self.at(13),
            bytes: self.at(3),
        };
        raw.due(id, keys)
    }
}

fn key(bytes: &[u8]) -> Option<ReplayKey> {
    bytes.try_into().ok().map(ReplayKey::from_bytes)
}

/// A number as it is written in text.
pub(super) fn decimal<N: std::str::FromStr>(bytes: &[u8]) -> Option<N> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn hexadecimal(bytes: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok()
}

/// Where a list goes on: the route, the state, what its events are ordered by, and the beginning of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub route: u16,
    pub state: usize,
    pub score: u64,
    pub number: [u8; 7],
}

impl Cursor {
    const SCORE_BITS: u32 = 48;

    pub fn of(id: Id) -> Self {
        let bytes = id.0.to_be_bytes();
        let mut number = [0; 7];
        number.copy_from_slice(&bytes[9..]);
        Cursor {
            route: u16::from_be_bytes([bytes[0], bytes[1]]),
            state: usize::from(bytes[2]),
            score: u64::try_from((id.0 >> 56) & ((1 << Self::SCORE_BITS) - 1)).unwrap_or_default(),
            number,
        }
    }

    pub fn id(self) -> Id {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&self.route.to_be_bytes());
        bytes[2] = u8::try_from(self.state).unwrap_or(u8::MAX);
        bytes[3..9].copy_from_slice(&self.score.min((1 << Self::SCORE_BITS) - 1).to_be_bytes()[2..]);
        bytes[9..].copy_from_slice(&self.number);
        Id(u128::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_route_its_number_and_its_size() {
        let number = new_number(70_000).unwrap();
        assert_ne!(new_number(70_000).unwrap(), number);
        assert_eq!(size(&number), 70_000);
        assert_eq!(parts(id(517, &number)), (517, number));
        assert_eq!(new_number(1 << 32), None, "nothing is so large");
    }

    #[test]
    fn a_place_in_a_list_is_read_as_it_was_written() {
        let first = Cursor::default();
        assert_eq!((first.id(), Cursor::of(Id::default())), (Id::default(), first));
        let place = Cursor { route: 3, state: 2, score: 1_764_131_234_567, number: *b"numbers" };
        assert_eq!(Cursor::of(place.id()), place);
    }
}
