//! A restart leaves the keys that were fetched, and the host is not needed for it.

use std::fs;
use std::path::PathBuf;

use super::delivered::{
    CERTIFICATE, claims, notification, pubsub_route, pushed, reason, request, resign, sns, sns_route,
};
use super::host::{KeyHost, Reply, Signer, set};
use crate::support::{App, Dir, Gate, until};

const GOOGLE: &str = "https://www.googleapis.com/oauth2/v3/certs";
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:bounces";

fn routes(state: &Dir) -> String {
    let sns =
        sns_route().replace("routes:\n", "").replace("name: r, path: /hook", "name: sns, path: /hook/sns");
    format!("{}{sns}", pubsub_route())
        .replace("routes:", &format!("state_dir: {}/state\nroutes:", state.path().display()))
}

fn files(state: &Dir) -> Vec<PathBuf> {
    let listed = fs::read_dir(state.join("state/keys")).into_iter().flatten();
    listed
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "keys"))
        .collect()
}

fn to_sns(body: &serde_json::Value) -> crate::support::Request {
    crate::support::Request { target: "/hook/sns".to_owned(), ..request(&body.to_string(), &[]) }
}

#[test]
fn keys_outlive_a_restart_while_their_hosts_are_away() {
    let Some(host) = KeyHost::new() else { return };
    let (state, app) = (Dir::new(), App::ok());
    let (google, never) =
        (Signer::certified(&host.authority, "a", "x").0, Signer::certified(&host.authority, "b", "x").0);
    host.publish(GOOGLE, Reply::Kept(set(&[google.jwk("a")]), 86_400));
    let amazon = sns(&host);
    {
        let gate = host.before(&app.url(), &routes(&state)).start();
        assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 200);
        assert_eq!(reason(&gate, &to_sns(&notification(&amazon, TOPIC, CERTIFICATE))), "accepted");
        until("both to lie on the disk", || files(&state).len() == 2);
    }
    host.away(true);
    let asked = host.said().len();
    let gate = host.before(&app.url(), &routes(&state)).start();
    assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 200);
    let mut other = notification(&amazon, TOPIC, CERTIFICATE);
    other["MessageId"] = "after the restart".into();
    resign(&amazon, &mut other);
    assert_eq!(reason(&gate, &to_sns(&other)), "accepted");
    assert_eq!(host.said().len(), asked, "nobody was asked: nothing has to be renewed yet");
    let answer = gate.send(&pushed(&never.token("b", &claims())));
    assert_eq!(answer.status, 503, "whether there is such a key nobody can say");
    assert!(host.said().len() > asked);
}

/// Whoever damages a file takes nothing but the time of a fetch, and it is said.
#[test]
fn what_is_damaged_on_the_disk_is_refused_and_fetched_again() {
    let Some(host) = KeyHost::new() else { return };
    let (state, app) = (Dir::new(), App::ok());
    let (google, planted) =
        (Signer::certified(&host.authority, "a", "x").0, Signer::certified(&host.authority, "b", "x").0);
    host.publish(GOOGLE, Reply::Document(set(&[google.jwk("a")])));
    let first = host.before(&app.url(), &routes(&state)).start();
    until("it to lie on the disk", || files(&state).len() == 1);
    drop(first);
    let file = files(&state).remove(0);
    let text = fs::read_to_string(&file).unwrap();
    let (head, _) = text.split_once('\n').unwrap();
    fs::write(&file, format!("{head}\n{}", set(&[planted.jwk("a")]))).unwrap();

    let gate = host.before(&app.url(), &routes(&state)).start();
    gate.log.find("which file, and why", |line| {
        let body = line["body"].as_str().unwrap_or_default();
        line["event.name"] == "hookgate.keys"
            && body.contains(&*file.to_string_lossy())
            && body.contains("damaged")
    });
    assert_eq!(gate.send(&pushed(&planted.token("a", &claims()))).status, 401);
    assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 200);
    assert_eq!(host.asked(GOOGLE), 2);
    until("it to be mended", || {
        fs::read_to_string(&file).unwrap() != format!("{head}\n{}", set(&[planted.jwk("a")]))
    });
}

#[test]
fn what_has_not_changed_is_not_sent_again_also_after_a_restart() {
    let Some(host) = KeyHost::new() else { return };
    let (state, app) = (Dir::new(), App::ok());
    let google = Signer::certified(&host.authority, "a", "x").0;
    host.publish(GOOGLE, Reply::Tagged(set(&[google.jwk("a")]), "\"first\""));
    let renewed = |gate: &Gate, count: f64| {
        gate.signal("HUP");
        gate.wait_for_metric(
            "hookgate_key_fetches_total{result=\"unchanged\",source=\"google-pubsub\"}",
            count,
        );
        assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 200);
    };
    let gate = host.before(&app.url(), &routes(&state)).start();
    renewed(&gate, 1.0);
    renewed(&gate, 2.0);
    until("it to lie on the disk", || files(&state).len() == 1);
    drop(gate);
    let gate = host.before(&app.url(), &routes(&state)).start();
    renewed(&gate, 1.0);
    let other = Signer::certified(&host.authority, "b", "x").0;
    host.publish(GOOGLE, Reply::Tagged(set(&[other.jwk("b")]), "\"second\""));
    gate.signal("HUP");
    until("the new one", || gate.send(&pushed(&other.token("b", &claims()))).status == 200);
    assert_eq!(gate.send(&pushed(&google.token("a", &claims()))).status, 401);
}
