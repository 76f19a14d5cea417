//! What a host of keys does wrong, and what forgers try with it.

use std::time::{Duration, Instant};

use hookgate::gate::fetched::certificate;
use hookgate::gate::fetched::document::{Document, Form};
use hookgate::gate::scheme::algorithm::Algorithm;
use serde_json::json;

use super::delivered::{
    CERTIFICATE, claims, notification, pubsub_route, pushed, reason, request, resign, sns, sns_route,
};
use super::host::{KeyHost, Reply, Signer, set};
use crate::rng::given;
use crate::support::{App, Gate, Request};
use crate::tls::Authority;

const GOOGLE: &str = "https://www.googleapis.com/oauth2/v3/certs";
/// Who forge at the same time.
const SENDERS: usize = 4;
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:bounces";

fn google(host: &KeyHost, file: &str) -> Signer {
    Signer::certified(&host.authority, file, "x").0
}

fn status(gate: &Gate, request: &Request) -> u16 {
    gate.send(request).status
}

#[test]
fn a_key_that_is_new_is_found_and_one_that_was_taken_back_is_dead() {
    let Some(host) = KeyHost::new() else { return };
    let (old, new, never) = (google(&host, "a"), google(&host, "b"), google(&host, "c"));
    host.publish(GOOGLE, Reply::Document(set(&[old.jwk("a")])));
    let app = App::ok();
    let gate = host.before(&app.url(), pubsub_route()).start();
    assert_eq!(status(&gate, &pushed(&old.token("a", &claims()))), 200);
    assert_eq!(host.asked(GOOGLE), 1, "fetched at the start");

    host.publish(GOOGLE, Reply::Document(set(&[new.jwk("b")])));
    assert_eq!(status(&gate, &pushed(&new.token("b", &claims()))), 200, "fetched because of it");
    assert_eq!(status(&gate, &pushed(&old.token("a", &claims()))), 401, "the new set does not have it");
    // There is no such key, as far as the host said within the minute.
    for n in 0..20 {
        assert_eq!(status(&gate, &pushed(&never.token(&format!("never-{n}"), &claims()))), 401);
    }
    assert_eq!(host.asked(GOOGLE), 2);
    let said = host.said().join("\n");
    assert!(said.contains("Accept-Encoding: identity") && !said.contains("Authorization"), "{said}");
}

#[test]
fn while_the_host_is_away_known_keys_are_unharmed_and_others_are_asked_to_come_again() {
    let Some(host) = KeyHost::new() else { return };
    let (known, other) = (google(&host, "a"), google(&host, "b"));
    host.publish(GOOGLE, Reply::Document(set(&[known.jwk("a")])));
    let app = App::ok();
    let gate = host.before(&app.url(), pubsub_route()).start();
    assert_eq!(status(&gate, &pushed(&known.token("a", &claims()))), 200);
    host.away(true);
    for n in 0..20 {
        let answer = gate.send(&pushed(&other.token(&format!("b-{n}"), &claims())));
        assert_eq!(answer.status, 503);
        assert!(answer.header("Retry-After").is_some());
        assert_eq!(status(&gate, &pushed(&known.token("a", &claims()))), 200);
    }
    let connects = host.said().iter().filter(|said| said.starts_with("CONNECT")).count();
    assert!(connects <= 2 + 1, "one more attempt, and what goes on in the background: {connects}");
    let failed = "hookgate_key_fetches_total{result=\"connection\",source=\"google-pubsub\"}";
    assert!(gate.metrics().value(failed) >= 1.0);
    gate.log.find("what is wrong", |line| {
        line["event.name"] == "hookgate.keys" && line.to_string().contains("cannot be had")
    });
}

