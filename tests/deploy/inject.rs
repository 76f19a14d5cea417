//! `hookgate inject`: the manifests of foreign charts get the gate and keep everything else; what is ambiguous,
//! missing or leads around the gate is told, and then nothing is printed.
//!
//! The judges are others: `PyYAML`, which reads YAML 1.1 as Kubernetes does, compares what came out with what went
//! in (inject/compare.py); every supported Kubernetes judges the objects; `check` the settings.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use hookgate::inject::yaml::{Node, Quotes, parse};
use serde_json::Value;

use crate::kube::{self, array, text};
use crate::kubernetes::{check, environment, faults, gate_of};
use crate::rng::Rng;
use crate::support::gate::{Run, hookgate, program, run};
use crate::support::sender::SECRET;
use crate::support::{App, Dir, Gate, Signer};

const IMAGE: &str = "registry.example/hookgate:0.1.0";

/// Written anew after what public charts render: the starter chart of Helm; a `StatefulSet` with a headless Service,
/// an exporter and a policy; many applications in a list, annotated; JSON.
const CHARTS: [(&str, &[&str], &[&str]); 4] = [
    (
        "starter.yaml",
        &["--provider", "github", "--trusted-proxy", "10.244.0.0/16"],
        &["container parcel-desk does not bind to loopback, as its livenessProbe shows"],
    ),
    (
        "ledger.yaml",
        &[
            "--container",
            "ledger",
            "--service-port",
            "tcp-web",
            "--provider",
            "github",
            "--trusted-proxy",
            "10.244.0.0/16",
        ],
        &[
            "NetworkPolicy accounts/books-ledger lets the application's port 8080 be reached",
            "none lets the gate's port 17080 be reached",
            "port tcp-ring of Service accounts/books-ledger-headless still leads to the application, to its port 7000",
        ],
    ),
    (
        "bazaar.yaml",
        &[],
        &["port prometheus of Service payments still leads to the application, to its port 9465"],
    ),
    ("jsonnet.json", &["--provider", "github", "--insecure-allow-http"], &[]),
];

fn chart(name: &str) -> String {
    format!("tests/deploy/inject/charts/{name}")
}

fn inject(args: &[&str]) -> Run {
    run(hookgate(&["inject", "--image", IMAGE]).args(args))
}

