//! What is put in: the container, its volumes, the pause before the application ends, the Services' ports, and
//! the objects that were asked for.

use std::path::PathBuf;

use super::find::{self, Target};
use super::objects::{Manifests, PREFIX, Place, pairs};
use super::undo::{MADE_FOR, OfService, OfWorkload, RECORD};
use super::yaml::Node;
use super::{Judged, Mount, MountKind, Plan, Request, Words};
use crate::config::pod::PodFiles;

pub const NAME: &str = "hookgate";
const SECRETS: &str = "/etc/hookgate/secrets";
const CONFIG: &str = "/etc/hookgate/config";
const CONFIG_FILE: &str = "hookgate.yaml";
/// What every example calls the Secret.
const SECRET_NAME: &str = "webhook-secrets";
/// Kubernetes' own, where a pod names none.
const GRACE: u64 = 30;

/// What is taken for granted, and said: a file of the Secret for the provider, if nothing names any.
pub fn complete(words: &mut Words, has_config: bool, notes: &mut Vec<String>) {
    if has_config || words.config_map.is_some() {
        return;
    }
    let said =
        |flag: &str| words.settings.iter().find(|(name, _)| name == flag).map(|(_, value)| value.clone());
    if said("secret-file").is_none() {
        let provider = said("provider").unwrap_or_else(|| "scalekit".to_owned());
        let secret = words.secret_name.as_deref().unwrap_or(SECRET_NAME);
        notes.push(format!(
            "the Secret {secret} must have the key {provider}, with the provider's signing secret: kubectl create secret generic {secret} --from-file={provider}=FILE"
        ));
        words.settings.push(("secret-file".to_owned(), format!("{SECRETS}/{provider}")));
    }
}

/// The volumes of the gate: those that are named, that of the secrets, and that of the configuration.
pub fn mounts(manifests: &Manifests, workload: Place, words: &Words, request: &Request) -> Vec<Mount> {
    let mut mounts = words.mounts.clone();
    let config = request.config.as_ref().map(|(_, text)| text.as_str());
    let names_secrets = words.settings.iter().map(|(_, value)| value.as_str()).chain(config);
    let covered = mounts.iter().any(|mount| mount.path == SECRETS);
    let wanted = words.secret_name.is_some() || words.config_map.is_some();
    if !covered && (wanted || names_secrets.into_iter().any(|text| text.contains(SECRETS))) {
        let name = words.secret_name.as_deref().unwrap_or(SECRET_NAME).to_owned();
        mounts.insert(0, Mount { kind: MountKind::Secret, name, path: SECRETS.to_owned() });
    }
    let map =
        words.config_map.clone().or_else(|| request.config.as_ref().map(|_| made_name(manifests, workload)));
    mounts.extend(map.map(|name| Mount { kind: MountKind::ConfigMap, name, path: CONFIG.to_owned() }));
    mounts
}

fn made_name(manifests: &Manifests, workload: Place) -> String {
    format!("{}-{NAME}", manifests.plain_name(workload))
}

/// The configuration file: its name for people, what it holds, and what it is called in its map.
pub fn configuration(
    manifests: &Manifests,
    words: &Words,
    request: &Request,
    workload: Place,
) -> Result<Option<(String, String)>, Vec<String>> {
    let Some(name) = &words.config_map else { return Ok(request.config.clone()) };
    if request.config.is_some() {
        return Err(vec!["--config and --config-map are both given: which is meant?".to_owned()]);
    }
    let maps = manifests.of_kind("ConfigMap");
    let found =
        maps.iter().find(|map| manifests.plain_name(**map) == name && manifests.together(**map, workload));
    let Some(found) = found else {
        let remedy =
            "what it holds cannot be judged: give its manifest too, or the file itself with --config";
        return Err(vec![format!("the ConfigMap {name} is not among the manifests: {remedy}")]);
    };
    match manifests.get(*found).text_at(&["data", CONFIG_FILE]) {
        Some(text) => Ok(Some((format!("ConfigMap {name}: {CONFIG_FILE}"), text.to_owned()))),
        None => {
            Err(vec![format!("the ConfigMap {name} has no key {CONFIG_FILE}: call the configuration so")])
        }
    }
}

