//! Ways around the gate that the manifests show. What certainly is one is an error; what may be one is told.

use super::find::{self, Target};
use super::objects::{Manifests, Place, pairs, selects};
use super::yaml::Node;
use super::{Judged, Mount, MountKind, Request};

pub struct Way {
    pub certain: bool,
    pub text: String,
}

fn certain(text: String) -> Way {
    Way { certain: true, text }
}

fn possible(text: String) -> Way {
    Way { certain: false, text }
}

pub fn look(
    manifests: &Manifests,
    request: &Request,
    workload: Place,
    target: &Target,
    judged: &Judged,
    mounts: &[Mount],
) -> Vec<Way> {
    let mut ways = Vec::new();
    let pod = manifests.pod_spec(workload).expect("it has containers");
    if pod.get("hostNetwork").is_some_and(Node::is_true) {
        ways.push(certain(format!(
            "hostNetwork: whoever reaches the node reaches the application's port {}: take hostNetwork out",
            target.port
        )));
    }
    for container in manifests.containers(workload) {
        host_ports(
            container,
            find::name_of(&manifests.containers(workload)[target.container]),
            target.port,
            &mut ways,
        );
    }
    services(manifests, workload, target, &mut ways);
    policies(manifests, request, workload, target, judged, &mut ways);
    if request.network_policy.is_none() {
        binding(&manifests.containers(workload)[target.container], target.port, &mut ways);
    }
    upstream(target, judged, &mut ways);
    replicas(manifests, workload, judged, &mut ways);
    if mounts.iter().any(|mount| matches!(mount.kind, MountKind::Claim | MountKind::Volume))
        && pod.at(&["securityContext", "fsGroup"]).is_none()
    {
        ways.push(possible(
            "the pod has no securityContext.fsGroup: whether user 65532 may write on the gate's volume depends on the volume; fsGroup: 65532 lets it".to_owned(),
        ));
    }
    ways
}

fn host_ports(container: &Node, application: &str, port: u16, ways: &mut Vec<Way>) {
    let name = find::name_of(container);
    for declared in container.list_at(&["ports"]) {
        let Some(host) = declared.text_at(&["hostPort"]).filter(|host| *host != "0") else { continue };
        let number = declared.get("containerPort").and_then(Node::as_port);
        if number == Some(port) {
            ways.push(certain(format!(
                "hostPort {host} of container {name} leads from the node to the application's port {port}: take it out"
            )));
        } else if name == application {
            let number = number.map_or_else(String::new, |number| format!(" {number}"));
            ways.push(possible(format!(
                "hostPort {host} leads from the node to another port{number} of container {name}: make sure that it takes no webhooks"
            )));
        }
    }
}

/// Other ports, of these Services or of others, that lead to the application.
fn services(manifests: &Manifests, workload: Place, target: &Target, ways: &mut Vec<Way>) {
    let application = find::name_of(&manifests.containers(workload)[target.container]);
    for taken in &target.taken {
        let service = manifests.get(taken.service);
        let port = &service.list_at(&["spec", "ports"])[taken.port];
        let told =
            format!("port {} of {}", find::port_name(manifests, *taken), manifests.short(taken.service));
        if service.text_at(&["spec", "clusterIP"]) == Some("None") {
            ways.push(possible(format!(
                "{} is headless: its clients get the pods' addresses and choose the port themselves, so they may ask the application's {}",
                manifests.short(taken.service),
                target.port
            )));
        }
        if let Some(protocol) =
            port.text_at(&["appProtocol"]).filter(|said| !matches!(*said, "http" | "HTTP"))
        {
            ways.push(possible(format!(
                "{told} says appProtocol: {protocol}, and the gate speaks HTTP/1.1: change it to http"
            )));
        }
    }
    for other in find::others(manifests, workload, target) {
        let told =
            format!("port {} of {}", find::port_name(manifests, other), manifests.short(other.service));
        match find::resolve(manifests, workload, other) {
            Ok((port, _)) if port == target.port => ways.push(certain(format!(
                "{told} leads to the application's port {port}, around the gate: take it as well (--service, --service-port), or take it out"
            ))),
            // Another container answers there, such as an exporter.
            Ok((_, Some(owner))) if owner != application => {}
            Ok((port, _)) => ways.push(possible(format!(
                "{told} still leads to the application, to its port {port}: make sure that it takes no webhooks"
            ))),
            // It leads nowhere, or is not TCP.
            Err(_) => {}
        }
    }
}

