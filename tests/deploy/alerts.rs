//! The alerts: each fires when it should and not otherwise (promtool plays its unit test), has a
//! section in the runbook, and asks for metrics that the gate has.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::kube::{self, metrics_in};
use crate::support::gate::{program, run};
use crate::support::{App, Dir, Gate};
use crate::tls::{self, Authority};

const ALERTS: &str = "k8s/components/monitoring/alerts.yaml";

fn groups() -> Value {
    kube::read(ALERTS).remove(0)["spec"].take()
}

fn rules() -> Vec<Value> {
    let groups = groups();
    let groups = groups["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn names() -> Vec<String> {
    rules().iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_fires_when_it_should_and_not_otherwise() {
    let Some(promtool) = program("promtool") else {
        eprintln!("SKIPPED: promtool is not on PATH");
        return;
    };
    let dir = Dir::new();
    dir.write("alerts.yaml", groups().to_string()); // JSON is YAML
    let mut played = Vec::new();
    for name in names() {
        let file = format!("{name}.yaml");
        let text = fs::read_to_string(format!("tests/deploy/alerts/{file}"))
            .unwrap_or_else(|e| panic!("{name} has a unit test in tests/deploy/alerts: {e}"));
        let parsed = &kube::parse(&text)[0];
        let cases = parsed["tests"].as_array().unwrap().iter();
        let cases: Vec<_> = cases.flat_map(|t| t["alert_rule_test"].as_array().unwrap()).collect();
        assert!(cases.iter().all(|case| case["alertname"] == name), "{file} is about {name} alone");
        let fires = |case: &&&Value| !case["exp_alerts"].as_array().unwrap().is_empty();
        let firing = cases.iter().filter(fires).count();
        assert!(firing > 0 && firing < cases.len(), "{file} shows {name} firing, and silent");
        played.push(dir.write(&file, text));
    }
    assert_eq!(fs::read_dir("tests/deploy/alerts").unwrap().count(), played.len(), "a test without an alert");
    let mut check = std::process::Command::new(&promtool);
    let told = run(check.args(["check", "rules"]).arg(dir.join("alerts.yaml")));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    let told = run(std::process::Command::new(&promtool).args(["test", "rules"]).args(&played));
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}

#[test]
fn the_page_counts_them_by_how_grave_they_are() {
    let page = fs::read_to_string("k8s/README.md").unwrap();
    let rules = rules();
    assert!(page.contains(&format!("and {} alerts, each with", rules.len())), "there are {}", rules.len());
    for severity in ["page", "warning", "info"] {
        let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {severity} | "))).unwrap();
        let of_it = rules.iter().filter(|rule| rule["labels"]["severity"] == severity).count();
        assert_eq!(row.split(", ").count(), of_it, "{row}");
    }
}

#[test]
fn each_says_how_grave_it_is_and_where_help_stands() {
    let runbook = fs::read_to_string("k8s/runbook.md").unwrap();
    let sections: BTreeSet<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap().to_owned();
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "warning" | "info")), "{name}");
        assert!(rule["annotations"]["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{name}");
        let link = format!("k8s/runbook.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], link, "{name}");
        assert!(rule["for"].is_string(), "{name} does not fire at the first glance");
        let section = runbook.split(&format!("\n## {name}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("the runbook has a section {name}"));
        let section = section.split("\n## ").next().unwrap();
        assert!(section.contains("**Look**") && section.contains("**Do**"), "{name}");
        alerts.insert(name);
    }
    assert_eq!(sections.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), alerts);
}

#[test]
fn they_ask_for_metrics_that_exist() {
    let Some(authority) = Authority::new() else { return };
    let app = App::ok();
    let gate = tls::gate(&app, &authority.issue("gate", 30)).with("expect-every", "1h").start();
    let mut known = kube::names(&gate);
    let elsewhere = "routes:
  - { name: t, path: '/t/{tenant}', provider: github, secrets: { dir: DIR } }
  - { name: published, path: /apple, provider: apple-app-store, bundle_id: a.b, environment: Sandbox }
";
    known.extend(kube::names(&Gate::before(&app).config(elsewhere).start()));
    let mut asked = metrics_in(&fs::read_to_string("k8s/runbook.md").unwrap());
    for rule in rules() {
        asked.extend(metrics_in(rule["expr"].as_str().unwrap()));
    }
    assert!(asked.len() > 10, "{asked:?}");
    let missing: Vec<_> = asked.difference(&known).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
}
