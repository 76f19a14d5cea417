//! The manifests: they render, every supported Kubernetes takes them, the gate takes what they
//! tell it, no probe can block a pod, and nothing in a pod may do more than it must.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::kube::{self, array, text};
use crate::support::gate::{hookgate, program, run};
use crate::support::sender::SECRET;
use crate::support::{App, Dir, Gate, Signer, until};
use crate::tls::Authority;

/// Everything that `kubectl apply -k` may be given.
const RENDERED: [&str; 6] = [
    "base",
    "overlays/ingress",
    "overlays/legacy",
    "overlays/several-providers",
    "overlays/shared-store",
    "overlays/tls",
];
const SAMPLES: [&str; 5] =
    ["by-path", "httproute", "ingress", "mutating-admission-policy", "validating-admission-policy"];
const VERSIONS: [&str; 9] = ["1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37"];

pub fn render(path: &str) -> Option<Vec<Value>> {
    let Some(kubectl) = program("kubectl") else {
        eprintln!("SKIPPED: kubectl is not on PATH");
        return None;
    };
    let done = run(Command::new(kubectl).args(["kustomize", &format!("k8s/{path}")]));
    assert_eq!(done.code, Some(0), "{path}: {}", done.err);
    Some(kube::parse(&done.out))
}

pub fn pod(objects: &[Value]) -> &Value {
    &objects.iter().find(|object| object["kind"] == "Deployment").unwrap()["spec"]["template"]["spec"]
}

fn containers(pod: &Value) -> Vec<&Value> {
    array(&pod["initContainers"]).iter().chain(array(&pod["containers"])).collect()
}

pub fn gate_of(pod: &Value) -> &Value {
    containers(pod).into_iter().find(|container| container["name"] == "hookgate").unwrap()
}

/// The pod that the admission policy makes. Its expression writes objects as YAML does, but for
/// their types.
fn injected() -> Value {
    let policy = kube::read("k8s/samples/mutating-admission-policy.yaml").remove(0);
    let expression = text(&policy["spec"]["mutations"][0]["jsonPatch"]["expression"]).to_owned();
    let plain = expression.replace("object.metadata.annotations[\"hookgate/provider\"]", "\"github\"");
    let values: Vec<_> = plain.split("value: Object").skip(1).map(untyped).collect();
    let [container, volume] = <[Value; 2]>::try_from(values).unwrap();
    json!({ "initContainers": [container], "volumes": [volume], "containers": [] })
}

/// The first object in a CEL text that begins after the name of a type.
fn untyped(rest: &str) -> Value {
    let mut depth = 0;
    let end = rest.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (c == '}' && depth == 0).then_some(at)
    });
    let mut object = format!("Object{}", &rest[..=end.unwrap()]);
    while let Some(at) = object.find("Object") {
        let brace = object[at..].find('{').unwrap();
        object.replace_range(at..at + brace, "");
    }
    kube::parse(&object).remove(0)
}

/// Asks tests/deploy/kubernetes/validate.py; `None` if it cannot run here.
pub fn faults(objects: &[Value]) -> Option<String> {
    let ready = run(Command::new("python3").args(["-c", "import celpy, jsonschema, kubernetes_validate"]));
    if ready.code != Some(0) {
        eprintln!("SKIPPED: python3 with kubernetes-validate and cel-python is not here");
        return None;
    }
    let mut check = Command::new("python3")
        .arg("tests/deploy/kubernetes/validate.py")
        .args(VERSIONS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(Value::from(objects).to_string().as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_version_takes_them() {
    let mut objects = Vec::new();
    for path in RENDERED {
        let Some(rendered) = render(path) else { return };
        objects.extend(rendered);
    }
    for sample in SAMPLES {
        objects.extend(kube::read(&format!("k8s/samples/{sample}.yaml")));
    }
    let mut pod = injected();
    pod["containers"] = json!([{ "name": "application", "image": "application" }]);
    objects
        .push(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "injected" }, "spec": pod }));
    let Some(faults) = faults(&objects) else { return };
    assert_eq!(faults, "");
}