/// Nothing that a host answers becomes a key, and nothing it does takes longer than it may.
#[test]
fn a_host_that_answers_wrongly_has_no_keys() {
    let Some(host) = KeyHost::new() else { return };
    let signer = google(&host, "a");
    let good = set(&[signer.jwk("a")]);
    let padded = format!("{{\"keys\":[{}], \"more\": \"{}\"}}", signer.jwk("a"), "x".repeat(70_000));
    let shorts =
        r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"a"},{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}"#;
    for (what, reply) in [
        ("a redirect", Reply::Status(302, "Location: https://issuer.example/\r\n".into())),
        ("another status", Reply::Status(500, String::new())),
        ("no content", Reply::Status(204, String::new())),
        ("too long", Reply::Document(padded)),
        ("endless", Reply::Endless),
        ("cut", Reply::Cut),
        ("a page", Reply::Document("<html>log in</html>".into())),
        ("an empty set", Reply::Document("{\"keys\":[]}".into())),
        ("keys that are none", Reply::Document(shorts.into())),
        ("too late", Reply::Late(Duration::from_secs(4), good.clone())),
        ("compressed", Reply::Status(200, "Content-Encoding: gzip\r\n".into())),
    ] {
        host.publish(GOOGLE, reply);
        let app = App::ok();
        let gate = host.before(&app.url(), pubsub_route()).start();
        let started = Instant::now();
        assert_eq!(status(&gate, &pushed(&signer.token("a", &claims()))), 503, "{what}");
        assert!(started.elapsed() < Duration::from_secs(4), "{what}: {:?}", started.elapsed());
        assert_eq!(app.requests().len(), 0, "{what}");
    }
    assert_eq!(host.asked("https://issuer.example/"), 0, "no redirect is followed");
}

#[test]
fn a_host_with_another_certificate_is_not_asked() {
    let Some(host) = KeyHost::new() else { return };
    let signer = google(&host, "a");
    host.publish(GOOGLE, Reply::Document(set(&[signer.jwk("a")])));
    for (what, pair) in [
        ("for another name", host.authority.issue_for("other", 30, "DNS:www.googleapis.com.evil.example")),
        ("that has expired", host.authority.issue_for("expired", -1, "DNS:www.googleapis.com")),
    ] {
        host.show(&pair);
        let app = App::ok();
        let gate = host.before(&app.url(), pubsub_route()).start();
        assert_eq!(status(&gate, &pushed(&signer.token("a", &claims()))), 503, "{what}");
    }
    assert_eq!(host.asked_in_all(), 0, "nobody got to say what is wanted");
}

/// The name resolves to this machine: whoever could choose the name, or what it resolves to, would reach what
/// is meant for this machine alone.
#[test]
fn a_private_address_is_not_dialled_unless_it_is_allowed() {
    let Some(host) = KeyHost::new() else { return };
    let signer = Signer::p256();
    let port = host.address().port();
    for (name, allowed, status) in
        [("localhost", false, 503), ("127.0.0.1", false, 503), ("localhost", true, 200)]
    {
        host.publish(&format!("https://{name}/jwks"), Reply::Document(set(&[signer.jwk("a")])));
        let yaml = format!(
            "keys: {{ ca_file: CA, allow_private: {allowed} }}
routes:
  - {{ name: r, path: /hook, scheme: {{ algorithm: ecdsa-p256-sha256-fixed, signs_body: false, signature: {{ from: 'header:T', format: jwt }},
      keys: {{ jwks: 'https://{name}:{port}/jwks' }}, claims: {{ iss: us }}, id: 'json:/id' }} }}
"
        );
        let app = App::ok();
        let before = host.asked_in_all();
        let gate = host.gate(&app.url(), &yaml).start();
        let token = signer.token("a", &json!({ "iss": "us" }));
        assert_eq!(
            self::status(&gate, &request("{}", &[("T", &token)])),
            status,
            "{name}, allowed: {allowed}"
        );
        assert_eq!(host.asked_in_all() > before, allowed, "{name}");
    }
}

