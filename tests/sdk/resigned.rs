//! The application's own SDK and what the gate has signed for it: it takes an event that is two hours old,
//! and one that came from another provider.

use hookgate::config::provider::preset;
use hookgate::config::scheme::compile;
use hookgate::gate::scheme::Recipe;

use crate::support::{App, Gate, Signer};
use crate::{JSON, Judge, Presented, Sdks, URL, secret, sender};

/// The SDKs that judge what the gate would sign, in the scheme that it would sign in.
fn judged(sdks: &Sdks, able: impl Fn(&Recipe) -> bool) -> Vec<&'static Judge> {
    let first = |provider: &str| {
        let schemes = preset(provider).unwrap().schemes;
        schemes.iter().position(|words| able(&compile(words, None, None).unwrap()))
    };
    let judges = sdks.judges().iter().filter(|judge| judge.body == JSON && judge.reads_body);
    judges.filter(|judge| first(judge.provider) == Some(judge.scheme)).collect()
}

/// What comes out of the gate with that in its route, of an event that was signed two hours ago.
fn resigned(route: &str, (provider, scheme): (&str, usize), judge: &Judge) -> Presented {
    let signer = Signer::new(provider, scheme, secret(provider));
    let app = App::ok();
    let builder = Gate::before(&app).config(&format!(
        "routes:\n  - {{ name: one, path: /webhooks, secrets: [{{ id: a, file: DIR/key }}], {route} }}\n"
    ));
    builder.dir().write("key", secret(provider));
    builder.dir().write("next", secret(judge.provider));
    let gate = builder.start();
    let sent_at = sender::now_ms() - 7_200_000;
    // What the body says of the time is the event's own matter.
    let body = judge.body_at(sender::now_ms());
    let sent = gate.send(&signer.sign_at(sent_at, "evt_1", body.as_bytes()));
    assert_eq!(gate.reason(&sent), "accepted", "{route}");
    let received = app.only_request();
    Presented {
        sdk: judge.sdk,
        provider: judge.provider,
        secret: secret(judge.provider),
        url: URL.to_owned(),
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
    let told: Vec<_> = presented.iter().map(|one| (one.sdk, one.provider)).zip(taken).collect();
    assert!(told.iter().all(|(_, taken)| *taken), "{told:?}");
    println!("resigned and taken: {told:?}");
}

#[test]
fn an_sdk_takes_the_providers_event_two_hours_late_as_the_same() {
    for sdks in Sdks::installed() {
        let renewed = judged(sdks, |recipe| recipe.can_be_renewed().is_ok() && !recipe.needs_url());
        // Which key made a signature does not show before it is verified: the gate refuses such a route.
        let one_way = |judge: &&Judge| {
            let schemes = preset(judge.provider).unwrap().schemes;
            schemes.iter().skip(1).all(|other| other.signature.from != schemes[0].signature.from)
        };
        let presented = renewed.into_iter().filter(one_way).map(|judge| {
            let route = format!(
                "provider: {}, allow_ips: [127.0.0.1], tolerance: 3h, resign: {{ as: same }}",
                judge.provider
            );
            resigned(&route, (judge.provider, judge.scheme), judge)
        });
        all_are_taken(sdks, &presented.collect::<Vec<_>>());
    }
}

#[test]
fn an_sdk_takes_what_came_from_another_provider() {
    for sdks in Sdks::installed() {
        let anew = judged(sdks, |recipe| recipe.can_be_signed_anew().is_ok());
        let presented = anew.into_iter().map(|judge| {
            let route = format!(
                "provider: render, tolerance: 3h, resign: {{ as: {}, secrets: [{{ file: DIR/next }}] }}",
                judge.provider
            );
            resigned(&route, ("render", 0), judge)
        });
        all_are_taken(sdks, &presented.collect::<Vec<_>>());
    }
}
