//! Under one signature there is one delivery. What else verifies under it differs in what the scheme
//! leaves open, and says so.

use hookgate::gate::scheme::Assurance;

use crate::changes::changed;
use crate::reader::read;
use crate::{CHANGED, search, shown};

#[test]
fn under_one_signature_there_is_one_delivery() {
    search("one tag", |sender, rng| {
        sender.begin();
        let Some(genuine) = sender.genuine(rng) else { return 0 };
        let (recipe, first) = sender.judge(&genuine).unwrap();
        let known = read(recipe, &genuine);
        let mut accepted = 0;
        for _ in 0..CHANGED {
            let other = changed(&genuine, sender, rng);
            let Ok((under, second)) = sender.judge(&other) else { continue };
            accepted += 1;
            let told = || format!("{}\n{}and\n{}", sender.name, shown(&genuine), shown(&other));
            let signed = sender.has_signed(under, &other);
            assert_eq!(signed, Ok(true), "nobody signed the second one: {}", told());
            // A delivery that says the same is told under the same name. Which one depends on the Content-Type
            // only where that tells another scheme of the sender (no preset's) where its JSON is.
            if std::ptr::eq(under, recipe)
                && (sender.recipes.len() == 1 || sender.recipes.iter().all(|recipe| recipe.payload.is_none()))
                && known == read(under, &other)
                && genuine.body == other.body
                && genuine.query == other.query
                && under.assurance != Assurance::Authenticated
            {
                let [first, second] = [first.authentic(), second.authentic()]
                    .map(|authentic| authentic.identity().unwrap().told());
                assert_eq!(first, second, "two events: {}", told());
            }
        }
        accepted
    });
}
