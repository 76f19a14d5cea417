//! What cannot be read is refused, never taken for absent: each place that a scheme reads is made
//! unreadable in each way there is, and the delivery is refused as malformed.

use hookgate::config::provider::PRESETS;
use hookgate::gate::reason::Reason;
use hookgate::gate::scheme::content::Piece;
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::{Payload, Recipe};
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::pure::Delivery;
use crate::rng::{Rng, given};
use crate::senders::{FORM, MULTIPART, Sender};
use crate::shown;

#[test]
fn what_cannot_be_read_is_refused() {
    let rounds = given("HOOKGATE_LAWS").map_or(1, |n| n / 500_000 + 1);
    let mut rng = Rng::new(given("HOOKGATE_LAW_SEED").unwrap_or(1));
    let (mut tried, mut kinds) = (0, std::collections::BTreeSet::new());
    for _ in 0..rounds {
        let presets = PRESETS.iter().map(|(name, _)| (Sender::preset(name), true));
        let random: Vec<_> = (0..100).map(|_| (Sender::random(&mut rng), false)).collect();
        for (sender, is_preset) in presets.chain(random) {
            for _ in 0..4 {
                let Some(genuine) = sender.genuine(&mut rng) else { continue };
                let (recipe, _) = sender.judge(&genuine).unwrap();
                for (what, delivery) in made_unreadable(recipe, &genuine) {
                    tried += 1;
                    kinds.insert(what);
                    let said = sender.judge(&delivery).map(|_| ());
                    let refused = match said {
                        Err(Reason::SignatureMalformed | Reason::BodyMalformed) => true,
                        // A random scheme may sign the very text that is changed, and say so first.
                        Err(_) => !is_preset,
                        Ok(()) => false,
                    };
                    assert!(refused, "{}\n{what}: {said:?}\n{}", sender.name, shown(&delivery));
                }
            }
        }
    }
    println!("{tried} deliveries, unreadable in {} ways, are refused as malformed", kinds.len());
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

/// What is wrong with each, and the delivery as somebody without a key would send it.
fn made_unreadable(recipe: &Recipe, genuine: &Delivery) -> Vec<(&'static str, Delivery)> {
    let mut all = Vec::new();
    let mut add = |what, change: &dyn Fn(&mut Delivery)| {
        let mut delivery = genuine.clone();
        change(&mut delivery);
        all.push((what, delivery));
    };
    for name in deciding(recipe).filter_map(header) {
        if genuine.headers.contains_key(name) {
            add("a header twice", &|delivery| {
                _ = delivery.headers.append(name, delivery.headers[name].clone());
            });
        }
    }
    for name in deciding(recipe).filter_map(parameter) {
        let query = genuine.query.clone().unwrap_or_default();
        let with = |text: &str| Some(format!("{query}{text}"));
        if genuine.query.is_some() && read_in_query(genuine, name) {
            add("a parameter twice", &|delivery| delivery.query = with(&format!("&{name}=1")));
            add("an escape in a parameter's name", &|delivery| delivery.query = with("&%zz=1"));
            add("a query of many fields", &|delivery| delivery.query = with(&"&z=".repeat(1024)));
        }
    }
    if recipe.content.pieces().any(|piece| matches!(piece, Piece::QuerySorted | Piece::Parameters)) {
        let query = genuine.query.clone().unwrap_or_default();
        add("a sorted query of many fields", &|delivery| {
            delivery.query = Some(format!("{query}{}", "&z=".repeat(1025)));
        });
        add("an escape in a sorted query", &|delivery| delivery.query = Some(format!("{query}&z=%zz")));
    }
    let signed_form =
        recipe.content.pieces().any(|piece| matches!(piece, Piece::FormSorted | Piece::Parameters));
    if signed_form {
        let with = |text: &str| {
            let text = text.to_owned();
            move |delivery: &mut Delivery| {
                delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
                delivery.body.extend(text.as_bytes());
            }
        };
        add("a form of many fields", &with(&"&z=".repeat(1025)));
        add("an escape in a form", &with("&z=%zz"));
        add("a body that is no form", &|delivery| {
            delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            delivery.body.push(b'x');
        });
    }
    let from_body = |source: &Source| matches!(source, Source::Json(_));
    let reads_payload = recipe.content.values().any(|(_, source, _)| from_body(source))
        || recipe.signature.from.iter().all(from_body);
    if signed_form || (recipe.payload.is_some() && reads_payload) {
        add("two types of one body", &|delivery| {
            delivery.headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            delivery.headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            delivery.body.push(b' ');
        });
    }
    // A signature in the body, or values from there that alone are signed.
    let in_body = recipe.signature.from.iter().all(Source::is_in_body);
    if in_body && recipe.signature.from.iter().all(|source| matches!(source, Source::Json(_))) {
        add("JSON that does not end", &|delivery| {
            delivery.headers.remove(CONTENT_TYPE);
            delivery.body = b"{\"a\":".to_vec();
        });
        if matches!(recipe.payload, Some(Payload::Multipart(_))) {
            add("parts without an end", &|delivery| {
                delivery.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MULTIPART));
                delivery.body = b"--xx\r\n".to_vec();
            });
        }
    }
    all
}

/// What decides: where the signature stands, the values that are signed, the time, and an id that tells
/// events apart.
fn deciding(recipe: &Recipe) -> impl Iterator<Item = &Source> {
    let values = recipe.content.values().map(|(_, source, _)| source);
    let times = recipe.timestamp.iter().flat_map(|rule| &rule.from);
    let also = recipe.also.iter().map(|equality| &equality.source);
    let ids = recipe.id.iter().filter(|source| recipe.identifies(source));
    recipe.signature.from.iter().chain(values).chain(times).chain(also).chain(ids)
}

fn header(source: &Source) -> Option<&http::HeaderName> {
    if let Source::Header(name) = source { Some(name) } else { None }
}

fn parameter(source: &Source) -> Option<&str> {
    if let Source::Query(name) = source { Some(name) } else { None }
}

fn read_in_query(delivery: &Delivery, name: &str) -> bool {
    form_urlencoded::parse(delivery.query.as_deref().unwrap_or_default().as_bytes())
        .any(|(key, _)| key == name)
}
