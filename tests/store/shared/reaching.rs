//! The ways to a store: a password from a file, TLS with an authority of one's own, a cluster,
//! sentinels.

use std::path::Path;

use super::{delivered, duplicate, key_of_event, launch, with_store, with_store_at};
use crate::redis_server::{Cluster, Server, free_port};
use crate::support::{App, Dir, Gate, Signer, eventually, until};
use crate::tls::{Authority, NAME, Pair};

#[test]
fn a_password_comes_from_a_file_and_is_read_again_when_it_changes() {
    let Some(server) = Server::start() else { return };
    let mut admin = server.connect();
    let mut set_password = |password: &str| {
        () = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(password).query(&mut admin).unwrap();
    };
    set_password("canary-one");
    let app = App::ok();
    let builder =
        with_store(&app, &server).with_file("replay-store-password-file", "store", "canary-wrong\n");
    let gate = launch(builder);
    gate.log.find("the refusal", |line| {
        line["event.name"] == "hookgate.store"
            && line["body"].as_str().unwrap().contains("authentication failed")
    });
    gate.dir.write("store", "canary-one\n");
    until("readiness", || gate.ops("/readyz").status == 200);
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), delivered());

    set_password("canary-two");
    gate.dir.write("store", "canary-two");
    () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut admin).unwrap();
    until("the new password to be used", || gate.send(&event).said() == duplicate());
    assert!(!gate.log.text().contains("canary"), "no password is ever told");
}

#[test]
fn a_user_of_an_access_list_needs_no_more_than_scripts_over_our_keys() {
    let Some(server) = Server::start() else { return };
    let rules = "on >secret ~shop:* +eval +evalsha +get +set +del +time";
    server.run::<()>(&format!("ACL SETUSER gate {rules}").split(' ').collect::<Vec<_>>());
    let app = App::ok();
    let gate = with_store(&app, &server)
        .with("replay-store", server.url().replace("redis://", "redis://gate@"))
        .with_file("replay-store-password-file", "store", "secret")
        .start();
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), delivered());
    assert_eq!(gate.send(&event).said(), duplicate());
}

#[test]
fn tls_believes_the_authority_that_is_named_and_no_other() {
    let (Some(authority), Some(other)) = (Authority::new(), Authority::new()) else { return };
    let pair = authority.issue("store", 30);
    let args = shows(&authority, &pair);
    let Some(server) = Server::start_with(&args.iter().map(String::as_str).collect::<Vec<_>>()) else {
        return;
    };
    let app = App::ok();
    let gate = |host: &str, root: &Path| {
        let store = with_store_at(&app, &format!("rediss://{host}:{}", server.port()));
        launch(store.with("replay-store-ca-file", root.display()).with("replay-store-timeout", "2s"))
    };
    let refused = |gate: &Gate| {
        let said = gate.log.find("the refusal", |line| line["event.name"] == "hookgate.store");
        said["body"].as_str().unwrap().to_owned()
    };
    let stranger = refused(&gate("localhost", &other.root()));
    assert!(
        stranger.contains("UnknownIssuer") || stranger.contains("invalid peer certificate"),
        "{stranger}"
    );
    let misnamed = refused(&gate("127.0.0.1", &authority.root()));
    assert!(misnamed.contains("certificate"), "its name is {NAME} and localhost: {misnamed}");

    let gate = gate("localhost", &authority.root());
    until("readiness", || gate.ops("/readyz").status == 200);
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), delivered());
    assert_eq!(gate.send(&event).said(), duplicate());
}