#[test]
fn the_validator_sees_a_misspelt_key() {
    let Some(mut objects) = render("overlays/ingress") else { return };
    for object in &mut objects {
        let spec = if object["kind"] == "ConfigMap" { object } else { &mut object["spec"] };
        spec["mispelt"] = json!({});
    }
    let mut policy = kube::read("k8s/samples/mutating-admission-policy.yaml").remove(0);
    policy["spec"]["matchConditions"][0]["expression"] = "has(object.spec".into();
    objects.push(policy);
    let Some(faults) = faults(&objects) else { return };
    for object in &objects {
        let named = format!("{} {}: ", text(&object["kind"]), text(&object["metadata"]["name"]));
        assert!(faults.contains(&named), "{named}\n{faults}");
    }
}

#[test]
fn pods_keep_to_the_restricted_standard() {
    let mut pods = vec![("admission policy".to_owned(), injected())];
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        let pod = pod(&objects).clone();
        assert_eq!(pod["automountServiceAccountToken"], false, "{path}");
        pods.push((path.to_owned(), pod));
    }
    for (path, pod) in pods {
        for setting in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
            assert!(pod[setting].is_null(), "{path}: {setting}");
        }
        for volume in array(&pod["volumes"]) {
            let harmless = ["configMap", "secret"].iter().any(|kind| volume[kind].is_object());
            assert!(harmless, "{path}: {volume}");
        }
        for container in containers(&pod) {
            let expected = json!({
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
            });
            assert_eq!(container["securityContext"], expected, "{path}: {}", container["name"]);
            for kind in ["requests", "limits"] {
                assert!(container["resources"][kind]["memory"].is_string(), "{path}: {}", container["name"]);
            }
            for mount in array(&container["volumeMounts"]) {
                assert_eq!(mount["readOnly"], true, "{path}: {mount}");
            }
        }
    }
}

/// Wherever the gate is put, it is the same gate.
#[test]
fn sidecar_legacy_and_injected_gate_are_one() {
    let (Some(base), Some(legacy)) = (render("base"), render("overlays/legacy")) else { return };
    let (base, legacy, injected) = (pod(&base), pod(&legacy), injected());
    assert_eq!(text(&array(&base["initContainers"])[0]["name"]), "hookgate", "before everything else");
    let mut sidecar = gate_of(base).clone();
    assert_eq!(sidecar["restartPolicy"], "Always");
    sidecar["env"].take();
    let mut from_policy = gate_of(&injected).clone();
    from_policy["env"].take();
    assert_eq!(from_policy, sidecar);
    sidecar.as_object_mut().unwrap().remove("restartPolicy");
    let mut ordinary = gate_of(legacy).clone();
    ordinary["env"].take();
    assert_eq!(ordinary, sidecar);
    assert_eq!(legacy["initContainers"], Value::Null);
}

#[test]
fn no_probe_can_block_the_pod() {
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        let gate = gate_of(pod(&objects));
        for (probe, asks) in
            [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            assert_eq!(gate[probe]["httpGet"], json!({ "path": asks, "port": 17090 }), "{path}: {probe}");
        }
        assert!(gate["lifecycle"].is_null(), "{path}: the gate's end is its own");
    }
    // The application is not there: the kubelet must still see a gate that has started.
    let gate = Gate::before(&App::ok()).with("upstream", "http://127.0.0.1:9").start();
    for asks in ["/startupz", "/readyz", "/livez"] {
        assert_eq!(gate.ops(asks).status, 200, "{asks}");
    }
}

