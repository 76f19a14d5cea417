//! What is meant: which workload, which container, which Service and port of it. By name, or by itself if there
//! is exactly one.

use super::objects::{Manifests, PREFIX, Place, pairs, selects};
use super::yaml::Node;
use super::{Mount, Request, Words};
use crate::config::closest;

/// What the annotations of a workload may be named, beside the flags of `run`.
const OWN_WORDS: [&str; 9] = [
    "inject",
    "image",
    "container",
    "service",
    "service-port",
    "secret-name",
    "config-map",
    "mount",
    "legacy",
];

/// Where the traffic is taken over.
#[derive(Clone, Debug)]
pub struct Target {
    /// The application's container, by its place among the pod's.
    pub container: usize,
    /// The application's port.
    pub port: u16,
    /// The ports of Services that are pointed at the gate.
    pub taken: Vec<Taken>,
}

/// A port of a Service, by its place in the Service's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub service: Place,
    pub port: usize,
}

/// The workloads that are named, and those that are marked `hookgate/inject: "true"`; without either, the only one.
pub fn workloads(manifests: &Manifests, request: &Request) -> Result<Vec<Place>, Vec<String>> {
    let all = manifests.workloads();
    let mut faults = Vec::new();
    let mut selected = Vec::new();
    for place in manifests.objects() {
        match wish(manifests, place) {
            Err(fault) => faults.push(format!("{}: {fault}", manifests.told(place))),
            Ok(Some(true)) if all.contains(&place) => selected.push(place),
            Ok(Some(true)) if manifests.kind(place) != "Service" => {
                let remedy =
                    "is marked hookgate/inject, and has no pod that a Service leads to: take the mark away";
                faults.push(format!("{}: {remedy}", manifests.told(place)));
            }
            Ok(_) => {}
        }
    }
    for name in &request.workloads {
        match named(manifests, name, &all) {
            Ok(place) if wish(manifests, place) == Ok(Some(false)) => {
                let told = manifests.told(place);
                faults.push(format!(
                    "{told}: is named, and marked hookgate/inject: \"false\": which is meant?"
                ));
            }
            Ok(place) => selected.push(place),
            Err(fault) => faults.push(fault),
        }
    }
    selected.sort();
    selected.dedup();
    if selected.is_empty() && faults.is_empty() {
        let open: Vec<_> =
            all.into_iter().filter(|place| wish(manifests, *place) != Ok(Some(false))).collect();
        match open.as_slice() {
            [only] => selected.push(*only),
            [] => faults.push(
                "there is no Deployment, StatefulSet or other workload to put the gate into: give its manifest too"
                    .to_owned(),
            ),
            several => {
                let names: Vec<_> = several.iter().map(|place| manifests.short(*place)).collect();
                let first = names[0].replace(' ', "/");
                faults.push(format!(
                    "there are several workloads ({}): name one with --workload {first}, or annotate it hookgate/inject: \"true\"",
                    names.join(", ")
                ));
            }
        }
    }
    if faults.is_empty() { Ok(selected) } else { Err(faults) }
}

/// The one workload of that `NAME`, `KIND/NAME` or `KIND/NAMESPACE/NAME`.
fn named(manifests: &Manifests, wanted: &str, all: &[Place]) -> Result<Place, String> {
    let parts: Vec<_> = wanted.split('/').collect();
    let (kind, namespace, name) = match parts.as_slice() {
        [kind, namespace, name] => (Some(*kind), Some(*namespace), *name),
        [kind, name] => (Some(*kind), None, *name),
        _ => (None, None, wanted),
    };
    let fits = |place: &&Place| {
        manifests.plain_name(**place) == name
            && kind.is_none_or(|kind| kind.eq_ignore_ascii_case(manifests.kind(**place)))
            && namespace.is_none_or(|namespace| manifests.namespace(**place) == Some(namespace))
    };
    let found: Vec<_> = all.iter().filter(fits).collect();
    match found.as_slice() {
        [only] => Ok(**only),
        [] => {
            let there: Vec<_> = all.iter().map(|place| manifests.short(*place)).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Err(format!("--workload {wanted}: there is none of that name; there are: {there}"))
        }
        several => {
            let names: Vec<_> = several.iter().map(|place| manifests.told(**place)).collect();
            Err(format!(
                "--workload {wanted}: that is the name of several ({}): write KIND/NAME or KIND/NAMESPACE/NAME",
                names.join("; ")
            ))
        }
    }
}

