//! The admission policies, evaluated over real pods and Services by cel-python: one puts the gate in, two refuse
//! what leads around it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::kube::{self, array, text};
use crate::kubernetes::{faults, gate_of};
use crate::support::gate::run;

const POLICIES: [&str; 2] =
    ["k8s/samples/mutating-admission-policy.yaml", "k8s/samples/validating-admission-policy.yaml"];

/// What becomes of each object, and why it is refused; `None` if the judge cannot run here.
fn admitted(policies: &[&str], objects: &[Value]) -> Option<Vec<(Value, String)>> {
    if run(Command::new("python3").args(["-c", "import celpy"])).code != Some(0) {
        eprintln!("SKIPPED: python3 with cel-python is not here");
        return None;
    }
    let policies: Vec<Value> = policies.iter().flat_map(|path| kube::read(path)).collect();
    let mut judge = Command::new("python3")
        .arg("tests/deploy/kubernetes/admit.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "policies": policies, "objects": objects });
    judge.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success());
    let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let refused = |result: &Value| array(&result["refused"]).iter().map(text).collect::<Vec<_>>().join("; ");
    Some(results.into_iter().map(|result| (result["object"].clone(), refused(&result))).collect())
}

/// A pod as a Deployment makes it, labelled.
fn pod(spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "labels": { "app": "web", "hookgate/inject": "true" }, "annotations": { "hookgate/provider": "stripe" } },
        "spec": spec,
    })
}

#[test]
fn a_labelled_pod_gets_the_gate_and_keeps_what_it_has() {
    let application = json!({ "name": "web", "image": "web", "ports": [{ "containerPort": 8080 }] });
    let bare = pod(&json!({ "containers": [application] }));
    let full = pod(&json!({
        "initContainers": [{ "name": "migrate", "image": "web" }],
        "containers": [application, { "name": "agent", "image": "agent" }],
        "volumes": [{ "name": "data", "emptyDir": {} }],
        "serviceAccountName": "robot",
    }));
    let mut unlabelled = bare.clone();
    unlabelled["metadata"]["labels"] = json!({ "app": "web" });
    let Some(results) = admitted(&POLICIES, &[bare.clone(), full.clone(), unlabelled.clone()]) else {
        return;
    };
    let [(first, refused), (second, refused_second), (third, _)] = <[_; 3]>::try_from(results).unwrap();
    assert_eq!((refused.as_str(), refused_second.as_str()), ("", ""));
    assert_eq!(third, unlabelled);

    let gate = gate_of(&first["spec"]);
    assert_eq!(
        gate["env"][0],
        json!({ "name": "HOOKGATE_PROVIDER", "value": "stripe" }),
        "its annotation says who"
    );
    assert_eq!(first["spec"]["volumes"][0]["secret"]["secretName"], "webhook-secrets");
    assert_eq!(
        array(&second["spec"]["initContainers"]).iter().map(|c| text(&c["name"])).collect::<Vec<_>>(),
        ["hookgate", "migrate"]
    );
    assert_eq!(second["spec"]["volumes"][0], full["spec"]["volumes"][0]);
    for key in ["containers", "serviceAccountName"] {
        assert_eq!(second["spec"][key], full["spec"][key], "{key}");
    }
    if let Some(faults) = faults(&[first.clone(), second]) {
        assert_eq!(faults, "");
    }
    // A second pass, as the API server makes, changes nothing.
    let again = admitted(&POLICIES, std::slice::from_ref(&first)).unwrap();
    assert_eq!(again[0].0, first);
}

#[test]
fn a_pod_that_says_no_provider_is_refused() {
    let mut silent = pod(&json!({ "containers": [{ "name": "web", "image": "web" }] }));
    silent["metadata"]["annotations"] = json!({});
    let Some(results) = admitted(&POLICIES, &[silent]) else { return };
    assert!(results[0].1.starts_with("hookgate: "), "{}", results[0].1);
}

#[test]
fn a_labelled_pod_without_a_gate_or_with_a_way_around_is_refused() {
    let plain = json!({ "name": "web", "image": "web" });
    let gate = json!({ "name": "hookgate", "image": "hookgate", "restartPolicy": "Always" });
    let init_only = json!({ "name": "hookgate", "image": "hookgate" });
    let host_port =
        json!({ "name": "web", "image": "web", "ports": [{ "containerPort": 8080, "hostPort": 80 }] });
    let cases = [
        (json!({ "containers": [plain] }), "this pod has no gate"),
        (json!({ "containers": [plain], "initContainers": [init_only] }), "this pod has no gate"),
        (json!({ "containers": [plain], "initContainers": [gate] }), ""),
        (json!({ "containers": [plain, { "name": "hookgate", "image": "hookgate" }] }), ""),
        (
            json!({ "containers": [plain], "initContainers": [gate], "hostNetwork": true }),
            "hostNetwork leads around the gate",
        ),
        (json!({ "containers": [host_port], "initContainers": [gate] }), "a hostPort leads around the gate"),
    ];
    let pods: Vec<_> = cases.iter().map(|(spec, _)| pod(spec)).collect();
    let Some(results) = admitted(&POLICIES[1..], &pods) else { return };
    judged(&cases.map(|(spec, expected)| (spec, expected.to_owned())), &results);
}

#[test]
fn a_labelled_service_that_leads_around_the_gate_is_refused() {
    let service = |ports: Value, other: Option<&str>| {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "labels": { "hookgate/inject": "true" } },
            "spec": { "selector": { "app": "web" }, "ports": ports },
        });
        if let Some(other) = other {
            service["metadata"]["annotations"] = json!({ "hookgate/other-port": other });
        }
        service
    };
    let gate = json!({ "name": "http", "port": 80, "targetPort": 17080 });
    let tls = json!({ "name": "https", "port": 443, "targetPort": 17443 });
    let metrics = json!({ "name": "metrics", "port": 9100, "targetPort": 9100 });
    let around = "leads around the gate";
    let none = "no port of this Service leads to the gate";
    let cases = [
        (service(json!([gate]), None), ""),
        (service(json!([gate, tls]), None), ""),
        (service(json!([{ "port": 80, "targetPort": 8080 }]), None), none),
        (service(json!([{ "port": 80 }]), None), none),
        (service(json!([{ "port": 80, "targetPort": "http" }]), None), none),
        (service(json!([gate, metrics]), None), around),
        (service(json!([gate, metrics]), Some("metrics")), ""),
        (service(json!([gate, metrics]), Some("debug")), around),
        (service(json!([{ "name": "http", "port": 80, "targetPort": 8080 }]), Some("http")), none),
    ];
    let services: Vec<_> = cases.iter().map(|(service, _)| service.clone()).collect();
    let Some(results) = admitted(&POLICIES[1..], &services) else { return };
    judged(&cases.map(|(service, expected)| (service, expected.to_owned())), &results);
}

fn judged(cases: &[(Value, String)], results: &[(Value, String)]) {
    for ((object, expected), (_, refused)) in cases.iter().zip(results) {
        let fits = if expected.is_empty() { refused.is_empty() } else { refused.contains(expected.as_str()) };
        assert!(fits, "{object}\nexpected {expected:?}\nrefused {refused:?}");
    }
}