/// Arguments by which a server shows this certificate.
fn shows(authority: &Authority, pair: &Pair) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ("--tls-cert-file", path(&pair.cert)),
        ("--tls-key-file", path(&pair.key)),
        ("--tls-ca-cert-file", path(&authority.root())),
        ("--tls-auth-clients", "no".to_owned()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

#[test]
fn a_cluster_is_reached_over_tls_on_all_of_its_nodes() {
    let Some(authority) = Authority::new() else { return };
    let pair = authority.issue_for("cluster", 30, "DNS:localhost,IP:127.0.0.1");
    // The plain port is for the test; the nodes name the one for TLS to whoever comes over TLS.
    let args = [shows(&authority, &pair), vec!["--tls-cluster".to_owned(), "yes".to_owned()]].concat();
    let Some(nodes) = Cluster::start_secure(&args) else { return };
    let app = App::ok();
    let gate = with_store_at(&app, &nodes.secure_url())
        .with("replay-store-ca-file", authority.root().display())
        .with("replay-store-timeout", "2s")
        .start();
    for _ in 0..30 {
        let event = Signer::github().event();
        assert_eq!(gate.send(&event).said(), delivered());
        assert_eq!(gate.send(&event).said(), duplicate());
    }
    for node in &nodes.0 {
        assert!(node.run::<usize>(&["DBSIZE"]) > 0, "each node has its share");
    }
}

#[test]
fn sentinels_and_their_master_are_reached_over_tls() {
    let Some(authority) = Authority::new() else { return };
    let pair = authority.issue_for("sentinels", 30, "DNS:localhost,IP:127.0.0.1");
    let secure = shows(&authority, &pair);
    let Some(master) = Server::start_with(&secure.iter().map(String::as_str).collect::<Vec<_>>()) else {
        return;
    };
    let dir = Dir::new();
    let sentinel = eventually("a sentinel", || {
        let conf =
            dir.write("sentinel.conf", format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port()));
        let tls = [&secure[..], &["--tls-replication".to_owned(), "yes".to_owned()]].concat();
        Server::secure_sentinel(free_port(), conf.to_str().unwrap(), &tls)
    });
    let app = App::ok();
    let gate = launch(
        with_store_at(&app, &format!("rediss+sentinel://localhost:{}/main", sentinel.port()))
            .with("replay-store-ca-file", authority.root().display())
            .with("replay-store-timeout", "2s"),
    );
    until("readiness", || gate.ops("/readyz").status == 200);
    let event = Signer::github().event();
    assert_eq!(gate.send(&event).said(), delivered());
    assert_eq!(gate.send(&event).said(), duplicate());
}

#[test]
fn a_cluster_keeps_each_event_on_one_of_its_nodes() {
    let Some(nodes) = Cluster::start() else { return };
    let app = App::ok();
    let gates = [(); 2].map(|()| with_store(&app, &nodes.0[0]).with("replay-store", nodes.url()).start());
    let events: Vec<_> = (0..30).map(|_| Signer::github().event()).collect();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(gates[n % 2].send(event).said(), delivered());
        assert_eq!(gates[(n + 1) % 2].send(event).said(), duplicate());
    }
    assert_eq!(app.seen(), events.len());
    for node in &nodes.0 {
        assert!(node.run::<usize>(&["DBSIZE"]) > 0, "each node has its share");
    }
}

#[test]
fn after_a_failover_the_new_master_is_found_through_the_sentinels() {
    let access = ["--requirepass", "canary", "--masterauth", "canary"];
    let Some(master) = Server::start_with(&access) else { return };
    let port = master.port().to_string();
    let replica = Server::start_with(&[&access[..], &["--replicaof", "127.0.0.1", &port]].concat()).unwrap();
    let dir = Dir::new();
    let sentinel = eventually("a sentinel", || {
        let port = free_port();
        let master = master.port();
        let conf = dir.write(
            "sentinel.conf",
            format!("sentinel monitor main 127.0.0.1 {master} 1\nsentinel auth-pass main canary\n"),
        );
        Server::sentinel(port, conf.to_str().unwrap())
    });
    let in_step = || replica.tells("replication", "master_link_status:up");
    until("the replica to be in step", in_step);
    until("the sentinel to know the replica", || sentinel.tells("sentinel", "slaves=1"));
    let app = App::ok();
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port());
    let gate = with_store(&app, &master)
        .with("replay-store", url)
        .with_file("replay-store-password-file", "store", "canary")
        .start();
    let (before, after) = (Signer::github().event(), Signer::github().event());
    assert_eq!(gate.send(&before).said(), delivered());
    let key = key_of_event(&app);
    until("the replica to have it", || replica.run::<Option<String>>(&["GET", &key]).as_deref() == Some("d"));

    let mut admin = sentinel.connect();
    until("the sentinel to fail over", || {
        redis::cmd("SENTINEL").arg(&["FAILOVER", "main"]).query::<()>(&mut admin).is_ok()
    });
    until("the replica to be the master", || replica.tells("replication", "role:master"));
    until("the old master to be a replica", || master.tells("replication", "role:slave"));
    until("the gate to follow", || gate.send(&after).status == 200);
    assert_eq!(gate.send(&before).said(), duplicate(), "the replica had it");
    assert_eq!(gate.send(&after).said(), duplicate());
    assert_eq!(app.seen(), 2);
}