/// What a mark `hookgate/inject` asks for.
fn wish(manifests: &Manifests, place: Place) -> Result<Option<bool>, String> {
    let marks = manifests.marks(place).into_iter();
    let mut said: Vec<_> = marks.filter(|(name, _)| *name == "inject").map(|(_, value)| value).collect();
    said.dedup();
    match said.as_slice() {
        [] => Ok(None),
        ["true" | "enabled"] => Ok(Some(true)),
        ["false" | "disabled"] => Ok(Some(false)),
        [other] => Err(format!("hookgate/inject: {other:?} is neither \"true\" nor \"false\"")),
        several => Err(format!("hookgate/inject is said twice, {}: say it once", several.join(" and "))),
    }
}

/// The workloads that have a gate of ours: all, or those that are named.
pub fn gated(manifests: &Manifests, wanted: &[String]) -> Result<Vec<Place>, Vec<String>> {
    let all = manifests.workloads();
    if !wanted.is_empty() {
        let found: Vec<_> = wanted.iter().map(|name| named(manifests, name, &all)).collect();
        let faults: Vec<_> = found.iter().filter_map(|found| found.as_ref().err().cloned()).collect();
        return if faults.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(faults) };
    }
    Ok(all.into_iter().filter(|place| manifests.annotation(*place, "injected").is_some()).collect())
}

/// Services that lead to a workload whose gate goes, and to one whose gate stays.
pub fn shared(manifests: &Manifests, going: &[Place]) -> Vec<String> {
    let is_gated = |place: &Place| manifests.annotation(*place, "injected").is_some();
    let staying: Vec<_> =
        manifests.workloads().into_iter().filter(|w| is_gated(w) && !going.contains(w)).collect();
    let services = manifests.of_kind("Service").into_iter().filter(|service| is_gated(service));
    let between = services.filter_map(|service| {
        let stays = staying.iter().find(|workload| leads(manifests, service, **workload))?;
        going.iter().find(|workload| leads(manifests, service, **workload))?;
        let (told, stays) = (manifests.told(service), manifests.short(*stays));
        Some(format!("{told}: also leads to {stays}, which keeps its gate: take both out, or neither"))
    });
    between.collect()
}

/// Services that are marked, and lead to no workload that gets the gate.
pub fn marked_without_gate(manifests: &Manifests, selected: &[Place]) -> Vec<String> {
    let services = manifests.of_kind("Service").into_iter();
    let marked = services.filter(|service| wish(manifests, *service) == Ok(Some(true)));
    let lost =
        marked.filter(|service| !selected.iter().any(|workload| leads(manifests, *service, *workload)));
    lost.map(|service| {
        let told = manifests.told(service);
        format!(
            "{told}: is marked hookgate/inject and leads to no workload that gets the gate: mark that too, or name it with --workload"
        )
    })
    .collect()
}

/// Whether a Service's selector takes a workload's pods.
pub fn leads(manifests: &Manifests, service: Place, workload: Place) -> bool {
    let selector = manifests.get(service).at(&["spec", "selector"]).map_or_else(Vec::new, pairs);
    manifests.together(service, workload) && selects(&selector, &manifests.pod_labels(workload))
}

/// What counts for this workload: what its annotations say, and what was said for all.
pub fn words(
    manifests: &Manifests,
    all: &Words,
    workload: Place,
    flags: &[String],
) -> Result<Words, Vec<String>> {
    let mut words = all.clone();
    let mut faults = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (name, value) in manifests.marks(workload) {
        if matches!(name, "inject" | "injected") || seen.contains(&(name, value)) {
            continue;
        }
        if seen.iter().any(|(known, _)| *known == name) {
            faults.push(format!("hookgate/{name} is said twice, with different values: say it once"));
        }
        seen.push((name, value));
        if let Err(fault) = annotation(&mut words, all, name, value, flags) {
            faults.push(fault);
        }
    }
    if words.image.is_none() {
        faults.push(
            "which image? Give --image with the name that yours has in your registry; none is published"
                .to_owned(),
        );
    }
    if faults.is_empty() { Ok(words) } else { Err(faults) }
}