/// The application goes on while the gate still lets events in.
#[test]
fn the_application_outlasts_the_traffic() {
    let seconds = |env: &[(String, String)], name: &str| -> u64 {
        let value = env.iter().find(|(n, _)| n == name).map_or("20s", |(_, value)| value);
        value.trim_end_matches('s').parse().unwrap()
    };
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        let pod = pod(&objects);
        let env = environment(gate_of(pod));
        let application = array(&pod["containers"]).iter().find(|c| c["name"] == "application").unwrap();
        let stop = &application["lifecycle"]["preStop"];
        let (delay, drain) =
            (seconds(&env, "HOOKGATE_SHUTDOWN_DELAY"), seconds(&env, "HOOKGATE_SHUTDOWN_TIMEOUT"));
        let sleep = if pod["initContainers"].is_array() {
            assert_eq!(delay, 0, "{path}: a native sidecar is stopped after the application");
            stop["sleep"]["seconds"].as_u64().unwrap()
        } else {
            assert_eq!(stop["exec"]["command"][0], "sleep");
            let sleep = text(&stop["exec"]["command"][1]).parse().unwrap();
            assert!(sleep > delay + 5, "{path}: both are told to stop at once");
            sleep
        };
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() >= sleep + delay + drain, "{path}");
    }
}

/// The limit follows from what `check` tells of the settings.
#[test]
fn memory_suffices_for_what_the_settings_allow() {
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        let limit = text(&gate_of(pod(&objects))["resources"]["limits"]["memory"]);
        let limit: u64 = limit.strip_suffix("Mi").unwrap().parse().unwrap();
        let Some(mounted) = Mounted::new(path, pod(&objects), &objects) else { continue };
        let told = check(hookgate(&["check", "-o", "json"]).envs(mounted.environment));
        let needed = told["memory"]["most"].as_u64().unwrap().div_ceil(1 << 20);
        // With a shared store nothing is remembered in the process.
        let spare = if path == "overlays/shared-store" { 128 } else { 64 };
        assert!((needed..needed + spare).contains(&limit), "{path}: {limit} MiB for {needed} MiB");
    }
}

#[test]
fn traffic_reaches_the_gate_and_nothing_else() {
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        let of_kind = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind);
        let ports: BTreeSet<_> = array(&gate_of(pod(&objects))["ports"])
            .iter()
            .map(|port| port["containerPort"].as_u64().unwrap())
            .collect();
        for service in of_kind("Service") {
            for port in array(&service["spec"]["ports"]) {
                // A number: not every cluster finds a sidecar's port by name.
                let target = port["targetPort"].as_u64().unwrap();
                assert!(ports.contains(&target) && target != 17090, "{path}: {port}");
            }
        }
        for policy in of_kind("NetworkPolicy") {
            let rules = array(&policy["spec"]["ingress"]);
            let open: Vec<_> = rules.iter().flat_map(|rule| array(&rule["ports"])).collect();
            assert!(open.iter().all(|port| ports.contains(&port["port"].as_u64().unwrap())), "{path}");
            for rule in rules.iter().filter(|rule| rule["from"].is_null()) {
                assert_eq!(rule["ports"][0]["port"], 17443, "{path}: only TLS is open to all");
            }
        }
        for monitor in of_kind("PodMonitor") {
            assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["portNumber"], 17090);
        }
        if path == "overlays/ingress" {
            assert!(of_kind("NetworkPolicy").count() == 1 && of_kind("PodMonitor").count() == 1);
        }
    }
}

pub fn environment(container: &Value) -> Vec<(String, String)> {
    let entry = |entry: &Value| (text(&entry["name"]).to_owned(), text(&entry["value"]).to_owned());
    array(&container["env"]).iter().map(entry).collect()
}

/// What a pod mounts, laid out in a directory: the volumes' files under their mount paths.
pub struct Mounted {
    dir: Dir,
    pub environment: Vec<(String, String)>,
}