/// As at the end of a pipe.
fn piped(args: &[&str], manifests: &str) -> Run {
    let mut command = hookgate(&["inject"]);
    let child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// What differs but for the gate, as `PyYAML` sees it.
fn differences(before: &str, after: &str, how: &[&str]) -> String {
    if run(Command::new("python3").args(["-c", "import yaml; yaml.CSafeLoader"])).code != Some(0) {
        eprintln!("SKIPPED: python3 with PyYAML is not here");
        return String::new();
    }
    let dir = Dir::new();
    let paths = [dir.join("before.yaml"), dir.join("after.yaml")];
    fs::write(&paths[0], before).unwrap();
    fs::write(&paths[1], after).unwrap();
    let judged = run(Command::new("python3").arg("tests/deploy/inject/compare.py").args(&paths).args(how));
    assert_eq!(judged.code, Some(0), "{}", judged.err);
    judged.out
}

fn objects(manifests: &str) -> Vec<Value> {
    let documents = kube::parse(manifests).into_iter();
    let all = documents.flat_map(|document| match document["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![document],
    });
    all.filter(Value::is_object).collect()
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// The pod that has the gate.
fn gated(objects: &[Value]) -> &Value {
    let pods = objects.iter().map(|object| &object["spec"]["template"]["spec"]);
    let has_gate = |pod: &&Value| {
        ["initContainers", "containers"]
            .iter()
            .any(|key| array(&pod[key]).iter().any(|c| c["name"] == "hookgate"))
    };
    pods.into_iter().find(has_gate).expect("a gate")
}

#[test]
fn every_chart_gets_the_gate_and_keeps_everything_else() {
    let mut all = Vec::new();
    for (name, args, warnings) in CHARTS {
        for more in [&[][..], &["--legacy"], &["--network-policy=edge", "--pod-monitor=watch"]] {
            let told = format!("{name} {more:?}");
            let before = fs::read_to_string(chart(name)).unwrap();
            let args = [args, more].concat();
            let done = inject(&[&args[..], &[&chart(name)]].concat());
            assert_eq!(done.code, Some(0), "{told}: {}", done.err);
            for warning in warnings.iter().filter(|_| more.is_empty()) {
                assert!(done.err.contains(warning), "{told}: {warning}\n{}", done.err);
            }
            assert_eq!(differences(&before, &done.out, &[]), "", "{told}");

            let again = piped(&[&["--image", IMAGE], &args[..]].concat(), &done.out);
            assert_eq!((again.code, &again.out), (Some(0), &done.out), "{told}: once more changes nothing");
            let out = piped(&["--uninject"], &done.out);
            assert_eq!(out.code, Some(0), "{told}: {}", out.err);
            assert_eq!(differences(&before, &out.out, &["untouched"]), "", "{told}: taken out");

            let objects = objects(&done.out);
            let environment = environment(gate_of(gated(&objects)));
            let dir = Dir::new();
            let here =
                environment.iter().map(|(name, value)| match value.strip_prefix("/etc/hookgate/secrets/") {
                    Some(file) => {
                        fs::write(dir.join(file), SECRET).unwrap();
                        (name, dir.join(file).display().to_string())
                    }
                    None => (name, value.clone()),
                });
            let judged = check(hookgate(&["check", "-o", "json"]).envs(here));
            assert_eq!(judged["valid"], true, "{told}: {judged:#}");
            all.extend(objects);
        }
    }
    if let Some(faults) = faults(&all) {
        assert_eq!(faults, "");
    }
}

#[test]
fn a_document_without_a_change_goes_out_byte_for_byte() {
    let before = fs::read_to_string(chart("starter.yaml")).unwrap();
    let done = piped(&["--image", IMAGE, "--provider", "github", "--insecure-allow-http"], &before);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let documents = |text: &str| text.split("---\n").map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (documents(&before), documents(&done.out));
    assert_eq!(before.len(), after.len());
    for (n, (before, after)) in before.iter().zip(&after).enumerate() {
        let is_changed = matches!(n, 2 | 3);
        assert_eq!(before != after, is_changed, "document {n}");
        assert_eq!(before.lines().next(), after.lines().next(), "its comment on where it comes from stays");
    }
}

/// What Kubernetes' YAML 1.1 reads in its own way comes out as it went in, however it was written.
#[test]
fn every_way_to_write_a_value_keeps_its_meaning() {
    let odd = &fs::read_to_string("tests/deploy/inject/odd.yaml").unwrap();
    let done = piped(&["--image", IMAGE, "--provider", "github", "--insecure-allow-http"], odd);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(differences(odd, &done.out, &[]), "");
    let again = piped(&["--image", IMAGE, "--provider", "github", "--insecure-allow-http"], &done.out);
    assert_eq!(again.out, done.out);
}

/// Whatever is read, is written so that it reads the same: manifests changed at random, many times.
#[test]
fn what_can_be_read_is_written_so_that_it_reads_the_same() {
    let texts = ["odd.yaml", "charts/ledger.yaml", "charts/bazaar.yaml", "charts/jsonnet.json"];
    let texts = texts.map(|name| fs::read_to_string(format!("tests/deploy/inject/{name}")).unwrap());
    let pieces: Vec<char> = "\n\n  :-#'\"|>&*!%@`{}[],?~\\\t\u{85}\u{2028}0ayNé".chars().collect();
    let mut rng = Rng::new(7);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..4000 {
        let mut text: Vec<char> = texts[rng.below(texts.len())].chars().collect();
        for _ in 0..=rng.below(4) {
            let at = rng.below(text.len());
            match rng.below(3) {
                0 => _ = text.remove(at),
                1 => text.insert(at, pieces[rng.below(pieces.len())]),
                _ => text[at] = pieces[rng.below(pieces.len())],
            }
        }
        let text: String = text.into_iter().collect();
        let Ok(documents) = parse(&text) else {
            refused += 1;
            continue;
        };
        for document in documents.iter().filter(|document| !document.root.is_null()) {
            let written = document.rewritten();
            let again = parse(&written).unwrap_or_else(|fault| panic!("{fault:?}\n{written}"));
            assert_eq!(again.len(), 1, "{written}");
            assert!(same(&again[0].root, &document.root), "{text}\nbecame\n{written}");
            read += 1;
        }
    }
    assert!(read > 1000 && refused > 200, "{read} read, {refused} refused");
}

/// Text between quotes may get other quotes; what had none keeps it that way, if it fits on a line.
fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Scalar { text, quotes, tag }, Node::Scalar { text: other, quotes: others, tag: its }) => {
            let plain = |quotes: &Quotes| *quotes == Quotes::None && !text.contains('\n');
            (text, tag, plain(quotes)) == (other, its, plain(others))
        }
        (Node::List(items), Node::List(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(a, b)| same(a, b))
        }
        (Node::Map(entries), Node::Map(others)) => {
            let pairs = || entries.iter().zip(others);
            entries.len() == others.len() && pairs().all(|((key, a), (its, b))| same(key, its) && same(a, b))
        }
        _ => false,
    }
}

