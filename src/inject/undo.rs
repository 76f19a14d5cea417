//! What was put in is written down in annotations, and taken out by them: a part that the user has changed
//! since, or added to, stays.

use serde::{Deserialize, Serialize};

use super::find;
use super::objects::{Manifests, PREFIX, Place};
use super::yaml::{Node, Was};

/// What [`undo`] takes out of a workload.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfWorkload {
    pub container: String,
    /// Volumes by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_stop: bool,
    /// Keys that were not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new: Vec<String>,
    /// Keys whose value was null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub null: Vec<String>,
}

impl OfWorkload {
    pub fn note(&mut self, key: &str, was: Was) {
        match was {
            Was::Absent => self.new.push(key.to_owned()),
            Was::Null => self.null.push(key.to_owned()),
            Was::There => {}
        }
    }
}

/// What [`undo`] gives back to a Service.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfService {
    /// Port by name or number, and its `targetPort`: none if it had none.
    pub ports: Vec<(String, Option<serde_json::Value>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub null: Vec<String>,
}

pub const RECORD: &str = "injected";
/// On what is ours as a whole.
pub const MADE_FOR: &str = "made-for";

/// Takes out of a workload, and of the Services that lead to it, what was put in.
pub fn undo(manifests: &mut Manifests, workload: Place) -> Result<(), Vec<String>> {
    let Some(record) = manifests.annotation(workload, RECORD) else { return Ok(()) };
    let record: OfWorkload =
        serde_json::from_str(record).map_err(|error| unreadable(manifests, workload, &error))?;
    for service in manifests.of_kind("Service") {
        if find::leads(manifests, service, workload) {
            undo_service(manifests, service)?;
        }
    }
    let made_for = manifests.short(workload);
    for place in manifests.objects() {
        if manifests.annotation(place, MADE_FOR) == Some(&made_for) {
            manifests.remove(place);
        }
    }
    if let Some(pod) = manifests.pod_spec_mut(workload) {
        undo_pod(pod, &record);
    }
    unmark(manifests.get_mut(workload), &record.new, &record.null);
    Ok(())
}

fn undo_pod(pod: &mut Node, record: &OfWorkload) {
    for list in ["initContainers", "containers"] {
        if let Some(containers) = pod.get_mut(list).and_then(Node::items_mut) {
            containers.retain(|container| find::name_of(container) != super::gate::NAME);
        }
    }
    if let Some(volumes) = pod.get_mut("volumes").and_then(Node::items_mut) {
        let ours =
            |volume: &Node| volume.text_at(&["name"]).is_some_and(|n| record.volumes.iter().any(|v| v == n));
        volumes.retain(|volume| !ours(volume));
    }
    for list in ["initContainers", "volumes"] {
        restore(pod, list, &record.new, &record.null);
    }
    let containers = pod.get_mut("containers").and_then(Node::items_mut);
    let application = containers
        .and_then(|all| all.iter_mut().find(|container| find::name_of(container) == record.container));
    if let Some(application) = application.filter(|_| record.pre_stop) {
        if let Some(lifecycle) = application.get_mut("lifecycle") {
            lifecycle.remove("preStop");
        }
        restore(application, "lifecycle", &record.new, &record.null);
    }
}

/// As it was before: gone, or null, unless there is something in it.
fn restore(node: &mut Node, key: &str, new: &[String], null: &[String]) {
    let is_empty = node.get(key).is_some_and(|value| value.items().is_empty() && value.entries().is_empty());
    if is_empty && new.iter().any(|name| name == key) {
        node.remove(key);
    } else if is_empty && null.iter().any(|name| name == key) {
        node.set(key, Node::plain(""));
    }
}

fn undo_service(manifests: &mut Manifests, service: Place) -> Result<(), Vec<String>> {
    let Some(record) = manifests.annotation(service, RECORD) else { return Ok(()) };
    let record: OfService =
        serde_json::from_str(record).map_err(|error| unreadable(manifests, service, &error))?;
    let ports = manifests.get_mut(service).at_mut(&["spec", "ports"]).and_then(Node::items_mut);
    for port in ports.into_iter().flatten() {
        let name = port.text_at(&["name"]).or_else(|| port.text_at(&["port"])).map(str::to_owned);
        let Some((_, was)) = record.ports.iter().find(|(known, _)| Some(known) == name.as_ref()) else {
            continue;
        };
        match was {
            None => port.remove("targetPort"),
            Some(serde_json::Value::String(name)) => port.set("targetPort", Node::from(name.as_str())),
            Some(number) => port.set("targetPort", Node::plain(number.to_string())),
        }
    }
    unmark(manifests.get_mut(service), &record.new, &record.null);
    Ok(())
}

/// Takes the record itself away.
fn unmark(object: &mut Node, new: &[String], null: &[String]) {
    if let Some(metadata) = object.get_mut("metadata") {
        if let Some(annotations) = metadata.get_mut("annotations") {
            annotations.remove(&format!("{PREFIX}{RECORD}"));
        }
        restore(metadata, "annotations", new, null);
    }
}

fn unreadable(manifests: &Manifests, place: Place, error: &serde_json::Error) -> Vec<String> {
    let told = manifests.told(place);
    vec![format!(
        "{told}: the annotation {PREFIX}{RECORD} cannot be read ({error}): inject into the manifests as they were before"
    )]
}