fn annotation(
    words: &mut Words,
    all: &Words,
    name: &str,
    value: &str,
    flags: &[String],
) -> Result<(), String> {
    let list = || value.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let differs = |said: bool| {
        let message = format!(
            "{PREFIX}{name} and --{name} differ: say it for all with the flag, or for this one alone"
        );
        if said { Err(message) } else { Ok(()) }
    };
    let one = |said: &Option<String>| differs(said.as_deref().is_some_and(|said| said != value));
    let many = |said: &[String]| differs(!said.is_empty() && said != list());
    match name {
        "image" => one(&all.image).map(|()| words.image = Some(value.to_owned())),
        "container" => one(&all.container).map(|()| words.container = Some(value.to_owned())),
        "secret-name" => one(&all.secret_name).map(|()| words.secret_name = Some(value.to_owned())),
        "config-map" => one(&all.config_map).map(|()| words.config_map = Some(value.to_owned())),
        "service" => many(&all.services).map(|()| words.services = list()),
        "service-port" => many(&all.service_ports).map(|()| words.service_ports = list()),
        "mount" => {
            let mounts: Result<Vec<Mount>, _> = list().iter().map(|mount| mount.parse()).collect();
            let mounts = mounts.map_err(|fault| format!("{PREFIX}mount: {fault}"))?;
            differs(!all.mounts.is_empty() && all.mounts != mounts).map(|()| words.mounts = mounts)
        }
        "legacy" => {
            let value = match value {
                "true" => true,
                "false" => false,
                _ => return Err(format!("{PREFIX}legacy: {value:?} is neither \"true\" nor \"false\"")),
            };
            differs(all.legacy && !value).map(|()| words.legacy = value)
        }
        "config" => Err(format!(
            "{PREFIX}config: a file is named on the command line; name a ConfigMap with {PREFIX}config-map"
        )),
        flag if flags.iter().any(|known| known == flag) => {
            let said = all.settings.iter().find(|(known, _)| known == flag);
            differs(said.is_some_and(|(_, said)| said != value))?;
            words.settings.retain(|(known, _)| known != flag);
            words.settings.push((flag.to_owned(), value.to_owned()));
            // In the order of the help, wherever it was said.
            words.settings.sort_by_key(|(name, _)| flags.iter().position(|flag| flag == name));
            Ok(())
        }
        other => {
            let known: Vec<_> = OWN_WORDS.into_iter().chain(flags.iter().map(String::as_str)).collect();
            Err(match closest(other, &known) {
                Some(close) => format!("{PREFIX}{other} is no setting: did you mean {PREFIX}{close}?"),
                None => format!("{PREFIX}{other} is no setting: `hookgate inject --help` lists them"),
            })
        }
    }
}

/// The container, the Services and their ports.
pub fn target(
    manifests: &Manifests,
    words: &Words,
    workload: Place,
    selected: &[Place],
) -> Result<Target, Vec<String>> {
    let services = services(manifests, words, workload)?;
    let mut faults = Vec::new();
    for service in &services {
        for other in manifests.workloads() {
            if !selected.contains(&other) && leads(manifests, *service, other) {
                faults.push(format!(
                    "{} also leads to {}, which gets no gate: name that with --workload too, or let the Service select one of them",
                    manifests.short(*service),
                    manifests.short(other)
                ));
            }
        }
    }
    let taken = ports(manifests, words, &services)?;
    let container = match container(manifests, words, workload, &taken) {
        Ok(container) => Some(container),
        Err(fault) => {
            faults.push(fault);
            None
        }
    };
    let mut resolved: Vec<(u16, String)> = Vec::new();
    for taken in &taken {
        let told = format!("port {} of {}", port_name(manifests, *taken), manifests.short(taken.service));
        match resolve(manifests, workload, *taken) {
            Err(fault) => faults.push(format!("{told}: {fault}")),
            Ok((port, owner)) => {
                if let (Some(owner), Some(container)) = (owner, container)
                    && owner != name_of(&manifests.containers(workload)[container])
                {
                    let chosen = name_of(&manifests.containers(workload)[container]);
                    faults.push(format!(
                        "{told} leads to container {owner}, not to {chosen}: name the container that answers there, or another port"
                    ));
                }
                resolved.push((port, told));
            }
        }
    }
    if let [(first, a), rest @ ..] = resolved.as_slice()
        && let Some((other, b)) = rest.iter().find(|(port, _)| port != first)
    {
        faults.push(format!(
            "{a} leads to {first} and {b} to {other}, and a gate has one application behind it: take one of them with --service-port"
        ));
    }
    match (container, resolved.first()) {
        (Some(container), Some((port, _))) if faults.is_empty() => {
            Ok(Target { container, port: *port, taken })
        }
        _ => Err(faults),
    }
}