/// An application with two Services' ports, as simple as they come; tests change a line of it.
const SIMPLE: &str = r"apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
  annotations: {}
spec:
  selector: { matchLabels: { app: app } }
  template:
    metadata:
      labels: { app: app }
    spec:
      containers:
      - name: app
        image: app
        ports: [{ name: web, containerPort: 3000 }, { name: metrics, containerPort: 9100 }]
---
apiVersion: v1
kind: Service
metadata: { name: app }
spec:
  selector: { app: app }
  ports:
  - { name: http, port: 80, targetPort: web }
";
const USUAL: [&str; 6] = ["--image", IMAGE, "--provider", "github", "--trusted-proxy", "10.0.0.0/8"];

fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(SIMPLE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

const SECOND_CONTAINER: (&str, &str) =
    ("      - name: app\n", "      - { name: agent, image: agent }\n      - name: app\n");
const SECOND_PORT: (&str, &str) =
    ("  ports:\n", "  ports:\n  - { name: metrics, port: 9100, targetPort: metrics }\n");
const SAME_PORT: (&str, &str) = ("  ports:\n", "  ports:\n  - { name: old, port: 3000 }\n");

fn second_service(selector: &str, port: &str) -> String {
    format!(
        "{SIMPLE}---\napiVersion: v1\nkind: Service\nmetadata: {{ name: second }}\nspec: {{ selector: {selector}, ports: [{port}] }}\n"
    )
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_is_ambiguous_missing_or_leads_around_is_an_error_and_nothing_is_printed() {
    let other = SIMPLE.replace("name: app\n", "name: other\n").replace("app: app", "app: other");
    let both = format!("{SIMPLE}---\n{other}");
    let shared = format!(
        "{SIMPLE}---\n{}",
        SIMPLE.replace("name: app\n", "name: canary\n").split("---").next().unwrap()
    );
    let cases: Vec<(&str, String, &[&str], &str)> = vec![
        ("no manifest", String::new(), &[], "there is no Deployment, StatefulSet or other workload"),
        ("no YAML", "a: [".into(), &[], "stdin, line 1: no YAML"),
        ("no object", "a: b\n".into(), &[], "stdin, document 1 (line 1): it has no kind"),
        (
            "a key twice",
            with(&[("  name: app\n", "  name: app\n  name: b\n")]),
            &[],
            "stdin, line 5: no YAML: the key \"name\" stands there twice",
        ),
        (
            "two workloads",
            both.clone(),
            &[],
            "there are several workloads (Deployment app, Deployment other): name one with --workload Deployment/app",
        ),
        (
            "no such workload",
            both.clone(),
            &["--workload", "ap"],
            "--workload ap: there is none of that name; there are: Deployment app, Deployment other",
        ),
        (
            "one name twice",
            format!("{SIMPLE}---\n{SIMPLE}"),
            &["--workload", "app"],
            "that is the name of several (stdin, document 1, Deployment app; stdin, document 3, Deployment app)",
        ),
        (
            "two containers",
            with(&[SECOND_CONTAINER]),
            &[],
            "stdin, document 1, Deployment app: it has several containers (agent, app): name the application's with --container, such as app",
        ),
        (
            "no such container",
            SIMPLE.into(),
            &["--container", "nginx"],
            "there is no container nginx; there are: app",
        ),
        (
            "the wrong container",
            with(&[SECOND_CONTAINER]),
            &["--container", "agent"],
            "port http of Service app leads to container app, not to agent",
        ),
        (
            "two ports",
            with(&[SECOND_PORT]),
            &[],
            "Service app has several ports (metrics 9100, http 80): name the one that takes the webhooks with --service-port",
        ),
        (
            "no such port",
            SIMPLE.into(),
            &["--service-port", "https"],
            "Service app has no port https; it has: http 80",
        ),
        (
            "no Service",
            with(&[("  selector: { app: app }", "  selector: { app: else }")]),
            &[],
            "no Service leads to it: give the Service's manifest too; there are: app",
        ),
        ("no such Service", SIMPLE.into(), &["--service", "web"], "there is no Service web; there are: app"),
        (
            "two Services",
            second_service("{ app: app }", "{ port: 81, targetPort: 9100 }"),
            &[],
            "several Services lead to it (app, second): name those whose traffic is meant with --service",
        ),
        (
            "an unknown port name",
            with(&[("targetPort: web", "targetPort: wob")]),
            &[],
            "its targetPort is wob, and no container has a port of that name",
        ),
        ("no TCP", with(&[("port: 80,", "port: 80, protocol: UDP,")]), &[], "its protocol is UDP"),
        (
            "another port of the Service to the same port",
            with(&[SAME_PORT]),
            &["--service-port", "http"],
            "port old of Service app leads to the application's port 3000, around the gate",
        ),
        (
            "another Service to the same port",
            second_service("{ app: app }", "{ port: 81, targetPort: web }"),
            &["--service", "app"],
            "port 81 of Service second leads to the application's port 3000, around the gate",
        ),
        (
            "hostPort",
            with(&[("containerPort: 3000 }", "containerPort: 3000, hostPort: 8080 }")]),
            &[],
            "hostPort 8080 of container app leads from the node to the application's port 3000",
        ),
        (
            "hostNetwork",
            with(&[("    spec:\n", "    spec:\n      hostNetwork: true\n")]),
            &[],
            "hostNetwork: whoever reaches the node reaches the application's port 3000",
        ),
        (
            "a Service to a workload without a gate",
            shared,
            &["--workload", "app"],
            "Service app also leads to Deployment canary, which gets no gate",
        ),
        (
            "a marked Service without a gate",
            format!(
                "{both}---\napiVersion: v1\nkind: Service\nmetadata: {{ name: lost, labels: {{ hookgate/inject: \"true\" }} }}\nspec: {{ selector: {{ app: nobody }}, ports: [{{ port: 80 }}] }}\n"
            ),
            &["--workload", "app"],
            "stdin, document 5, Service lost: is marked hookgate/inject and leads to no workload that gets the gate",
        ),
        (
            "a marked Job",
            format!(
                "{SIMPLE}---\napiVersion: batch/v1\nkind: Job\nmetadata: {{ name: j, labels: {{ hookgate/inject: \"true\" }} }}\n"
            ),
            &[],
            "Job j: is marked hookgate/inject, and has no pod that a Service leads to",
        ),
        (
            "named and marked false",
            with(&[("annotations: {}", "annotations: { hookgate/inject: \"false\" }")]),
            &["--workload", "app"],
            "is named, and marked hookgate/inject: \"false\"",
        ),
        (
            "a misspelt annotation",
            with(&[("annotations: {}", "annotations: { hookgate/providr: stripe }")]),
            &[],
            "hookgate/providr is no setting: did you mean hookgate/provider?",
        ),
        (
            "said twice",
            with(&[("annotations: {}", "annotations: { hookgate/provider: stripe }")]),
            &[],
            "hookgate/provider and --provider differ",
        ),
        (
            "a port of the gate's",
            with(&[("containerPort: 9100", "containerPort: 17090")]),
            &[],
            "app has the gate's port 17090: give the gate another with --ops-listen",
        ),
        (
            "another container of that name",
            with(&[("      - name: app\n", "      - { name: hookgate, image: x }\n      - name: app\n")]),
            &["--container", "app"],
            "it has a container hookgate that was not put in by inject",
        ),
        (
            "a value that is none",
            with(&[("annotations: {}", "annotations: { hookgate/allow-ip: github }")]),
            &[],
            "Deployment app: invalid value 'github' for '--allow-ip",
        ),
        (
            "a setting that cannot be",
            SIMPLE.into(),
            &["--replay-window", "10s"],
            "--replay-window: 10s is too short",
        ),
        (
            "a file that is not mounted",
            SIMPLE.into(),
            &["--secret-file", "/run/secrets/x"],
            "/run/secrets/x will not be there: nothing is mounted there: name a volume with --mount",
        ),
        (
            "a listener that nobody reaches",
            SIMPLE.into(),
            &["--listen", "127.0.0.1:17080"],
            "127.0.0.1:17080 cannot be reached from other pods",
        ),
        (
            "a volume that is not there",
            SIMPLE.into(),
            &["--mount", "volume/state:/var/lib/hookgate"],
            "the pod has no volume state to mount; there are: none",
        ),
        (
            "a key that the Secret has not",
            format!(
                "{SIMPLE}---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: webhook-secrets }}\nstringData: {{ gihub: x }}\n"
            ),
            &[],
            "/etc/hookgate/secrets/github will not be there: what is mounted at /etc/hookgate/secrets has gihub",
        ),
        (
            "a secret that is too short",
            format!(
                "{SIMPLE}---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: webhook-secrets }}\ndata: {{ github: c2hvcnQ= }}\n"
            ),
            &[],
            "fewer than 16",
        ),
        (
            "no such ConfigMap",
            SIMPLE.into(),
            &["--config-map", "gate"],
            "the ConfigMap gate is not among the manifests",
        ),
    ];
    for (what, manifests, args, expected) in cases {
        let done = piped(&[&USUAL[..], args].concat(), &manifests);
        assert_eq!((done.code, done.out.as_str()), (Some(78), ""), "{what}: {}", done.err);
        assert!(done.err.contains(expected), "{what}: {expected}\n{}", done.err);
    }
    let without_image = piped(&["--provider", "github"], SIMPLE);
    assert_eq!((without_image.code, without_image.out.as_str()), (Some(78), ""));
    assert!(without_image.err.contains("which image? Give --image"), "{}", without_image.err);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_may_lead_around_is_told_and_strict_makes_it_an_error() {
    let policy = |port: &str| {
        format!(
            "{SIMPLE}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p }}\nspec: {{ podSelector: {{ matchLabels: {{ app: app }} }}, ingress: [{{ ports: [{port}] }}] }}\n"
        )
    };
    let cases: Vec<(&str, String, &[&str], &str)> = vec![
        (
            "another port of the application",
            with(&[SECOND_PORT]),
            &["--service-port", "http"],
            "port metrics of Service app still leads to the application, to its port 9100",
        ),
        (
            "hostPort to another port",
            with(&[("containerPort: 9100 }", "containerPort: 9100, hostPort: 9100 }")]),
            &[],
            "hostPort 9100 leads from the node to another port 9100 of container app",
        ),
        (
            "a probe from the node",
            with(&[(
                "        image: app\n",
                "        image: app\n        readinessProbe: { httpGet: { path: /, port: web } }\n",
            )]),
            &[],
            "container app does not bind to loopback, as its readinessProbe shows",
        ),
        (
            "an argument",
            with(&[("        image: app\n", "        image: app\n        args: [\"--host=0.0.0.0\"]\n")]),
            &[],
            "container app does not bind to loopback, as \"--host=0.0.0.0\" shows",
        ),
        (
            "a variable",
            with(&[(
                "        image: app\n",
                "        image: app\n        env: [{ name: HOST, value: \"::\" }]\n",
            )]),
            &[],
            "container app does not bind to loopback, as \"::\" shows",
        ),
        (
            "a headless Service",
            with(&[(
                "  selector: { app: app }\n  ports",
                "  clusterIP: None\n  selector: { app: app }\n  ports",
            )]),
            &[],
            "Service app is headless",
        ),
        (
            "another protocol",
            with(&[("port: 80,", "port: 80, appProtocol: kubernetes.io/h2c,")]),
            &[],
            "says appProtocol: kubernetes.io/h2c, and the gate speaks HTTP/1.1",
        ),
        (
            "a policy that opens the application",
            policy("{ port: web }"),
            &[],
            "NetworkPolicy p lets the application's port 3000 be reached",
        ),
        (
            "a policy that keeps the gate closed",
            policy("{ port: 9100 }"),
            &[],
            "none lets the gate's port 17080 be reached",
        ),
        (
            "an upstream elsewhere",
            SIMPLE.into(),
            &["--upstream", "http://127.0.0.1:8080"],
            "upstream is http://127.0.0.1:8080, and the Service led to port 3000",
        ),
        (
            "several replicas",
            with(&[("spec:\n  selector: { matchLabels", "spec:\n  replicas: 3\n  selector: { matchLabels")]),
            &[],
            "it has 3 replicas, and each gate remembers by itself",
        ),
        (
            "a hook that does not wait",
            with(&[(
                "        image: app\n",
                "        image: app\n        lifecycle: { preStop: { exec: { command: [deregister] } } }\n",
            )]),
            &[],
            "the preStop of app is kept, and does not visibly wait",
        ),
    ];
    for (what, manifests, args, expected) in cases {
        let args = [&USUAL[..], args].concat();
        let done = piped(&args, &manifests);
        assert_eq!(done.code, Some(0), "{what}: {}", done.err);
        assert!(
            done.err.contains(&format!("warning: stdin, document 1, Deployment app: {expected}"))
                || done.err.contains(expected),
            "{what}: {expected}\n{}",
            done.err
        );
        let strict = piped(&[&args[..], &["--strict"]].concat(), &manifests);
        assert_eq!((strict.code, strict.out.as_str()), (Some(78), ""), "{what}");
    }
    let quiet = piped(&USUAL, SIMPLE);
    assert!(quiet.code == Some(0) && !quiet.err.contains("warning"), "{}", quiet.err);
    let closed =
        with(&[("        image: app\n", "        image: app\n        args: [\"--host=0.0.0.0\"]\n")]);
    let closed = piped(&[&USUAL[..], &["--network-policy=ingress-nginx", "--strict"]].concat(), &closed);
    assert_eq!(closed.code, Some(0), "a policy closes the application's port: {}", closed.err);
}

/// The newcomer's six mishaps with the components, tried with inject.
#[test]
fn what_failed_open_with_patches_is_done_right_or_fails() {
    // The first port of the Service is another one.
    let done = piped(&[&USUAL[..], &["--service-port", "http"]].concat(), &with(&[SECOND_PORT]));
    let service = of_kind(&objects(&done.out), "Service").clone();
    let targets: Vec<_> =
        array(&service["spec"]["ports"]).iter().map(|port| port["targetPort"].clone()).collect();
    assert_eq!(targets, ["metrics".into(), Value::from(17080)]);
    // No label anywhere: it is found, because it is the only one; both Deployment and Service.
    let done = piped(&USUAL, SIMPLE);
    let found = objects(&done.out);
    assert_eq!(array(&gated(&found)["initContainers"]).len(), 1);
    // A hook of the application's own stays.
    let own = "        image: app\n        lifecycle: { preStop: { exec: { command: [sh, -c, \"deregister && sleep 15\"] } } }\n";
    let done = piped(&USUAL, &with(&[("        image: app\n", own)]));
    let found = objects(&done.out);
    assert_eq!(
        gated(&found)["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2],
        "deregister && sleep 15"
    );
    // An agent comes first: the application gets the pause.
    let done = piped(&[&USUAL[..], &["--container", "app"]].concat(), &with(&[SECOND_CONTAINER]));
    let found = objects(&done.out);
    let containers = &gated(&found)["containers"];
    assert_eq!(
        (&containers[0]["lifecycle"], &containers[1]["lifecycle"]["preStop"]["sleep"]["seconds"]),
        (&Value::Null, &5.into())
    );
    // The pod's own settings stay.
    let own = "    spec:\n      serviceAccountName: robot\n      enableServiceLinks: true\n";
    let done = piped(&USUAL, &with(&[("    spec:\n", own)]));
    let found = objects(&done.out);
    let pod = gated(&found);
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]),
        (&Value::Null, &true.into())
    );
}

#[test]
fn the_end_of_the_pod_is_ordered_by_what_is_there() {
    let grace = |seconds: u32| {
        ("    spec:\n".to_owned(), format!("    spec:\n      terminationGracePeriodSeconds: {seconds}\n"))
    };
    let hook = |hook: &str| {
        (
            "        image: app\n".to_owned(),
            format!("        image: app\n        lifecycle: {{ preStop: {hook} }}\n"),
        )
    };
    let cases = [
        ("nothing said", vec![], false, "5", "0s", "20s"),
        ("nothing said, before 1.29", vec![], true, "15", "5s", "10s"),
        ("little time", vec![grace(6)], false, "3", "0s", "20s"),
        ("little time, before 1.29", vec![grace(12)], true, "6", "2s", "4s"),
        ("its own pause", vec![hook("{ sleep: { seconds: 12 } }")], true, "own", "4s", "8s"),
        (
            "its own command",
            vec![hook("{ exec: { command: [/bin/sleep, \"9\"] } }")],
            true,
            "own",
            "3s",
            "6s",
        ),
    ];
    for (what, changes, legacy, pause, delay, drain) in cases {
        let changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let legacy = if legacy { &["--legacy"][..] } else { &[] };
        let done = piped(&[&USUAL[..], legacy].concat(), &with(&changes));
        assert_eq!(done.code, Some(0), "{what}: {}", done.err);
        let objects = objects(&done.out);
        let pod = gated(&objects);
        let stop =
            &array(&pod["containers"]).iter().find(|c| c["name"] == "app").unwrap()["lifecycle"]["preStop"];
        let told = stop["sleep"]["seconds"].as_u64().map(|n| n.to_string());
        let told = told.or_else(|| Some(stop["exec"]["command"][1].as_str()?.to_owned())).unwrap();
        assert!(pause == "own" || told == pause, "{what}: {stop}");
        let environment = environment(gate_of(pod));
        let said = |name: &str| {
            environment.iter().find(|(known, _)| known == name).map_or("20s", |(_, value)| value)
        };
        assert_eq!(
            (said("HOOKGATE_SHUTDOWN_DELAY"), said("HOOKGATE_SHUTDOWN_TIMEOUT")),
            (delay, drain),
            "{what}"
        );
    }
}

/// Several routes in a file, state on a volume of its own, a certificate: what a real one may need.
#[test]
fn a_configuration_of_its_own_is_judged_and_mounted() {
    let dir = Dir::new();
    let config = dir.join("gate.yaml");
    fs::write(
        &config,
        "trusted_proxies: [10.0.0.0/8]\nroutes:\n- { name: github, path: /hooks/github, provider: github, secrets: [{ file: /etc/hookgate/secrets/github }] }\n- { name: stripe, path: /hooks/stripe, provider: stripe, secrets: [{ file: /etc/hookgate/secrets/stripe }] }\n",
    )
    .unwrap();
    let path = config.to_str().unwrap();
    let args = [
        "--image",
        IMAGE,
        "--config",
        path,
        "--mount",
        "secret/tls:/etc/hookgate/tls",
        "--listen-tls",
        "0.0.0.0:17443",
    ];
    let tls = ["--tls-cert-file", "/etc/hookgate/tls/tls.crt", "--tls-key-file", "/etc/hookgate/tls/tls.key"];
    let done = piped(&[&args[..], &tls].concat(), SIMPLE);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let found = objects(&done.out);
    let pod = gated(&found);
    let gate = gate_of(pod);
    let mounts: Vec<_> = array(&gate["volumeMounts"]).iter().map(|mount| text(&mount["mountPath"])).collect();
    assert_eq!(mounts, ["/etc/hookgate/secrets", "/etc/hookgate/tls", "/etc/hookgate/config"]);
    assert_eq!(of_kind(&found, "Service")["spec"]["ports"][0]["targetPort"], 17443);
    assert_eq!(
        gate["resources"]["limits"]["memory"], "480Mi",
        "two routes, and connections with TLS, which take more"
    );
    let map = of_kind(&found, "ConfigMap");
    assert_eq!(text(&map["data"]["hookgate.yaml"]), fs::read_to_string(&config).unwrap());
    assert_eq!(
        environment(gate)[0],
        ("HOOKGATE_CONFIG".to_owned(), "/etc/hookgate/config/hookgate.yaml".to_owned())
    );

    // The same from the cluster's side: the map is among the manifests, and a mistake in it names its line.
    let in_map = |text: &str| {
        let text = text.replace('\n', "\n    ");
        format!(
            "{SIMPLE}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: gate }}\ndata:\n  hookgate.yaml: |\n    {text}\n"
        )
    };
    let text = fs::read_to_string(&config).unwrap();
    let good = piped(&["--image", IMAGE, "--config-map", "gate"], &in_map(&text));
    assert_eq!(good.code, Some(0), "{}", good.err);
    let bad = piped(
        &["--image", IMAGE, "--config-map", "gate"],
        &in_map(&text.replace("provider: stripe", "provider: strype")),
    );
    assert_eq!((bad.code, bad.out.as_str()), (Some(78), ""));
    assert!(
        bad.err.contains("ConfigMap gate: hookgate.yaml:4:") && bad.err.contains("did you mean stripe?"),
        "{}",
        bad.err
    );
    let twice = piped(
        &["--image", IMAGE, "--config-map", "gate"],
        &in_map(&text.replace("name: stripe", "name: github")),
    );
    assert!(twice.code == Some(78) && twice.err.contains("names two routes"), "{}", twice.err);
}

#[test]
fn a_difference_shows_what_changes_and_nothing_else() {
    let args = ["--provider", "github", "--trusted-proxy", "10.0.0.0/8", "--diff"];
    let done = inject(&[&args[..], &[&chart("starter.yaml")]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let removed: Vec<_> =
        done.out.lines().filter(|line| line.starts_with('-') && !line.starts_with("---")).collect();
    assert_eq!(removed, ["-    targetPort: http"]);
    assert!(
        done.out.contains("\n+    targetPort: 17080\n") && done.out.contains("\n+      - name: hookgate\n"),
        "{}",
        done.out
    );
}

/// What comes out of inject, played: the gate as its container says, before an application, gets an event.
#[test]
fn the_injected_gate_takes_an_event() {
    let done = piped(&USUAL, SIMPLE);
    let objects = objects(&done.out);
    let app = App::ok();
    let dir = Dir::new();
    fs::write(dir.join("github"), SECRET).unwrap();
    let mut command = hookgate(&["run"]);
    command
        .envs(environment(gate_of(gated(&objects))))
        .env("HOOKGATE_SECRET_FILE", dir.join("github"))
        .env("HOOKGATE_UPSTREAM", app.url())
        .env("HOOKGATE_TRUSTED_PROXY", "127.0.0.1/32")
        .env("HOOKGATE_LISTEN", "127.0.0.1:0")
        .env("HOOKGATE_OPS_LISTEN", "127.0.0.1:0");
    let gate = Gate::before(&app).start_as(command);
    let event =
        Signer::github().event().with("X-Forwarded-For", "192.0.2.1").with("X-Forwarded-Proto", "https");
    assert_eq!(gate.send(&event).status, 200);
    assert_eq!(gate.send(&event.tampered()).status, 401);
}

/// A post-renderer of Helm is a program that is given all manifests and returns them.
#[test]
fn it_is_a_post_renderer_as_it_stands() {
    let Some(shell) = program("sh") else { return };
    let script = format!(
        "exec {} inject --image {IMAGE} --provider github --trusted-proxy 10.0.0.0/8 --network-policy=ingress-nginx",
        env!("CARGO_BIN_EXE_hookgate")
    );
    let mut child = Command::new(shell)
        .args(["-c", &script])
        .stdin(fs::File::open(chart("starter.yaml")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut out).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(objects(&out).len(), 6, "five of the chart's and the policy");
}
