//! Whose request leaves the shelf when there is no room: pure. Who takes the most room gives way, so that a flood
//! for one reason, of one route or from one client, pushes out itself and nothing of the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use crate::budget::one_sender;

/// What is known of a record without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The later one has the greater number.
    pub number: i64,
    pub route: Arc<str>,
    pub reason: Arc<str>,
    /// `None` if nobody knows who sent it.
    pub client: Option<IpAddr>,
    pub received_ms: i64,
    pub size: u64,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Requests,
    Bytes,
}

/// The place of the one that leaves: of the route and reason that take the most, and there of the client that
/// does, the oldest. Where many clients take as much, as in a flood from everywhere, it is one in the middle: who
/// came before the flood stays, and so does who came last. The rows are in the order of their numbers; `None` if
/// there are none.
pub(super) fn leaves(rows: &[Row], over: Over) -> Option<usize> {
    let weight = |row: &Row| match over {
        Over::Requests => 1,
        Over::Bytes => row.size,
    };
    let kinds = heaviest(rows.iter().map(|row| ((&*row.route, &*row.reason), weight(row))));
    let kind = kinds.first()?;
    let of_kind = || rows.iter().enumerate().filter(|(_, row)| (&*row.route, &*row.reason) == *kind);
    let clients = heaviest(of_kind().map(|(_, row)| (row.client.map(one_sender), weight(row))));
    let client = clients.get(clients.len() / 2)?;
    of_kind().find(|(_, row)| row.client.map(one_sender) == *client).map(|(at, _)| at)
}

/// Who has the most: all that have as much, in the order in which they came.
fn heaviest<K: Copy + Eq + Hash>(weights: impl Iterator<Item = (K, u64)>) -> Vec<K> {
    let mut all: HashMap<K, (u64, usize)> = HashMap::new();
    for (at, (key, weight)) in weights.enumerate() {
        all.entry(key).or_insert((0, at)).0 += weight;
    }
    let most = all.values().map(|(weight, _)| *weight).max();
    let mut heaviest: Vec<_> = all.into_iter().filter(|(_, (weight, _))| Some(*weight) == most).collect();
    heaviest.sort_unstable_by_key(|(_, (_, first))| *first);
    heaviest.into_iter().map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: i64, (route, reason, client): (&str, &str, u8), size: u64) -> Row {
        let client = Some(IpAddr::from([192, 0, 2, client]));
        Row { number, route: route.into(), reason: reason.into(), client, received_ms: number, size }
    }

    /// Puts all on a shelf for so many; what is left.
    fn left(all: &[(&str, &str, u8)], keep: usize) -> Vec<i64> {
        let mut rows = Vec::new();
        for (number, of) in (0..).zip(all) {
            rows.push(row(number, *of, 1));
            if rows.len() > keep {
                rows.remove(leaves(&rows, Over::Requests).unwrap());
            }
        }
        rows.iter().map(|row| row.number).collect()
    }

    #[test]
    fn a_flood_pushes_out_itself() {
        let genuine = ("github", "signature_mismatch", 1);
        for flood in [
            ("github", "signature_missing", 1),
            ("other", "signature_mismatch", 1),
            ("github", "signature_mismatch", 2),
        ] {
            let mut all = vec![genuine; 3];
            all.extend(vec![flood; 500]);
            assert_eq!(left(&all, 10)[..3], [0, 1, 2], "{flood:?}");
            let mut all = vec![flood; 500];
            all.extend([genuine; 3]);
            let left = left(&all, 10);
            assert!(left.ends_with(&[500, 501, 502]), "{flood:?}: {left:?}");
        }
    }

    #[test]
    fn a_flood_from_everywhere_leaves_those_before_it_and_those_behind_it() {
        let of = |client| ("github", "signature_mismatch", client);
        let mut all = vec![of(1), of(2)];
        all.extend((10..200).map(of));
        all.extend([of(3), of(4)]);
        let left = left(&all, 10);
        assert_eq!((&left[..2], &left[8..]), (&[0, 1][..], &[192, 193][..]));
    }

    #[test]
    fn of_what_is_alike_the_oldest_leaves() {
        assert_eq!(left(&[("a", "b", 1); 8], 3), [5, 6, 7]);
    }

    #[test]
    fn large_ones_give_way_to_small_ones() {
        let small = (0..5).map(|n| row(n, ("a", "small", 1), 10));
        let rows: Vec<_> = small.chain((5..8).map(|n| row(n, ("a", "large", 2), 1000))).collect();
        assert_eq!(leaves(&rows, Over::Bytes), Some(5));
        assert_eq!(leaves(&rows, Over::Requests), Some(0));
        assert_eq!(leaves(&[], Over::Bytes), None);
    }
}