/// Whatever address a forger names: it is not asked for unless it is pinned, and pinned ones once a minute.
#[test]
fn forgeries_in_number_cause_no_fetch_beyond_the_budget() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let app = App::ok();
    let routes = sns_route().replace(" }\n", ", failure_limit: off }\n");
    let gate = host.before(&app.url(), &routes).start();
    let genuine = notification(&signer, TOPIC, CERTIFICATE);
    assert_eq!(reason(&gate, &request(&genuine.to_string(), &[])), "accepted");
    let hex = "0123456789abcdef0123456789abcdef";
    for odd in [
        CERTIFICATE.replace("https", "http"),
        CERTIFICATE.replace("sns.us-east-1.amazonaws.com", "sns.us-east-1.amazonaws.com.evil.example"),
        CERTIFICATE.replace("https://", "https://sns.us-east-1.amazonaws.com@evil.example/"),
        CERTIFICATE.replace("sns.us-east-1.amazonaws.com", "sns.us-east-1.amazonaws.com:8443"),
        CERTIFICATE.replace("us-east-1", "eu-west-1"),
        CERTIFICATE.replace("sns.us-east-1", "127.0.0.1/sns.us-east-1"),
        CERTIFICATE.replace(hex, "../x"),
        CERTIFICATE.replace(".pem", ".pem?x=.pem"),
    ] {
        let said = reason(&gate, &request(&notification(&signer, TOPIC, &odd).to_string(), &[]));
        assert_eq!(said, "signature_mismatch", "{odd}");
    }
    assert_eq!(host.asked_in_all(), 1, "no address of these");

    let number = given("HOOKGATE_TEST_FORGERIES").map_or(2000, |number| usize::try_from(number).unwrap());
    let forged = notification(&signer, TOPIC, CERTIFICATE);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (gate, mut forged) = (&gate, forged.clone());
            scope.spawn(move || {
                let mut connection = gate.connect();
                for n in (sender..number).step_by(SENDERS) {
                    forged["SigningCertURL"] = CERTIFICATE.replace(hex, &format!("{n:032x}")).into();
                    let answer = connection.exchange(&request(&forged.to_string(), &[]));
                    assert!(matches!(answer.status, 401 | 503), "{}", answer.status);
                }
            });
        }
    });
    let minutes = begun.elapsed().as_secs() / 60;
    let asked = host.asked_in_all();
    println!("{number} forgeries in {:?}: the host was asked {asked} times", begun.elapsed());
    assert!(asked as u64 <= 1 + 1 + minutes, "one in a minute: {asked} in {minutes} minutes");
    assert!(minutes > 0 || asked == 1, "the minute of the genuine one is not over");
    let mut other = notification(&signer, TOPIC, CERTIFICATE);
    other["MessageId"] = "another".into();
    resign(&signer, &mut other);
    assert_eq!(reason(&gate, &request(&other.to_string(), &[])), "accepted", "and genuine ones go on");
}

/// Copies of one delivery wait for the fetch that the first one caused.
#[test]
fn copies_wait_for_one_fetch() {
    let Some(host) = KeyHost::new() else { return };
    let signer = sns(&host);
    let pem = std::fs::read_to_string(host.authority.root().with_file_name("sns.crt")).unwrap();
    host.publish(CERTIFICATE, Reply::Late(Duration::from_millis(500), pem));
    let app = App::ok();
    let gate = host.before(&app.url(), &sns_route()).start();
    let all: Vec<_> =
        (0..8).map(|_| request(&notification(&signer, TOPIC, CERTIFICATE).to_string(), &[])).collect();
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let sent: Vec<_> = all.iter().map(|one| scope.spawn(|| status(&gate, one))).collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 8]);
    assert_eq!(host.asked(CERTIFICATE), 1);
}

#[test]
fn a_certificate_of_another_name_or_none_is_no_key() {
    let Some(host) = KeyHost::new() else { return };
    for (what, name) in [("of another name", "evil.example"), ("of a host below", "x.sns.amazonaws.com")] {
        let (signer, pem) = Signer::certified(&host.authority, "odd", name);
        host.publish(CERTIFICATE, Reply::Document(pem));
        let app = App::ok();
        let gate = host.before(&app.url(), &sns_route()).start();
        let message = notification(&signer, TOPIC, CERTIFICATE);
        assert_eq!(reason(&gate, &request(&message.to_string(), &[])), "signature_mismatch", "{what}");
    }
    let signer = sns(&host);
    let pem = std::fs::read_to_string(host.authority.root().with_file_name("sns.crt")).unwrap();
    host.publish(CERTIFICATE, Reply::Document(format!("<Error>{pem}</Error>")));
    let app = App::ok();
    let gate = host.before(&app.url(), &sns_route()).start();
    let message = notification(&signer, TOPIC, CERTIFICATE);
    assert_eq!(
        status(&gate, &request(&message.to_string(), &[])),
        503,
        "a certificate within something else"
    );
}