impl Mounted {
    pub fn new(path: &str, pod: &Value, objects: &[Value]) -> Option<Self> {
        let dir = Dir::new();
        let gate = gate_of(pod);
        let root = dir.path().to_str().unwrap().to_owned();
        for mount in array(&gate["volumeMounts"]) {
            let volumes = array(&pod["volumes"]);
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let place = dir.path().join(text(&mount["mountPath"]).trim_start_matches('/'));
            fs::create_dir_all(&place).unwrap();
            if volume["configMap"].is_object() {
                let named = |object: &&Value| {
                    object["kind"] == "ConfigMap" && object["metadata"]["name"] == volume["configMap"]["name"]
                };
                let files = objects.iter().find(named).unwrap_or_else(|| panic!("{path}: {volume}"));
                for (name, content) in files["data"].as_object().unwrap() {
                    let content = text(content).replace("/etc/hookgate", &format!("{root}/etc/hookgate"));
                    fs::write(place.join(name), content).unwrap();
                }
            } else if volume["secret"]["secretName"] == "webhook-tls" {
                let authority = Authority::new()?;
                let pair = authority.issue("hooks", 30);
                fs::copy(pair.cert, place.join("tls.crt")).unwrap();
                fs::copy(pair.key, place.join("tls.key")).unwrap();
            } else if volume["secret"]["secretName"] == "webhook-store" {
                fs::write(place.join("password"), SECRET).unwrap();
                fs::copy("tests/config/authority.pem", place.join("ca.pem")).unwrap();
            } else {
                for name in ["current", "github", "partner", "stripe"] {
                    fs::write(place.join(name), SECRET).unwrap();
                }
            }
        }
        let environment = environment(gate)
            .into_iter()
            .map(|(name, value)| (name, value.replace("/etc/hookgate", &format!("{root}/etc/hookgate"))))
            .collect();
        Some(Mounted { dir, environment })
    }
}

pub fn check(command: &mut Command) -> Value {
    let done = run(command);
    serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}{}", done.out, done.err))
}

/// The flags that the help lists, by their environment twins.
fn twins() -> BTreeSet<String> {
    let command = hookgate::cli::command();
    let args = command.find_subcommand("run").unwrap().get_arguments().filter_map(clap::Arg::get_env);
    args.map(|name| name.to_str().unwrap().to_owned()).collect()
}

#[test]
fn the_gate_takes_every_setting() {
    let known = twins();
    let mut pods = vec![("admission policy".to_owned(), injected(), Vec::new())];
    for path in RENDERED {
        let Some(objects) = render(path) else { return };
        pods.push((path.to_owned(), pod(&objects).clone(), objects));
    }
    for (path, pod, objects) in pods {
        let Some(mounted) = Mounted::new(&path, &pod, &objects) else { return };
        for (name, _) in &mounted.environment {
            assert!(known.contains(name), "{path}: {name} is no flag's twin");
        }
        assert!(gate_of(&pod)["args"].is_null(), "{path}: patches merge variables, but not arguments");
        let told = check(hookgate(&["check", "-o", "json"]).envs(mounted.environment));
        assert_eq!(told["valid"], true, "{path}: {told:#}");
    }
}

