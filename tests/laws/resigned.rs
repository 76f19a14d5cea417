//! What the gate signs itself: an event that is given another time is genuine, fresh and the same event
//! under each scheme that allows it; one that is signed anew is genuine under each of the keys.

use hookgate::config::provider::{PRESETS, preset};
use hookgate::config::scheme::compile;
use hookgate::gate::filter::signature::Authentic;
use hookgate::gate::identity::Identity;
use hookgate::gate::scheme::Recipe;
use hookgate::gate::scheme::sign::Unsigned;

use crate::pure::{Delivery, signature};

const SECRET: &str = "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=";
const OTHER: &str = "whsec_YW5vdGhlciBrZXkgdGhhdCBpcyBsb25nIGVub3VnaA==";
const BODY: &[u8] = br#"{"id":"evt_1","type":"made","created":1700000000}"#;
const THEN: i64 = 1_700_000_000_000;
/// Two hours later.
const LATER: i64 = THEN + 7_200_000;

fn recipes() -> impl Iterator<Item = (String, Recipe)> {
    PRESETS.iter().flat_map(|(name, _)| {
        let schemes = preset(name).unwrap().schemes;
        let named = |(n, words)| (format!("{name} {n}"), compile(&words, None, None).unwrap());
        schemes.into_iter().enumerate().map(named).collect::<Vec<_>>()
    })
}

fn judged(recipe: &Recipe, secret: &str, delivery: &Delivery) -> Authentic {
    let key = recipe.key.decode(secret.as_bytes()).unwrap();
    delivery.judged_by(&signature(recipe, &[&key])).unwrap()
}

#[test]
fn an_event_that_is_renewed_is_the_same_event_signed_at_that_time() {
    let mut renewed = 0;
    for (name, recipe) in recipes().filter(|(_, recipe)| recipe.can_be_renewed().is_ok()) {
        let Ok(key) = recipe.signer(SECRET.as_bytes()) else { continue };
        let sent = recipe.sign(&key, Unsigned { id: "evt_1", time_ms: THEN, body: BODY }).unwrap();
        assert_eq!(sent.body, BODY, "{name}");
        let again = recipe.renew(&key, sent.headers.clone(), LATER, BODY).unwrap();
        let (before, after) =
            (judged(&recipe, SECRET, &Delivery::sent(sent)), judged(&recipe, SECRET, &Delivery::sent(again)));
        // A time that a template keeps to the second or to the millisecond.
        let signed = |authentic: &Authentic| authentic.signed_at().unwrap().ms.unwrap();
        assert_eq!((signed(&before), signed(&after)), (THEN, LATER), "{name}");
        assert_eq!(before.event_id(), after.event_id(), "{name}");
        if before.goes_by_id() && before.event_id().is_some_and(|id| id.signed) {
            assert_eq!(before.identity().map(Identity::told), after.identity().map(Identity::told), "{name}");
        }
        renewed += 1;
    }
    assert!(renewed > 60, "{renewed} schemes of the catalogue");
}

#[test]
fn what_is_signed_anew_is_genuine_under_every_key_that_a_signature_takes() {
    let (mut signed, mut with_both) = (0, 0);
    for (name, recipe) in recipes().filter(|(_, recipe)| recipe.can_be_signed_anew().is_ok()) {
        let keys: Result<Vec<_>, _> =
            [SECRET, OTHER].iter().map(|secret| recipe.signer(secret.as_bytes())).collect();
        let Ok(keys) = keys else { continue };
        let unsigned = Unsigned { id: "evt_1", time_ms: THEN, body: BODY };
        let Some(sent) = recipe.sign_with(&keys, unsigned) else { panic!("{name} was to be signed") };
        assert_eq!((sent.body.as_slice(), &sent.query), (BODY, &None), "{name} changes the head alone");
        let delivery = Delivery::sent(sent);
        judged(&recipe, SECRET, &delivery);
        let older = recipe.key.decode(OTHER.as_bytes()).unwrap();
        with_both += usize::from(delivery.judged_by(&signature(&recipe, &[&older])).is_ok());
        signed += 1;
    }
    assert!(signed > 150 && with_both > 10, "{signed} schemes, {with_both} with two keys");
}
