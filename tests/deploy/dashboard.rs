//! The dashboard: it keeps to the rules of Grafana's dashboard linter, its queries are `PromQL` over
//! metrics that the gate has, and a real Prometheus that scraped a gate under mixed traffic has
//! something to show in every panel.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::kube::{self, array, metrics_in, text};
use crate::prometheus::Prometheus;
use crate::support::gate::{program, run};
use crate::support::{Answer, App, Dir, Signer, until};
use crate::tls::{self, Authority};

const DASHBOARD: &str = "k8s/components/monitoring/dashboard.json";

/// A key that has an end, and an inbox, so that all metrics are there.
const ROUTES: &str = "
state_dir: DIR/state
routes:
  - name: stripe
    path: /webhooks
    provider: stripe
    expect_every: 1h
    secrets: [{ id: a, file: DIR/key-1, not_after: 2099-12-31 }]
    inbox: { on: failure }
  - { name: bounces, path: /sns, provider: aws-sns, topic_arns: ['arn:aws:sns:eu-west-1:123456789012:a'], handshake: confirm }
  - { name: published, path: /apple, provider: apple-app-store, bundle_id: a.b, environment: Sandbox }
  - name: tenants
    path: /tenants/{tenant}
    provider: github
    secrets: { dir: DIR }
";

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    array(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row").collect()
}

/// Each panel's title and query.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of = |panel: &Value| {
        let title = text(&panel["title"]).to_owned();
        let queries = array(&panel["targets"]).iter().map(|target| text(&target["expr"]).to_owned());
        queries.map(|query| (title.clone(), query)).collect::<Vec<_>>()
    };
    panels(dashboard).into_iter().flat_map(of).collect()
}

/// A query as Grafana would ask it, everything selected.
fn asked(query: &str) -> String {
    let all = [("$__rate_interval", "1m"), ("$job", ".+"), ("$instance", ".+"), ("$route", ".+")];
    all.iter().fold(query.to_owned(), |query, (variable, value)| query.replace(variable, value))
}

#[test]
fn it_keeps_to_the_linters_rules() {
    let dashboard = dashboard();
    assert_eq!(dashboard["editable"], false);
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let variables = array(&dashboard["templating"]["list"]);
    let variable = |name: &str| variables.iter().find(|v| v["name"] == name).unwrap();
    assert_eq!(variable("datasource")["type"], "datasource");
    assert_eq!(variable("datasource")["query"], "prometheus");
    assert_eq!(variable("datasource")["label"], "Data source");
    for (name, label) in [("job", "Job"), ("instance", "Instance"), ("route", "Route")] {
        let variable = variable(name);
        assert_eq!(variable["type"], "query", "{name}");
        assert_eq!(variable["label"], label);
        assert_eq!(variable["datasource"], source, "{name}");
        assert_eq!(variable["multi"], true, "{name}");
        assert_eq!(variable["allValue"], ".+", "{name}");
        assert_eq!(variable["refresh"], 2, "{name} follows the time range");
    }
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        assert!(!title.is_empty() && text(&panel["description"]).ends_with('.'), "{title} is explained");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: an id of its own");
        assert_eq!(panel["datasource"], source, "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has a unit");
        assert!(!array(&panel["targets"]).is_empty(), "{title} asks for something");
        for target in array(&panel["targets"]) {
            assert_eq!(target["datasource"], source, "{title}");
            let query = text(&target["expr"]);
            // Every selector, and every range.
            let selectors: Vec<_> = query.split('{').skip(1).map(|s| s.split('}').next().unwrap()).collect();
            assert!(!selectors.is_empty(), "{title}: {query}");
            for selector in selectors {
                assert!(selector.starts_with(r#"job=~"$job", instance=~"$instance""#), "{title}: {query}");
            }
            for range in query.split('[').skip(1) {
                assert!(range.starts_with("$__rate_interval]"), "{title}: {query}");
            }
            for (at, _) in query.match_indices("_total{") {
                let before = query[..at].rsplit('(').next().unwrap();
                let call = query[..at - before.len()].trim_end_matches('(');
                assert!(call.ends_with("rate") || call.ends_with("increase"), "{title}: {query}");
            }
        }
    }
}

/// Panels neither overlap nor leave their row.
#[test]
fn panels_stand_beside_each_other() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in array(&dashboard["panels"]) {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{}", panel["title"]);
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(taken.insert((x, y)), "{} stands on another", panel["title"]);
            }
        }
    }
}

#[test]
fn its_queries_are_promql() {
    let Some(promtool) = program("promtool") else {
        eprintln!("SKIPPED: promtool is not on PATH");
        return;
    };
    let queries = queries(&dashboard());
    let rule = |(n, (_, query)): (usize, &(String, String))| json!({ "record": format!("panel:{n}"), "expr": asked(query) });
    let rules: Vec<_> = queries.iter().enumerate().map(rule).collect();
    let dir = Dir::new();
    let file =
        dir.write("rules.yaml", json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string());
    let told = run(Command::new(promtool).args(["check", "rules"]).arg(file));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(told.out.contains(&format!("{} rules found", queries.len())), "{}", told.out);
}

#[test]
fn a_scraped_gate_shows_in_every_panel() {
    let Some(authority) = Authority::new() else { return };
    let app = App::script([Answer::ok(), Answer::status(500), Answer::ok()]);
    let gate = tls::gate(&app, &authority.issue("gate", 30))
        .with("insecure-allow-http", true)
        .config(ROUTES)
        .start();
    let Some(prometheus) = Prometheus::of(&gate) else { return };
    let scraped = || prometheus.value("sum(scrape_samples_scraped)").unwrap_or_default() > 0.0;
    until("the first scrape", scraped);

    let known = kube::names(&gate);
    let all: BTreeSet<_> = queries(&dashboard()).iter().flat_map(|(_, query)| metrics_in(query)).collect();
    let missing: Vec<_> = all.difference(&known).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
    // Whatever the gate counts is on some panel.
    let families = gate.ops("/metrics").text();
    let families = families.lines().filter_map(|line| line.strip_prefix("# TYPE hookgate_"));
    for family in families.map(|line| line.split(' ').next().unwrap()) {
        let shown = all.iter().any(|name| name.trim_end_matches("_bucket") == format!("hookgate_{family}"));
        assert!(shown, "hookgate_{family} is on no panel");
    }

    // One of each kind: delivered, repeated, forged, unsigned, stale, stored because the application failed, of no route, late by some seconds.
    let signer = Signer::stripe();
    let event = signer.event();
    let minutes = |n: u64| std::time::Duration::from_secs(60 * n);
    for request in [
        event.clone(),
        signer.event(),
        signer.event(),
        event.clone(),
        event.clone().tampered(),
        event.clone().without("stripe-signature"),
        event.clone().to("/elsewhere"),
        signer.event_aged(minutes(1)),
        signer.event_aged(minutes(20)),
        signer.sign(vec![b'x'; 2 << 20]),
    ] {
        gate.connect().exchange(&request);
    }
    let counted = || prometheus.value("sum(hookgate_requests_total)").is_some_and(|sum| sum >= 10.0);
    until("a scrape of all that", counted);
    assert_eq!(prometheus.value("up"), Some(1.0));
    for (title, query) in queries(&dashboard()) {
        let samples = prometheus.query(&asked(&query));
        assert!(!samples.is_empty(), "{title} shows nothing: {query}");
        assert!(samples.iter().any(|(_, value)| value.is_finite()), "{title} shows no number: {query}");
    }
}
