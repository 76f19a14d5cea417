//! The recipes: each renders, every supported Kubernetes takes it, the gate takes what it is told, traffic leads to
//! the gate alone, and the page says in a few lines what is to be done.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kube::{self, array, text};
use crate::kubernetes::{Mounted, check, environment, faults, gate_of, pod, render};
use crate::support::gate::{hookgate, run};

const RENDERED: [&str; 11] = [
    "aws-alb",
    "aws-nlb",
    "cert-manager",
    "gateway",
    "gke",
    "ingress-nginx",
    "monitored",
    "node",
    "replicas",
    "secrets/csi",
    "traefik",
];
/// Those that need a kind that not every cluster has, and what brings it.
const KINDS_OF_OTHERS: [(&str, &str); 6] = [
    ("aws-nlb", "cert-manager"),
    ("cert-manager", "cert-manager"),
    ("gateway", "Gateway"),
    ("gke", "GKE"),
    ("monitored", "operator"),
    ("secrets/csi", "driver"),
];

fn each() -> Option<Vec<(&'static str, Vec<Value>)>> {
    RENDERED.into_iter().map(|name| Some((name, render(&format!("recipes/{name}"))?))).collect()
}

#[test]
fn every_version_takes_the_recipes() {
    let Some(recipes) = each() else { return };
    let mut objects: Vec<Value> = recipes.into_iter().flat_map(|(_, objects)| objects).collect();
    objects.extend(kube::read("k8s/recipes/secrets/external-secrets/external-secret.yaml"));
    objects.extend(kube::read("k8s/recipes/statefulset/application.yaml"));
    let Some(faults) = faults(&objects) else { return };
    assert_eq!(faults, "");
}

#[test]
fn the_gate_takes_what_the_recipes_tell_it() {
    let Some(recipes) = each() else { return };
    for (name, objects) in recipes {
        let Some(mounted) = Mounted::new(name, pod(&objects), &objects) else { return };
        let told = check(hookgate(&["check", "-o", "json"]).envs(mounted.environment));
        assert_eq!(told["valid"], true, "{name}: {told:#}");
        let limit = text(&gate_of(pod(&objects))["resources"]["limits"]["memory"]);
        let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        let needed = told["memory"]["most"].as_u64().unwrap().div_ceil(1 << 20);
        assert!(needed <= limit, "{name}: {limit} MiB for {needed} MiB");
        // `node` is what the others stand on: it refuses everything until one says what ends TLS.
        let https = ["trusted_proxies", "listen_tls"].iter().any(|key| {
            array(&told["settings"])
                .iter()
                .any(|setting| setting["key"] == *key && setting["value"] != "none")
        });
        assert_eq!(https, name != "node", "{name}: events can come over HTTPS");
    }
}

#[test]
fn every_way_in_leads_to_the_gate() {
    let Some(recipes) = each() else { return };
    for (name, objects) in recipes {
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let tls = environment(gate_of(pod(&objects))).iter().any(|(name, _)| name == "HOOKGATE_LISTEN_TLS");
        let traffic = if tls { 17443 } else { 17080 };
        let service = of_kind("Service").next().unwrap();
        for port in array(&service["spec"]["ports"]) {
            assert_eq!(port["targetPort"], traffic, "{name}");
        }
        let ports: Vec<_> = array(&service["spec"]["ports"]).iter().map(|port| &port["name"]).collect();
        for ingress in of_kind("Ingress") {
            for path in array(&ingress["spec"]["rules"][0]["http"]["paths"]) {
                let backend = &path["backend"]["service"];
                assert_eq!(backend["name"], service["metadata"]["name"], "{name}");
                assert!(ports.contains(&&backend["port"]["name"]), "{name}: {backend}");
            }
        }
        for policy in of_kind("NetworkPolicy") {
            let open: Vec<_> =
                array(&policy["spec"]["ingress"]).iter().flat_map(|rule| array(&rule["ports"])).collect();
            assert!(open.iter().any(|port| port["port"] == traffic), "{name}: the gate can be reached");
            assert!(
                open.iter().all(|port| port["port"] == traffic || port["port"] == 17090),
                "{name}: nothing else can"
            );
        }
        assert_eq!(of_kind("NetworkPolicy").count(), 1, "{name}");
    }
}