/// What the gate will find at its mounts, as far as the manifests tell.
pub fn files(manifests: &Manifests, workload: Place, mounts: &[Mount]) -> PodFiles {
    let mut files = PodFiles::default();
    for mount in mounts {
        let folder = PathBuf::from(&mount.path);
        files.mounted.push(folder.clone());
        let kind = match mount.kind {
            MountKind::Secret => "Secret",
            MountKind::ConfigMap => "ConfigMap",
            MountKind::Claim | MountKind::Volume => continue,
        };
        let fits = |place: &Place| {
            manifests.plain_name(*place) == mount.name && manifests.together(*place, workload)
        };
        let Some(object) = manifests.of_kind(kind).into_iter().find(fits).map(|place| manifests.get(place))
        else {
            continue;
        };
        files.complete.push(folder.clone());
        for (key, value) in object.get("stringData").map_or_else(Vec::new, pairs) {
            files.known.insert(folder.join(key), value.as_bytes().to_vec());
        }
        for (key, value) in object.get("data").map_or_else(Vec::new, pairs) {
            let bytes = match mount.kind {
                MountKind::ConfigMap => Some(value.as_bytes().to_vec()),
                _ => data_encoding::BASE64.decode(value.replace(['\n', ' '], "").as_bytes()).ok(),
            };
            if let Some(bytes) = bytes {
                files.known.entry(folder.join(key)).or_insert(bytes);
            }
        }
    }
    files
}

