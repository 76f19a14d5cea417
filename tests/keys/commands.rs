//! `hookgate keys`: what an operator is told of keys, and the copy for gates that have no way out.

use serde_json::Value;

use super::delivered::{
    CERTIFICATE, claims, notification, pubsub_route, pushed, reason, request, sns, sns_route,
};
use super::host::{KeyHost, Reply, Signer, set};
use crate::support::gate::{Run, hookgate, run};
use crate::support::{App, Builder, Dir, Request};

const GOOGLE: &str = "https://www.googleapis.com/oauth2/v3/certs";
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:bounces";

fn to(target: &str, request: Request) -> Request {
    Request { target: target.to_owned(), ..request }
}

fn routes() -> String {
    let sns = sns_route().replace("routes:\n", "").replace("name: r, path: /hook", "name: sns, path: /sns");
    let more = "  - { name: own, path: /own, provider: github, secrets: [{ id: first, file: DIR/key-1, not_after: 2099-12-31 }] }
  - { name: tenants, path: '/t/{tenant}', provider: github, secrets: { dir: DIR/tenants } }
";
    format!("{}{sns}{more}", pubsub_route())
}

fn listed(socket: &std::path::Path, args: &[&str]) -> Vec<Value> {
    let socket = format!("--control-socket={}", socket.display());
    let run = run(hookgate(&["keys", "-o", "json", &socket]).args(args));
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_route_tells_where_its_keys_are_from_and_how_old_they_are_and_never_a_key() {
    let Some(host) = KeyHost::new() else { return };
    let (app, google, amazon) = (App::ok(), Signer::certified(&host.authority, "a", "x").0, sns(&host));
    host.publish(GOOGLE, Reply::Kept(set(&[google.jwk("first"), google.jwk("second")]), 7200));
    let builder = host.before(&app.url(), &routes());
    let socket = builder.dir().join("control");
    std::fs::create_dir(builder.dir().join("tenants")).unwrap();
    builder.dir().write("tenants/acme", "a secret of acme, and nobody else's");
    let gate = builder.with("control-socket", socket.display()).start();
    assert_eq!(gate.send(&pushed(&google.token("first", &claims()))).status, 200);
    let message = notification(&amazon, TOPIC, CERTIFICATE);
    assert_eq!(reason(&gate, &to("/sns", request(&message.to_string(), &[]))), "accepted");
    let unsigned = request("{}", &[("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)))]);
    assert_eq!(gate.send(&to("/t/acme", unsigned)).status, 401);

    let told = listed(&socket, &["--tenant", "acme"]);
    let names: Vec<_> = told.iter().map(|route| route["route"].as_str().unwrap()).collect();
    assert_eq!(names, ["r", "sns", "own", "tenants"]);
    let [pubsub, sns, own, tenants] = &*told else { panic!("{told:?}") };
    assert_eq!((&pubsub["keys"], &pubsub["addresses"][0]), (&"published".into(), &GOOGLE.into()));
    let document = &pubsub["documents"][0];
    assert_eq!(document["keys"].as_array().unwrap().len(), 2);
    assert_eq!((&document["keys"][0]["id"], &document["keys"][0]["kind"]), (&"first".into(), &"RSA".into()));
    assert!(document["age_seconds"].as_u64().unwrap() < 60 && document["fault"].is_null(), "{document}");
    let seconds = |of: &str| document[of].as_u64().unwrap();
    assert!((3500..=3600).contains(&seconds("next_fetch_seconds")), "{document}");
    assert!((93_500..=93_600).contains(&seconds("serves_seconds")), "{document}");
    assert_eq!(sns["documents"][0]["url"], CERTIFICATE);
    assert!(sns["documents"][0]["keys"][0]["not_after"].is_string(), "{sns}");
    assert_eq!((&own["files"][0]["id"], own["files"][0]["not_after"].is_string()), (&"first".into(), true));
    assert_eq!((&tenants["remembered"], &tenants["tenant"]["name"]), (&1.into(), &"acme".into()));
    assert!(tenants["tenant"]["keys"][0]["fingerprint"].as_str().unwrap().starts_with("sha256 "));

    let text =
        run(&mut hookgate(&["keys", &format!("--control-socket={}", socket.display()), "--route", "r"]));
    assert!(
        text.out.contains("fetched ") && text.out.contains("next in ") && !text.out.contains("sns"),
        "{}",
        text.out
    );
    let jwk: Value = serde_json::from_str(&google.jwk("first")).unwrap();
    let all = format!("{}{told:?}", text.out);
    assert!(!all.contains(jwk["n"].as_str().unwrap()) && !all.contains("nobody else"), "{all}");

    host.away(true);
    gate.signal("HUP");
    let failing = || listed(&socket, &["--route", "r"])[0]["documents"][0]["fault"].is_string();
    crate::support::until("the fault to be told", failing);
    let none =
        run(&mut hookgate(&["keys", &format!("--control-socket={}", socket.display()), "--route", "x"]));
    assert!(
        none.code == Some(1) && none.err.contains("the routes are: r, sns, own, tenants"),
        "{}",
        none.err
    );
}

/// Fetches for the gates of that configuration.
fn fetch(builder: &Builder, copy: &std::path::Path, urls: &[&str]) -> Run {
    let config = builder.dir().join("hookgate.yaml");
    let mut command = hookgate(&["keys", "fetch", "-c"]);
    run(command.arg(config).arg("--dir").arg(copy).args(urls))
}

#[test]
fn a_copy_is_made_of_what_is_known_and_what_is_named_and_a_gate_lives_on_it() {
    let Some(host) = KeyHost::new() else { return };
    let (app, google, amazon) = (App::ok(), Signer::certified(&host.authority, "a", "x").0, sns(&host));
    host.publish(GOOGLE, Reply::Document(set(&[google.jwk("a")])));
    let builder = host.before(&app.url(), &routes().replace("/tenants }", " }"));
    // Of a configuration, with another name for what its routes hold.
    let elsewhere = Dir::new();
    let copy = elsewhere.join("made/for/it");
    let open = fetch(&builder, &copy, &[]);
    assert_eq!(open.code, Some(0), "{}", open.err);
    assert!(
        open.out.contains("route sns: deliveries name the rest of") && open.out.contains("1 key"),
        "{}",
        open.out
    );
    let whole = fetch(&builder, &copy, &[CERTIFICATE]);
    assert_eq!((whole.code, host.asked(CERTIFICATE)), (Some(0), 1), "{}", whole.err);

    let yaml = format!("keys: {{ dir: '{}' }}\n{}", copy.display(), routes().replace("/tenants }", " }"));
    let gate = Builder::new(&app.url()).config(&yaml).start();
    let before = host.said().len();
    assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 200);
    let message = notification(&amazon, TOPIC, CERTIFICATE);
    assert_eq!(reason(&gate, &to("/sns", request(&message.to_string(), &[]))), "accepted");
    assert_eq!(host.said().len(), before);

    // What cannot be had leaves what was there.
    host.publish(GOOGLE, Reply::Document("<html>log in</html>".to_owned()));
    let failed = fetch(&builder, &copy, &[]);
    assert!(failed.code == Some(1) && failed.err.contains("holds no key"), "{}", failed.err);
    let there = std::fs::read_to_string(copy.join("www.googleapis.com_oauth2_v3_certs")).unwrap();
    assert_eq!(there, set(&[google.jwk("a")]));
    for strange in ["https://evil.example/x.pem", &CERTIFICATE.replace("us-east-1", "eu-west-1")] {
        let refused = fetch(&builder, &copy, &[strange]);
        assert!(
            refused.code == Some(2) && refused.err.contains("no address that a route"),
            "{}",
            refused.err
        );
    }
}
