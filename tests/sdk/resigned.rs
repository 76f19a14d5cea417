//! The application's own SDK and what the gate has signed for it: it takes an event that is two hours old,
//! and one that came from another provider.

use hookgate::config::provider::preset;
use hookgate::config::scheme::compile;
use hookgate::gate::scheme::Recipe;

use crate::support::{App, Gate, Signer};
use crate::{JSON, Presented, Sdks, sender};

/// Between gate and application, and of the provider where its own way is kept.
const SECRET: &str = "whsec_YSBrZXkgdGhhdCBvcGVucyBub3RoaW5nIGVsc2U=";

/// The presets that an SDK judges, with the scheme that the gate would sign in.
fn judged(sdks: &Sdks, able: impl Fn(&Recipe) -> bool) -> Vec<(&'static str, usize)> {
    let first = |provider: &str| {
        let schemes = preset(provider).unwrap().schemes;
        schemes.iter().position(|words| able(&compile(words, None, None).unwrap()))
    };
    let judges = sdks.judges().iter().filter(|(_, _, body)| *body == JSON);
    let mut all: Vec<_> = judges.map(|(provider, scheme, _)| (*provider, *scheme)).collect();
    all.retain(|(provider, scheme)| first(provider) == Some(*scheme));
    all
}

/// What comes out of the gate with that in its route, of an event that was signed two hours ago.
fn resigned(route: &str, signer: &Signer, provider: &'static str) -> Presented {
    let app = App::ok();
    let builder = Gate::before(&app).config(&format!(
        "routes:\n  - {{ name: one, path: /webhooks, secrets: [{{ id: a, file: DIR/key }}], {route} }}\n"
    ));
    builder.dir().write("key", SECRET);
    let gate = builder.start();
    let sent = gate.send(&signer.sign_at(sender::now_ms() - 7_200_000, "evt_1", JSON.0.as_bytes()));
    assert_eq!(gate.reason(&sent), "accepted", "{route}");
    let received = app.only_request();
    Presented {
        provider,
        secret: SECRET,
        url: String::new(),
        query: String::new(),
        headers: received
            .headers
            .0
            .iter()
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect(),
        body: String::from_utf8(received.body.clone()).unwrap(),
    }
}

fn all_are_taken(sdks: &Sdks, presented: &[Presented]) {
    let seconds = (sender::now_ms() / 1000).to_string();
    let said = sdks.run("verify", &[&seconds], &serde_json::to_string(presented).unwrap());
    let taken: Vec<bool> = serde_json::from_str(&said).unwrap();
    let told: Vec<_> = presented.iter().map(|one| one.provider).zip(taken).collect();
    assert!(told.iter().all(|(_, taken)| *taken), "{told:?}");
    println!("resigned and taken: {told:?}");
}

#[test]
fn an_sdk_takes_the_providers_event_two_hours_late_as_the_same() {
    for sdks in Sdks::installed() {
        let renewed = judged(sdks, |recipe| recipe.can_be_renewed().is_ok());
        let presented = renewed.into_iter().map(|(provider, scheme)| {
            let signer = Signer::new(provider, scheme, SECRET);
            let route = format!("provider: {provider}, tolerance: 3h, resign: {{ as: same }}");
            resigned(&route, &signer, provider)
        });
        all_are_taken(sdks, &presented.collect::<Vec<_>>());
    }
}

#[test]
fn an_sdk_takes_what_came_from_another_provider() {
    for sdks in Sdks::installed() {
        let anew = judged(sdks, |recipe| recipe.can_be_signed_anew().is_ok());
        let presented = anew.into_iter().map(|(provider, _)| {
            let signer = Signer::new("render", 0, SECRET);
            let route = format!(
                "provider: render, tolerance: 3h, resign: {{ as: {provider}, secrets: [{{ file: DIR/key }}] }}"
            );
            resigned(&route, &signer, provider)
        });
        all_are_taken(sdks, &presented.collect::<Vec<_>>());
    }
}