/// How the pod ends: the application must outlast the traffic that still arrives.
pub struct Ending {
    /// Settings of the gate that follow from it.
    pub settings: Vec<(&'static str, String)>,
    /// For the application, if it has none.
    pub pre_stop: Option<Node>,
    pub warnings: Vec<String>,
}

pub fn ending(manifests: &Manifests, workload: Place, target: &Target, legacy: bool) -> Ending {
    let pod = manifests.pod_spec(workload);
    let grace =
        pod.and_then(|pod| pod.text_at(&["terminationGracePeriodSeconds"])?.parse().ok()).unwrap_or(GRACE);
    let application = &manifests.containers(workload)[target.container];
    let own = application.at(&["lifecycle", "preStop"]);
    let mut ending = Ending { settings: Vec::new(), pre_stop: None, warnings: Vec::new() };
    let pause = match own {
        // Half of what there is at most: the application needs the rest for its own end.
        None => (if legacy { 15 } else { 5 }).min(grace / 2),
        Some(own) => seconds(own).unwrap_or(0),
    };
    match (own, pause) {
        (Some(_), 0) => ending.warnings.push(format!(
            "the preStop of {} is kept, and does not visibly wait: what arrives while the pod is taken out of its Services may be answered 503; let it sleep some seconds first",
            find::name_of(application)
        )),
        (None, 0) => ending.warnings.push(format!(
            "terminationGracePeriodSeconds is {grace}, which leaves no time to wait before the application ends: what arrives meanwhile may be answered 503"
        )),
        (None, _) if legacy => {
            let command = Node::List(vec!["sleep".into(), Node::text(pause.to_string())]);
            ending.pre_stop = Some(yaml_map! { "exec": yaml_map! { "command": command } });
        }
        (None, _) => {
            ending.pre_stop = Some(yaml_map! { "sleep": yaml_map! { "seconds": Node::plain(pause.to_string()) } });
        }
        (Some(_), _) => {}
    }
    if legacy {
        // Both are told to stop at once: the gate keeps accepting, then lets deliveries finish, while the
        // application still waits.
        let delay = pause.min(15) / 3;
        ending.settings.push(("shutdown-delay", format!("{delay}s")));
        ending.settings.push(("shutdown-timeout", format!("{}s", (pause - delay).clamp(1, 20))));
    } else {
        ending.settings.push(("shutdown-delay", "0s".to_owned())); // it is stopped after the application
    }
    ending
}

/// How long a hook waits, as far as it shows: `sleep`, `sleep 15` or the last such in a line for a shell.
fn seconds(hook: &Node) -> Option<u64> {
    if let Some(seconds) = hook.text_at(&["sleep", "seconds"]) {
        return seconds.parse().ok();
    }
    let command = hook.list_at(&["exec", "command"]).iter().filter_map(Node::as_text);
    let words: Vec<_> =
        command.flat_map(|part| part.split([' ', '\n', ';', '&', '|'])).filter(|w| !w.is_empty()).collect();
    let sleeps = words.windows(2).filter(|pair| pair[0] == "sleep" || pair[0].ends_with("/sleep"));
    sleeps.filter_map(|pair| pair[1].trim_end_matches('s').parse().ok()).next_back()
}

/// What of the pod is in the gate's way.
pub fn conflicts(
    manifests: &Manifests,
    workload: Place,
    plan: (&Target, &Judged, &[Mount], &Words),
) -> Vec<String> {
    let (target, judged, mounts, words) = plan;
    let mut faults = Vec::new();
    let containers = || manifests.containers(workload).iter().chain(manifests.init_containers(workload));
    if containers().any(|container| find::name_of(container) == NAME) {
        faults.push(format!(
            "it has a container {NAME} that was not put in by inject: take it out, or leave this workload as it is"
        ));
    }
    let ports = || [judged.traffic, judged.ops].into_iter().chain(judged.others.iter().copied());
    for port in ports() {
        let taken = containers().find(|container| {
            let ports = container.list_at(&["ports"]).iter();
            ports.filter_map(|port| port.get("containerPort")?.as_port()).any(|there| there == port)
        });
        let owner = taken.map(find::name_of).or_else(|| (target.port == port).then_some("the application"));
        if let Some(owner) = owner.filter(|owner| *owner != NAME) {
            let flag = if port == judged.ops { "--ops-listen" } else { "--listen" };
            faults.push(format!("{owner} has the gate's port {port}: give the gate another with {flag}"));
        }
    }
    let volumes: Vec<_> = volume_names(manifests, workload).collect();
    for mount in mounts {
        let name = volume_name(mount);
        match mount.kind {
            MountKind::Volume if !volumes.contains(&name.as_str()) => {
                let there = if volumes.is_empty() { "none".to_owned() } else { volumes.join(", ") };
                faults.push(format!("the pod has no volume {name} to mount; there are: {there}"));
            }
            MountKind::Volume => {}
            _ if volumes.contains(&name.as_str()) => {
                faults.push(format!(
                    "the pod has a volume {name} already, which is what the gate's is called: rename it"
                ));
            }
            _ => {}
        }
        if mounts.iter().filter(|other| other.path == mount.path).count() > 1 {
            faults.push(format!("two volumes are mounted at {}: leave one out", mount.path));
        }
    }
    if let Some(image) =
        words.image.as_ref().filter(|image| image.is_empty() || image.contains(char::is_whitespace))
    {
        faults.push(format!("{image:?} is no image: write REGISTRY/NAME:TAG"));
    }
    faults.dedup();
    faults
}

/// Those of the pod, and those that a `StatefulSet` makes for it.
fn volume_names(manifests: &Manifests, workload: Place) -> impl Iterator<Item = &str> {
    let volumes = manifests.pod_spec(workload).map_or(&[][..], |pod| pod.list_at(&["volumes"]));
    let claims = manifests.get(workload).list_at(&["spec", "volumeClaimTemplates"]);
    let claims = claims.iter().filter_map(|claim| claim.text_at(&["metadata", "name"]));
    volumes.iter().filter_map(|volume| volume.text_at(&["name"])).chain(claims)
}

fn volume_name(mount: &Mount) -> String {
    let kind = match mount.kind {
        MountKind::Volume => return mount.name.clone(),
        _ if mount.path == SECRETS => return format!("{NAME}-secrets"),
        _ if mount.path == CONFIG => return format!("{NAME}-config"),
        MountKind::Secret => "secret",
        MountKind::ConfigMap => "configmap",
        MountKind::Claim => "pvc",
    };
    let name: String = format!("{NAME}-{kind}-{}", mount.name.replace('.', "-")).chars().take(63).collect();
    name.trim_end_matches('-').to_owned()
}

/// Puts in what was planned.
pub fn put(manifests: &mut Manifests, plan: &Plan, request: &Request, warnings: &mut Vec<String>) {
    let Plan { workload, words, target, mounts, .. } = plan;
    let mut record = OfWorkload::default();
    let ending = ending(manifests, *workload, target, words.legacy);
    let gate = container(plan);
    let made_for = manifests.short(*workload);
    let pod = manifests.pod_spec_mut(*workload).expect("it has containers");
    if words.legacy {
        pod.get_mut("containers").and_then(Node::items_mut).expect("there is one").push(gate);
    } else {
        let (containers, was) = pod.at_or_put("initContainers", Node::list);
        record.note("initContainers", was);
        containers.items_mut().expect("a list").insert(0, gate); // before everything else
    }
    let volumes: Vec<_> = mounts.iter().filter_map(volume).collect();
    if !volumes.is_empty() {
        record.volumes =
            volumes.iter().filter_map(|volume| Some(volume.text_at(&["name"])?.to_owned())).collect();
        let (there, was) = pod.at_or_put("volumes", Node::list);
        record.note("volumes", was);
        there.items_mut().expect("a list").extend(volumes);
    }
    let application =
        &mut pod.get_mut("containers").and_then(Node::items_mut).expect("there is one")[target.container];
    find::name_of(application).clone_into(&mut record.container);
    if let Some(pre_stop) = ending.pre_stop {
        let (lifecycle, was) = application.at_or_put("lifecycle", Node::map);
        record.note("lifecycle", was);
        lifecycle.set("preStop", pre_stop);
        record.pre_stop = true;
    }
    mark_workload(manifests, *workload, record);
    point_services(manifests, plan);
    let made = made(manifests, plan, request, &made_for, warnings);
    for object in made {
        manifests.push(object);
    }
}

fn mark_workload(manifests: &mut Manifests, workload: Place, mut record: OfWorkload) {
    let metadata = manifests.get_mut(workload).at_or_put("metadata", Node::map).0;
    let (annotations, was) = metadata.at_or_put("annotations", Node::map);
    record.note("annotations", was);
    annotations.set(&format!("{PREFIX}{RECORD}"), Node::single(written(&record)));
}

fn written(record: &impl serde::Serialize) -> String {
    serde_json::to_string(record).expect("texts and numbers")
}

fn point_services(manifests: &mut Manifests, plan: &Plan) {
    let mut services: Vec<_> = plan.target.taken.iter().map(|taken| taken.service).collect();
    services.dedup();
    for service in services {
        if manifests.annotation(service, RECORD).is_some() {
            continue; // another workload behind the same Service was first
        }
        let mut record = OfService::default();
        for taken in plan.target.taken.iter().filter(|taken| taken.service == service) {
            let name = find::port_name(manifests, *taken);
            let ports = manifests.get_mut(service).at_mut(&["spec", "ports"]).and_then(Node::items_mut);
            let port = &mut ports.expect("it was found there")[taken.port];
            let was = port.get("targetPort").map(|was| match (was.as_port(), was.as_text()) {
                (Some(number), _) => number.into(),
                (None, name) => name.unwrap_or_default().into(),
            });
            record.ports.push((name, was));
            // A number: older clusters find no endpoint for a sidecar's port by name.
            port.set("targetPort", Node::from(plan.judged.traffic));
        }
        let metadata = manifests.get_mut(service).at_or_put("metadata", Node::map).0;
        let (annotations, was) = metadata.at_or_put("annotations", Node::map);
        match was {
            super::yaml::Was::Absent => record.new.push("annotations".to_owned()),
            super::yaml::Was::Null => record.null.push("annotations".to_owned()),
            super::yaml::Was::There => {}
        }
        annotations.set(&format!("{PREFIX}{RECORD}"), Node::single(written(&record)));
    }
}

fn container(plan: &Plan) -> Node {
    let Plan { words, mounts, judged, .. } = plan;
    let mut gate = yaml_map! { "name": NAME, "image": words.image.clone().unwrap_or_default() };
    if !words.legacy {
        gate.set("restartPolicy", "Always".into());
    }
    let config = mounts.iter().any(|mount| mount.path == CONFIG);
    let config = config.then(|| ("HOOKGATE_CONFIG".to_owned(), format!("{CONFIG}/{CONFIG_FILE}")));
    let environment = config.iter().chain(&judged.environment);
    let environment =
        environment.map(|(name, value)| yaml_map! { "name": name.as_str(), "value": value.as_str() });
    gate.set("env", Node::List(environment.collect()));
    let mut ports = vec![yaml_map! { "name": "webhooks", "containerPort": judged.traffic }];
    ports.extend(judged.others.iter().map(|port| yaml_map! { "containerPort": *port }));
    ports.push(yaml_map! { "name": "ops", "containerPort": judged.ops });
    gate.set("ports", Node::List(ports));
    // None of these asks the application, which starts only when the first one holds.
    let asks = |path: &str| yaml_map! { "path": path, "port": judged.ops };
    gate.set(
        "startupProbe",
        yaml_map! { "httpGet": asks("/startupz"), "periodSeconds": 1u16, "failureThreshold": 30u16 },
    );
    gate.set("readinessProbe", yaml_map! { "httpGet": asks("/readyz"), "periodSeconds": 5u16 });
    gate.set(
        "livenessProbe",
        yaml_map! { "httpGet": asks("/livez"), "periodSeconds": 10u16, "timeoutSeconds": 5u16 },
    );
    let limit = judged.memory.div_ceil(32) * 32;
    gate.set(
        "resources",
        yaml_map! {
            "requests": yaml_map! { "cpu": Node::plain("20m"), "memory": Node::plain("32Mi") },
            "limits": yaml_map! { "memory": Node::plain(format!("{limit}Mi")) },
        },
    );
    gate.set(
        "securityContext",
        yaml_map! {
            "runAsNonRoot": true,
            "runAsUser": 65532u32,
            "runAsGroup": 65532u32,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": yaml_map! { "drop": vec![Node::from("ALL")] },
            "seccompProfile": yaml_map! { "type": "RuntimeDefault" },
        },
    );
    let mounted = mounts.iter().map(|mount| {
        let mut mounted = yaml_map! { "name": volume_name(mount), "mountPath": mount.path.as_str() };
        if matches!(mount.kind, MountKind::Secret | MountKind::ConfigMap) {
            mounted.set("readOnly", true.into());
        }
        mounted
    });
    let mounted: Vec<_> = mounted.collect();
    if !mounted.is_empty() {
        gate.set("volumeMounts", Node::List(mounted));
    }
    gate
}

fn volume(mount: &Mount) -> Option<Node> {
    let name = mount.name.as_str();
    let (kind, source) = match mount.kind {
        MountKind::Secret => ("secret", yaml_map! { "secretName": name }),
        MountKind::ConfigMap => ("configMap", yaml_map! { "name": name }),
        MountKind::Claim => ("persistentVolumeClaim", yaml_map! { "claimName": name }),
        MountKind::Volume => return None,
    };
    let mut volume = yaml_map! { "name": volume_name(mount) };
    volume.set(kind, source);
    Some(volume)
}

/// The objects beside the workload that were asked for.
fn made(
    manifests: &Manifests,
    plan: &Plan,
    request: &Request,
    made_for: &str,
    warnings: &mut Vec<String>,
) -> Vec<Node> {
    let workload = plan.workload;
    let object = |api: &str, kind: &str| {
        let mut metadata = yaml_map! { "name": made_name(manifests, workload) };
        if let Some(namespace) = manifests.namespace(workload) {
            metadata.set("namespace", namespace.into());
        }
        let mut annotations = Node::map();
        annotations.set(&format!("{PREFIX}{MADE_FOR}"), made_for.into());
        metadata.set("annotations", annotations);
        yaml_map! { "apiVersion": api, "kind": kind, "metadata": metadata }
    };
    let mut made = Vec::new();
    if let Some((_, text)) = request.config.as_ref().filter(|_| plan.words.config_map.is_none()) {
        let mut map = object("v1", "ConfigMap");
        map.set("data", yaml_map! { "hookgate.yaml": Node::lines(text.as_str()) });
        made.push(map);
    }
    if request.network_policy.is_none() && request.pod_monitor.is_none() {
        return made;
    }
    let selector = selector(manifests, workload);
    if selector.entries().is_empty() {
        warnings.push(format!(
            "{}: its pods have no labels, so no NetworkPolicy or PodMonitor can select them: none is made",
            manifests.told(workload)
        ));
        return made;
    }
    if let Some(namespaces) = &request.network_policy {
        let mut policy = object("networking.k8s.io/v1", "NetworkPolicy");
        let rules = rules(manifests, plan, namespaces, request.pod_monitor.as_deref());
        policy.set("spec", yaml_map! { "podSelector": selector.clone(), "policyTypes": vec![Node::from("Ingress")], "ingress": rules });
        made.push(policy);
    }
    if request.pod_monitor.is_some() {
        let mut monitor = object("monitoring.coreos.com/v1", "PodMonitor");
        // A number: a native sidecar's port is not found by name everywhere.
        let endpoint =
            yaml_map! { "portNumber": plan.judged.ops, "path": "/metrics", "interval": Node::plain("30s") };
        monitor.set("spec", yaml_map! { "selector": selector, "podMetricsEndpoints": vec![endpoint] });
        made.push(monitor);
    }
    made
}

/// What selects exactly this workload's pods: its own selector, else its pods' labels.
fn selector(manifests: &Manifests, workload: Place) -> Node {
    let object = manifests.get(workload);
    match object.at(&["spec", "selector"]) {
        Some(selector)
            if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() =>
        {
            selector.clone()
        }
        Some(plain) if manifests.kind(workload) != "Pod" => yaml_map! { "matchLabels": plain.clone() },
        _ => match manifests.pod(workload).and_then(|pod| pod.at(&["metadata", "labels"])) {
            Some(labels) => yaml_map! { "matchLabels": labels.clone() },
            None => Node::map(),
        },
    }
}

/// The gate's ports to those named, the other ports of Services as before, and nothing to the application's.
fn rules(
    manifests: &Manifests,
    plan: &Plan,
    namespaces: &[String],
    monitoring: Option<&[String]>,
) -> Vec<Node> {
    let port = |number: u16| yaml_map! { "protocol": "TCP", "port": number };
    let rule = |namespaces: &[String], number: u16| {
        let mut rule = Node::map();
        let from = namespaces.iter().map(|namespace| {
            yaml_map! { "namespaceSelector": yaml_map! { "matchLabels": yaml_map! { "kubernetes.io/metadata.name": namespace.as_str() } } }
        });
        if !namespaces.is_empty() {
            rule.set("from", Node::List(from.collect()));
        }
        rule.set("ports", Node::List(vec![port(number)]));
        rule
    };
    let mut rules = vec![rule(namespaces, plan.judged.traffic)];
    match monitoring {
        Some(named) if !named.is_empty() => rules.push(rule(named, plan.judged.ops)),
        Some(_) => {
            let inside = vec![yaml_map! { "namespaceSelector": Node::map() }];
            rules.push(yaml_map! { "from": inside, "ports": vec![port(plan.judged.ops)] });
        }
        None => {}
    }
    let mut others: Vec<u16> = find::others(manifests, plan.workload, &plan.target)
        .into_iter()
        .filter_map(|other| find::resolve(manifests, plan.workload, other).ok())
        .map(|(port, _)| port)
        .filter(|port| *port != plan.target.port && *port != plan.judged.traffic)
        .collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        rules.push(yaml_map! { "ports": Node::List(others.into_iter().map(port).collect()) });
    }
    rules
}