/// A cluster without a way out has a copy instead, and nothing is fetched.
#[test]
fn a_mounted_copy_stands_for_the_host() {
    let Some(host) = KeyHost::new() else { return };
    let (signer, other) = (google(&host, "a"), google(&host, "b"));
    let app = App::ok();
    let builder = host.gate(&app.url(), &format!("keys: {{ dir: DIR/keys }}\n{}", pubsub_route()));
    let copy = builder.dir().join("keys");
    std::fs::create_dir(&copy).unwrap();
    let file = copy.join("www.googleapis.com_oauth2_v3_certs");
    std::fs::write(&file, set(&[signer.jwk("a")])).unwrap();
    let gate = builder.start();
    assert_eq!(status(&gate, &pushed(&signer.token("a", &claims()))), 200);
    std::fs::write(&file, set(&[other.jwk("b")])).unwrap();
    assert_eq!(
        status(&gate, &pushed(&other.token("b", &claims()))),
        200,
        "a new key is read when it is needed"
    );
    assert_eq!(host.asked_in_all(), 0);
}

#[test]
fn the_start_says_from_where_keys_are_fetched_and_no_route_no_word() {
    let Some(host) = KeyHost::new() else { return };
    let app = App::ok();
    let gate = host.before(&app.url(), pubsub_route()).start();
    gate.log.find("the address", |line| line.to_string().contains(GOOGLE));
    let plain = Gate::before(&app).start();
    assert!(!plain.metrics().0.keys().any(|series| series.starts_with("hookgate_key_fetches")));
}

/// RFC 5280, section 4.2. What Google's certificates say that it matters is known.
#[test]
fn a_certificate_in_which_something_unknown_matters_is_none() {
    const POISON: &str = "1.3.6.1.4.1.11129.2.4.3";
    let Some(authority) = Authority::new() else { return };
    for (extension, good) in [
        ("subjectAltName=critical,DNS:a.example".to_owned(), true),
        ("keyUsage=critical,digitalSignature".to_owned(), true),
        ("extendedKeyUsage=critical,clientAuth".to_owned(), true),
        ("1.2.3.4=DER:0500".to_owned(), true),
        ("1.2.3.4=critical,DER:0500".to_owned(), false),
        ("nameConstraints=critical,permitted;DNS:a.example".to_owned(), false),
        (format!("{POISON}=critical,DER:0500"), false),
    ] {
        authority
            .openssl(&format!("req -x509 -key ca.key -out it.pem -days 30 -subj /CN=it -addext {extension}"));
        let pem = std::fs::read(authority.root().with_file_name("it.pem")).unwrap();
        let der = certificate::blocks(&pem).unwrap().remove(0);
        assert_eq!(certificate::read(&der).is_ok(), good, "{extension}");
    }
}

/// RFC 7517, sections 4.2 to 4.4.
#[test]
fn a_key_is_used_for_what_its_set_says_it_is_for_alone() {
    let Some(authority) = Authority::new() else { return };
    let signer = Signer::certified(&authority, "a", "x").0;
    let key = |member: &str, value: serde_json::Value| {
        let mut key: serde_json::Value = serde_json::from_str(&signer.jwk("a")).unwrap();
        key[member] = value;
        Document::read(set(&[key.to_string()]).as_bytes(), &Form::default())
    };
    for (member, value, good) in [
        ("alg", json!("RS256"), true),
        ("alg", json!("RS512"), false),
        ("alg", json!("PS256"), false),
        ("alg", json!("RSA-OAEP"), false),
        ("alg", json!(""), false),
        ("alg", json!(["RS256"]), false),
        ("alg", json!(null), true),
        ("use", json!("sig"), true),
        ("use", json!("enc"), false),
        ("use", json!(["enc"]), false),
        ("key_ops", json!(["verify"]), true),
        ("key_ops", json!(["sign"]), false),
        ("key_ops", json!("sign"), false),
    ] {
        let verifies = key(member, value.clone())
            .is_some_and(|document| document.keys[0].material.verifier(Algorithm::RsaSha256).is_some());
        assert_eq!(verifies, good, "{member}: {value}");
    }
}