/// An application of one's own under the component: what comes out of kustomize, or what it says.
fn under_the_component(changes: &[(&str, &str)]) -> Option<Result<Vec<Value>, String>> {
    let kubectl = program("kubectl")?;
    let mut application = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      serviceAccountName: robot
      containers:
      - { name: agent, image: agent }
      - name: shop
        image: shop
        lifecycle: { preStop: { exec: { command: [sh, -c, \"deregister && sleep 15\"] } } }
---
apiVersion: v1
kind: Service
metadata: { name: shop }
spec:
  selector: { app: shop }
  ports:
  - { name: metrics, port: 9100 }
  - { name: http, port: 80, targetPort: 3000 }
"
    .to_owned();
    for (from, to) in changes {
        assert!(application.contains(from), "{from}");
        application = application.replace(from, to);
    }
    let dir = Dir::new();
    fs::write(dir.join("application.yaml"), application).unwrap();
    // kustomize takes no absolute path.
    let component = fs::canonicalize("k8s/components/sidecar").unwrap();
    let up = "../".repeat(dir.path().canonicalize().unwrap().components().count() - 1);
    fs::write(
        dir.join("kustomization.yaml"),
        format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [application.yaml]\ncomponents: [{up}{}]\n",
            component.display().to_string().trim_start_matches('/')
        ),
    )
    .unwrap();
    let done = run(Command::new(kubectl).arg("kustomize").arg(dir.path()));
    Some(if done.code == Some(0) { Ok(kube::parse(&done.out)) } else { Err(done.err) })
}

/// What went wrong without a word when the component patched by position and by label.
#[test]
fn the_component_does_right_or_fails() {
    let Some(rendered) = under_the_component(&[]) else { return };
    let objects = rendered.unwrap();
    let service = objects.iter().find(|object| object["kind"] == "Service").unwrap();
    let targets: Vec<_> =
        array(&service["spec"]["ports"]).iter().map(|port| port["targetPort"].clone()).collect();
    assert_eq!(targets, [Value::Null, 17080.into()], "the port named http, wherever it stands");
    let pod = pod(&objects);
    assert!(
        environment(gate_of(pod)).contains(&("HOOKGATE_UPSTREAM".into(), "http://127.0.0.1:3000".into()))
    );
    assert_eq!(array(&pod["initContainers"]).len(), 1, "without a label of the user's");
    assert_eq!(pod["containers"][1]["lifecycle"]["preStop"]["exec"]["command"][2], "deregister && sleep 15");
    assert!(pod["containers"][0]["lifecycle"].is_null(), "the agent is left alone");
    for key in ["automountServiceAccountToken", "enableServiceLinks"] {
        assert!(pod[key].is_null(), "{key} is the pod's own");
    }
    for (what, changes, expected) in [
        (
            "no port of that name",
            [("name: http", "name: web")],
            "fieldPath `spec.ports.[name=http].targetPort` is missing",
        ),
        (
            "no targetPort",
            [(", targetPort: 3000", "")],
            "fieldPath `spec.ports.[name=http].targetPort` is missing",
        ),
        ("another kind", [("kind: Deployment", "kind: StatefulSet")], "nothing selected by Deployment"),
        ("no Service", [("kind: Service", "kind: Endpoints")], "nothing selected by Service"),
        (
            "two Services",
            [(
                "kind: Service\n",
                "kind: Service\nmetadata: { name: other }\nspec: { ports: [{ name: http, port: 80, targetPort: 3000 }] }\n---\napiVersion: v1\nkind: Service\n",
            )],
            "multiple matches for selector Service",
        ),
    ] {
        let failed = under_the_component(&changes).unwrap().expect_err(what);
        assert!(failed.contains(expected), "{what}: {failed}");
    }
    // A name cannot become the port of a URL: the gate does not start.
    let named = under_the_component(&[("targetPort: 3000", "targetPort: web")]).unwrap().unwrap();
    let env = environment(gate_of(self::pod(&named)));
    let told = run(hookgate(&["check", "--provider", "github", "--insecure-allow-http"]).envs(env));
    assert!(told.code != Some(0) && told.err.contains("is no upstream"), "{}", told.err);
}

/// The overlay for an ingress, played: the sample application as it is written, the gate as it is
/// told, and an event.
#[test]
fn the_sample_application_gets_its_event() {
    let Some(objects) = render("overlays/ingress") else { return };
    let pod = pod(&objects);
    let Some(mounted) = Mounted::new("overlays/ingress", pod, &objects) else { return };
    let Some(python) = program("python3") else {
        eprintln!("SKIPPED: python3 is not on PATH");
        return;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut application = Ended(
        Command::new(python)
            .arg("k8s/application/app.py")
            .env("PORT", port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    until("the application", || std::net::TcpStream::connect(address).is_ok());

    let mut command = hookgate(&["run"]);
    command
        .envs(mounted.environment)
        .env("HOOKGATE_UPSTREAM", format!("http://{address}"))
        .env("HOOKGATE_TRUSTED_PROXY", "127.0.0.1/32") // we are the ingress
        .env("HOOKGATE_LISTEN", "127.0.0.1:0")
        .env("HOOKGATE_OPS_LISTEN", "127.0.0.1:0");
    let gate = Gate::before(&App::ok()).start_as(command);
    let event = Signer::github().event().with("X-Forwarded-For", "192.0.2.1");
    assert_eq!(gate.send(&event).status, 403, "over plain HTTP");
    let answer = gate.send(&event.with("X-Forwarded-Proto", "https"));
    assert_eq!(answer.said(), (200, "thank you".to_owned()));

    let mut told = String::new();
    BufReader::new(application.0.stdout.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.starts_with("/webhooks ") && told.contains("'Hookgate-Verdict': 'accepted'"), "{told}");
    drop(mounted.dir);
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