/// GitHub sends up to 25 MiB, and the gate answers within 25 s at most; what stands before it must bear both.
#[test]
fn what_stands_before_the_gate_bears_what_providers_send() {
    let annotations = |name: &str| {
        let objects = kube::read(&format!("k8s/recipes/{name}/ingress.yaml"));
        objects[0]["metadata"]["annotations"].clone()
    };
    let nginx = annotations("ingress-nginx");
    assert_eq!(nginx["nginx.ingress.kubernetes.io/proxy-body-size"], "25m");
    let wait: u64 = text(&nginx["nginx.ingress.kubernetes.io/proxy-read-timeout"]).parse().unwrap();
    assert!(wait >= 25, "{wait} s");
    let gke = kube::read("k8s/recipes/gke/ingress.yaml");
    assert!(gke[2]["spec"]["timeoutSec"].as_u64().unwrap() >= 25);
    let route = kube::read("k8s/recipes/gateway/httproute.yaml");
    assert_eq!(route[0]["spec"]["rules"][0]["timeouts"]["request"], "30s");
}

#[test]
fn no_recipe_needs_a_foreign_kind_without_saying_so() {
    let Some(recipes) = each() else { return };
    for (name, objects) in recipes {
        let native = ["v1", "apps/v1", "autoscaling/v2", "networking.k8s.io/v1", "policy/v1"];
        let foreign = objects.iter().any(|object| !native.contains(&text(&object["apiVersion"])));
        let said = KINDS_OF_OTHERS.iter().find(|(recipe, _)| *recipe == name);
        assert_eq!(foreign, said.is_some(), "{name}");
        if let Some((_, who)) = said {
            let page = fs::read_to_string(format!("k8s/recipes/{name}/README.md")).unwrap();
            assert!(page.contains(who), "{name}: its page names {who}");
        }
    }
}

/// The `StatefulSet` is put through inject, as its page says.
#[test]
fn the_statefulset_gets_its_gate_from_annotations_alone() {
    let page = fs::read_to_string("k8s/recipes/statefulset/README.md").unwrap();
    let line = page.lines().find(|line| line.starts_with("hookgate inject")).unwrap();
    let args: Vec<_> = line.split(' ').skip(1).collect();
    let shown = run(&mut hookgate(&args));
    assert!(shown.code == Some(0) && !shown.err.is_empty(), "{}", shown.err);
    assert!(!shown.err.contains("warning"), "{}", shown.err);
    let args: Vec<_> = args.into_iter().filter(|arg| *arg != "--diff").collect();
    let done = run(&mut hookgate(&args));
    let objects = kube::parse(&done.out);
    let gate = gate_of(&objects[0]["spec"]["template"]["spec"]);
    let env = environment(gate);
    assert!(env.contains(&("HOOKGATE_STATE_DIR".into(), "/var/lib/hookgate/state".into())), "{env:?}");
    assert!(env.contains(&("HOOKGATE_INBOX".into(), "failure".into())), "{env:?}");
    assert_eq!(
        gate["volumeMounts"][1],
        serde_json::json!({ "name": "hookgate-state", "mountPath": "/var/lib/hookgate" })
    );
    if let Some(faults) = faults(&objects) {
        assert_eq!(faults, "");
    }
}

#[test]
fn each_page_is_short_and_what_it_names_is_there() {
    let pages =
        [&RENDERED[..], &["secrets/external-secrets", "secrets/sealed-secrets", "statefulset"]].concat();
    for name in pages {
        let page = fs::read_to_string(format!("k8s/recipes/{name}/README.md")).unwrap();
        let lines = page.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 15, "{name}: {lines} lines");
        for path in page.split(['`', ' ', '\n']).filter(|word| word.starts_with("k8s/recipes/")) {
            assert!(Path::new(path).exists(), "{name}: {path}");
        }
    }
}
