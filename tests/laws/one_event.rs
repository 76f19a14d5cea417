//! Whatever changes of what is unsigned, a delivery is refused or the same event: nobody on the way
//! makes a second one of it.

use hookgate::config::provider::PRESETS;
use hookgate::gate::filter::freshness::Fresh;
use hookgate::gate::scheme::{Assurance, Recipe};

use crate::changes::changed;
use crate::reader::read;
use crate::rng::Rng;
use crate::senders::Sender;
use crate::{CHANGED, search, shown};

#[test]
fn what_differs_in_nothing_signed_is_the_same_event() {
    search("one event", |sender, rng| {
        let Some(genuine) = sender.genuine(rng) else { return 0 };
        let (recipe, first) = sender.judge(&genuine).unwrap();
        let mut accepted = 0;
        for _ in 0..CHANGED {
            let other = changed(&genuine, sender, rng);
            let Ok((under, second)) = sender.judge(&other) else { continue };
            accepted += 1;
            // As this scheme reads both.
            let same = genuine.body == other.body && read(under, &genuine) == read(under, &other);
            // A scheme that signs nothing of the body vouches for anything, and so does a credential.
            let same = same && (std::ptr::eq(under, recipe) || under.covers_body());
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

/// A delivery may be signed under several schemes, and its copies show any of them.
#[test]
fn a_delivery_that_is_signed_in_several_ways_is_one_event() {
    let mut rng = Rng::new(1);
    let mut pairs = 0;
    for (name, _) in PRESETS {
        let sender = Sender::preset(name);
        if sender.recipes.len() == 1 {
            continue;
        }
        for genuine in (0..300).filter_map(|_| sender.genuine(&mut rng)) {
            let without = |recipe: &Recipe| {
                let mut copy = genuine.clone();
                for name in recipe.signature_headers() {
                    copy.headers.remove(name);
                }
                sender.judge(&copy).ok().map(|(_, fresh)| fresh)
            };
            let (recipe, first) = sender.judge(&genuine).unwrap();
            if recipe.assurance != Assurance::Authenticated
                && let Some(second) = without(recipe)
            {
                pairs += 1;
                assert!(meet(&first, &second), "{name}: two events of one\n{}", shown(&genuine));
            }
        }
    }
    assert!(pairs > 50, "{pairs} deliveries are signed in two ways");
}

/// Whether one is a duplicate after the other.
fn meet(one: &Fresh, other: &Fresh) -> bool {
    let names = |fresh: &Fresh| fresh.authentic().identity().unwrap().names().to_vec();
    names(one).iter().any(|name| names(other).contains(name))
}
