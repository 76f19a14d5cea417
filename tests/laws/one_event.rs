//! Whatever changes of what is unsigned, a delivery is refused or the same event: nobody on the way
//! makes a second one of it.

use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::scheme::Assurance;

use crate::changes::changed;
use crate::reader::read;
use crate::{CHANGED, search, shown};

#[test]
fn what_differs_in_nothing_signed_is_the_same_event() {
    search("one event", |sender, rng| {
        let Some(genuine) = sender.genuine(rng) else { return 0 };
        let (_, first) = sender.judge(&genuine).unwrap();
        let mut accepted = 0;
        for _ in 0..CHANGED {
            let other = changed(&genuine, sender, rng);
            let Ok((under, second)) = sender.judge(&other) else { continue };
            accepted += 1;
            // As this scheme reads both.
            let same = genuine.body == other.body && read(under, &genuine) == read(under, &other);
            // Whoever shows a credential may say anything.
            let same = same && under.assurance != Assurance::Authenticated;
            assert!(
                !same || meet(&first, &second),
                "{}\ntwo events:\n{}and\n{}",
                sender.name,
                shown(&genuine),
                shown(&other)
            );
        }
        accepted
    });
}

/// Whether one is a duplicate after the other.
fn meet(one: &Fresh, other: &Fresh) -> bool {
    let names = |fresh: &Fresh| fresh.authentic().identity().names().to_vec();
    names(one).iter().any(|name| names(other).contains(name))
}