/// The Services whose traffic is meant.
fn services(manifests: &Manifests, words: &Words, workload: Place) -> Result<Vec<Place>, Vec<String>> {
    let all = manifests.of_kind("Service");
    let leading: Vec<_> =
        all.iter().copied().filter(|service| leads(manifests, *service, workload)).collect();
    let names = |places: &[Place]| {
        let names: Vec<_> = places.iter().map(|place| manifests.plain_name(*place)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    if !words.services.is_empty() {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        for name in &words.services {
            match leading.iter().find(|service| manifests.plain_name(**service) == name) {
                Some(service) => found.push(*service),
                None if all.iter().any(|service| manifests.plain_name(*service) == name) => {
                    faults.push(format!(
                        "Service {name} does not select its pods: compare its selector with the pod's labels; these do: {}",
                        names(&leading)
                    ));
                }
                None => faults.push(format!("there is no Service {name}; there are: {}", names(&all))),
            }
        }
        return if faults.is_empty() { Ok(found) } else { Err(faults) };
    }
    match leading.as_slice() {
        [only] => Ok(vec![*only]),
        [] => Err(vec![format!(
            "no Service leads to it: give the Service's manifest too; there are: {}",
            names(&all)
        )]),
        several => {
            // By the port's name alone, if that tells them apart.
            let has = |service: &&Place| {
                let ports = manifests.get(**service).list_at(&["spec", "ports"]);
                !words.service_ports.is_empty()
                    && words.service_ports.iter().all(|wanted| ports.iter().any(|port| is_port(port, wanted)))
            };
            let mut fitting = several.iter().filter(has);
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(vec![*only]),
                _ => Err(vec![format!(
                    "several Services lead to it ({}): name those whose traffic is meant with --service, separated by commas",
                    names(several)
                )]),
            }
        }
    }
}

/// The ports of them that are meant.
fn ports(manifests: &Manifests, words: &Words, services: &[Place]) -> Result<Vec<Taken>, Vec<String>> {
    let mut taken = Vec::new();
    let mut faults = Vec::new();
    for service in services {
        let ports = manifests.get(*service).list_at(&["spec", "ports"]);
        let told = manifests.short(*service);
        let all: Vec<_> = ports.iter().map(shown_port).collect();
        let wanted = |port: &Node| words.service_ports.iter().any(|wanted| is_port(port, wanted));
        let chosen: Vec<_> = match ports {
            [] => {
                faults.push(format!("{told} has no ports"));
                continue;
            }
            [_] if words.service_ports.is_empty() => vec![0],
            _ if words.service_ports.is_empty() => {
                faults.push(format!(
                    "{told} has several ports ({}): name the one that takes the webhooks with --service-port",
                    all.join(", ")
                ));
                continue;
            }
            ports => (0..ports.len()).filter(|n| wanted(&ports[*n])).collect(),
        };
        if chosen.is_empty() {
            let wanted = words.service_ports.join(", ");
            faults.push(format!("{told} has no port {wanted}; it has: {}", all.join(", ")));
        }
        taken.extend(chosen.into_iter().map(|port| Taken { service: *service, port }));
    }
    for wanted in &words.service_ports {
        let ports = |service: &Place| manifests.get(*service).list_at(&["spec", "ports"]);
        if faults.is_empty() && !services.iter().any(|s| ports(s).iter().any(|port| is_port(port, wanted))) {
            let all: Vec<_> = services.iter().flat_map(|s| ports(s).iter().map(shown_port)).collect();
            faults.push(format!("no port {wanted} is there; there are: {}", all.join(", ")));
        }
    }
    if faults.is_empty() { Ok(taken) } else { Err(faults) }
}

/// The ports of all Services that lead to a workload, without those that are pointed at the gate.
pub fn others(manifests: &Manifests, workload: Place, target: &Target) -> Vec<Taken> {
    let services = manifests.of_kind("Service").into_iter();
    let leading = services.filter(|service| leads(manifests, *service, workload));
    let ports = leading.flat_map(|service| {
        let count = manifests.get(service).list_at(&["spec", "ports"]).len();
        (0..count).map(move |port| Taken { service, port })
    });
    ports.filter(|port| !target.taken.contains(port)).collect()
}

fn is_port(port: &Node, wanted: &str) -> bool {
    port.text_at(&["name"]) == Some(wanted) || port.text_at(&["port"]) == Some(wanted)
}

fn shown_port(port: &Node) -> String {
    let number = port.text_at(&["port"]).unwrap_or("without a number");
    port.text_at(&["name"]).map_or_else(|| number.to_owned(), |name| format!("{name} {number}"))
}

/// What a port is called: its name, else its number.
pub fn port_name(manifests: &Manifests, taken: Taken) -> String {
    let port = &manifests.get(taken.service).list_at(&["spec", "ports"])[taken.port];
    port.text_at(&["name"]).or_else(|| port.text_at(&["port"])).unwrap_or_default().to_owned()
}

pub fn name_of(container: &Node) -> &str {
    container.text_at(&["name"]).unwrap_or_default()
}

/// Which of the pod's containers is the application.
fn container(
    manifests: &Manifests,
    words: &Words,
    workload: Place,
    taken: &[Taken],
) -> Result<usize, String> {
    let containers = manifests.containers(workload);
    let names: Vec<_> = containers.iter().map(name_of).collect();
    match (&words.container, containers) {
        (Some(wanted), _) => names
            .iter()
            .position(|name| name == wanted)
            .ok_or_else(|| format!("there is no container {wanted}; there are: {}", names.join(", "))),
        (None, [_]) => Ok(0),
        (None, _) => {
            let owner = taken.iter().find_map(|taken| resolve(manifests, workload, *taken).ok()?.1);
            let guess =
                owner.map_or(String::new(), |owner| format!(", such as {owner}, which has that port"));
            Err(format!(
                "it has several containers ({}): name the application's with --container{guess}",
                names.join(", ")
            ))
        }
    }
}

/// The port of the pod that a Service's port leads to, and the container that declares it.
pub fn resolve(
    manifests: &Manifests,
    workload: Place,
    taken: Taken,
) -> Result<(u16, Option<String>), String> {
    let port = &manifests.get(taken.service).list_at(&["spec", "ports"])[taken.port];
    if let Some(protocol) = port.text_at(&["protocol"]).filter(|protocol| *protocol != "TCP") {
        return Err(format!("its protocol is {protocol}, and webhooks come over TCP: take another port"));
    }
    let declared = || {
        let sidecars = manifests.init_containers(workload).iter();
        let sidecars = sidecars.filter(|container| container.text_at(&["restartPolicy"]) == Some("Always"));
        let all = manifests.containers(workload).iter().chain(sidecars);
        all.flat_map(|container| {
            container.list_at(&["ports"]).iter().map(move |port| (name_of(container).to_owned(), port))
        })
    };
    let target = port.get("targetPort").or_else(|| port.get("port")).ok_or("it has no number")?;
    if let Some(number) = target.as_port() {
        let owner =
            declared().find(|(_, port)| port.get("containerPort").and_then(Node::as_port) == Some(number));
        return Ok((number, owner.map(|(owner, _)| owner)));
    }
    let name = target.as_text().ok_or("its targetPort is neither a number nor a name")?;
    let owner = declared().find(|(_, port)| port.text_at(&["name"]) == Some(name));
    let Some((owner, port)) = owner else {
        return Err(format!(
            "its targetPort is {name}, and no container has a port of that name: correct one of them"
        ));
    };
    let number = port.get("containerPort").and_then(Node::as_port);
    number.map(|number| (number, Some(owner))).ok_or_else(|| format!("the port {name} has no containerPort"))
}