/// What other policies let in, and what they keep out.
fn policies(
    manifests: &Manifests,
    request: &Request,
    workload: Place,
    target: &Target,
    judged: &Judged,
    ways: &mut Vec<Way>,
) {
    let labels = manifests.pod_labels(workload);
    let mut any = false;
    let mut gate_is_open = false;
    for place in manifests.of_kind("NetworkPolicy") {
        let policy = manifests.get(place);
        let types = policy.list_at(&["spec", "policyTypes"]);
        let ingress = types.is_empty() || types.iter().any(|kind| kind.as_text() == Some("Ingress"));
        let chosen = policy.at(&["spec", "podSelector"]);
        let all = chosen.is_none_or(|chosen| chosen.entries().is_empty());
        let wanted = chosen.and_then(|chosen| chosen.get("matchLabels")).map_or_else(Vec::new, pairs);
        let has_expressions = chosen.is_some_and(|chosen| chosen.get("matchExpressions").is_some());
        if !ingress
            || !manifests.together(place, workload)
            || !(all || has_expressions || selects(&wanted, &labels))
        {
            continue;
        }
        any = true;
        let rules = policy.list_at(&["spec", "ingress"]);
        let opens = |number: u16| rules.iter().any(|rule| opens(rule, manifests, workload, number));
        gate_is_open |= opens(judged.traffic);
        if opens(target.port) {
            ways.push(possible(format!(
                "{} lets the application's port {} be reached: let it open the gate's port {} instead",
                manifests.short(place),
                target.port,
                judged.traffic
            )));
        }
    }
    if any && !gate_is_open && request.network_policy.is_none() {
        ways.push(possible(format!(
            "a NetworkPolicy selects its pods, and none lets the gate's port {} be reached: open it there, or add one with --network-policy",
            judged.traffic
        )));
    }
}

fn opens(rule: &Node, manifests: &Manifests, workload: Place, number: u16) -> bool {
    let ports = rule.list_at(&["ports"]);
    ports.is_empty()
        || ports.iter().any(|port| match port.get("port") {
            None => true,
            Some(value) => match (value.as_port(), port.get("endPort").and_then(Node::as_port)) {
                (Some(first), Some(last)) => (first..=last).contains(&number),
                (Some(only), None) => only == number,
                (None, _) => named_port(manifests, workload, value.as_text()) == Some(number),
            },
        })
}

fn named_port(manifests: &Manifests, workload: Place, name: Option<&str>) -> Option<u16> {
    let ports = manifests.containers(workload).iter().flat_map(|container| container.list_at(&["ports"]));
    let port = ports.into_iter().find(|port| port.text_at(&["name"]) == name)?;
    port.get("containerPort")?.as_port()
}

/// What shows that the application can be reached from other pods.
fn binding(application: &Node, port: u16, ways: &mut Vec<Way>) {
    let name = find::name_of(application);
    let remedy =
        "other pods reach it around the gate: bind it to 127.0.0.1, or close its port with --network-policy";
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for kind in ["httpGet", "tcpSocket", "grpc"] {
            let Some(asked) = application.at(&[probe, kind]) else { continue };
            let is_port = asked.get("port").is_some_and(|asked| {
                asked.as_port() == Some(port)
                    || application.list_at(&["ports"]).iter().any(|declared| {
                        declared.text_at(&["name"]) == asked.as_text()
                            && declared.get("containerPort").and_then(Node::as_port) == Some(port)
                    })
            });
            if is_port {
                ways.push(possible(format!(
                    "container {name} does not bind to loopback, as its {probe} shows ({kind} from the node): {remedy} (bound to loopback, it needs an exec probe)"
                )));
                return;
            }
        }
    }
    let words = ["command", "args"].iter().flat_map(|list| application.list_at(&[list]));
    let values = application.list_at(&["env"]).iter().filter_map(|variable| variable.get("value"));
    for word in words.chain(values).filter_map(Node::as_text) {
        let open = word.contains("0.0.0.0") || word.contains("[::]") || matches!(word, "::" | "*");
        if open {
            let shown: String = word.chars().take(60).collect();
            ways.push(possible(format!(
                "container {name} does not bind to loopback, as {shown:?} shows: {remedy}"
            )));
            return;
        }
    }
}

/// Where the gate sends events, if that was said and is not where the Service led.
fn upstream(target: &Target, judged: &Judged, ways: &mut Vec<Way>) {
    let expected = format!("127.0.0.1:{}", target.port);
    let local = judged.upstream.contains(&expected)
        || judged.upstream.contains(&format!("localhost:{}", target.port));
    if !local && !judged.upstream.starts_with("unix:") {
        ways.push(possible(format!(
            "upstream is {}, and the Service led to port {}: is the application there too?",
            judged.upstream, target.port
        )));
    }
}

/// Several gates that each remember by themselves.
fn replicas(manifests: &Manifests, workload: Place, judged: &Judged, ways: &mut Vec<Way>) {
    let count =
        manifests.get(workload).text_at(&["spec", "replicas"]).and_then(|count| count.parse::<u32>().ok());
    let scalers = manifests.of_kind("HorizontalPodAutoscaler").into_iter();
    let mut scalers = scalers.filter(|scaler| {
        let target = |key| manifests.get(*scaler).text_at(&["spec", "scaleTargetRef", key]);
        target("name") == Some(manifests.plain_name(workload))
            && target("kind") == Some(manifests.kind(workload))
    });
    let scaled = scalers.next().map(|scaler| format!("{} scales it", manifests.short(scaler)));
    let several =
        scaled.or_else(|| count.filter(|count| *count > 1).map(|count| format!("it has {count} replicas")));
    if let Some(several) = several.filter(|_| !judged.shares) {
        ways.push(possible(format!(
            "{several}, and each gate remembers by itself what it has delivered: a copy that reaches another one is delivered again; let them share with --replay-store"
        )));
    }
}
