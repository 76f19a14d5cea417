//! The objects of all documents, also those in a `List`, and how each is named to people.

use std::collections::BTreeSet;

use super::yaml::{self, Document, Node};

/// The annotation and label prefix of everything that is ours.
pub const PREFIX: &str = "hookgate/";

/// Kinds with a pod in them that a Service can lead to.
const WORKLOADS: [&str; 8] = [
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "DeploymentConfig",
    "Rollout",
    "Pod",
];

/// A text with manifests, and the name of where it comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Where an object stands: its document, and its place in that document's list if that is a `List`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    document: usize,
    item: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Manifests {
    documents: Vec<Document>,
    /// Of each document: the name of its source, and which one of that it is.
    origins: Vec<(String, usize)>,
    removed: BTreeSet<Place>,
}

impl Manifests {
    pub fn parse(sources: &[Source]) -> Result<Self, Vec<String>> {
        let mut manifests =
            Manifests { documents: Vec::new(), origins: Vec::new(), removed: BTreeSet::new() };
        let mut faults = Vec::new();
        for Source { name, text } in sources {
            match yaml::parse(text) {
                Ok(documents) => {
                    for (n, document) in documents.into_iter().enumerate() {
                        manifests.documents.push(document);
                        manifests.origins.push((name.clone(), n + 1));
                    }
                }
                Err(fault) => faults.push(format!("{name}, line {}: no YAML: {}", fault.line, fault.message)),
            }
        }
        for (n, document) in manifests.documents.iter().enumerate() {
            let place = Place { document: n, item: None };
            if !document.root.is_null() && document.root.text_at(&["kind"]).is_none() {
                let remedy = "it has no kind, so it is no Kubernetes object: leave it out";
                faults.push(format!("{} (line {}): {remedy}", manifests.told(place), document.line));
            }
        }
        if faults.is_empty() { Ok(manifests) } else { Err(faults) }
    }

    /// The text of all documents, as they came where nothing was changed.
    pub fn render(&self) -> String {
        self.joined(Document::render)
    }

    /// The documents as they came, written as the result is, so that only what was changed differs.
    pub fn original(&self) -> String {
        self.joined(Document::original)
    }

    /// Sources follow one another; a second one may begin without `---`.
    fn joined(&self, text: fn(&Document) -> String) -> String {
        let mut all = String::new();
        for document in &self.documents {
            let text = text(document);
            let marked = text.lines().find(|line| !line.starts_with('#') && !line.trim().is_empty());
            if !all.is_empty() && !text.is_empty() && !marked.is_some_and(|line| line.starts_with("---")) {
                all.push_str("---\n");
            }
            all.push_str(&text);
        }
        all
    }

    pub fn objects(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (document, content) in self.documents.iter().enumerate() {
            let Some(kind) = content.root.text_at(&["kind"]) else { continue };
            if kind.ends_with("List") && content.root.get("items").is_some() {
                let items = content.root.list_at(&["items"]).iter().enumerate();
                let objects = items.filter(|(_, item)| item.text_at(&["kind"]).is_some());
                places.extend(objects.map(|(item, _)| Place { document, item: Some(item) }));
            } else {
                places.push(Place { document, item: None });
            }
        }
        places.retain(|place| !self.removed.contains(place));
        places
    }

    pub fn get(&self, place: Place) -> &Node {
        let root = &self.documents[place.document].root;
        place.item.map_or(root, |item| &root.list_at(&["items"])[item])
    }

    pub fn get_mut(&mut self, place: Place) -> &mut Node {
        let root = &mut self.documents[place.document].root;
        match place.item {
            None => root,
            Some(item) => {
                &mut root.get_mut("items").and_then(Node::items_mut).expect("a place is one of objects()")
                    [item]
            }
        }
    }

    /// File, document, kind and name.
    pub fn told(&self, place: Place) -> String {
        let (source, number) = &self.origins[place.document];
        let node = self.get(place);
        match node.text_at(&["kind"]) {
            Some(kind) => format!("{source}, document {number}, {kind} {}", self.name(place)),
            None => format!("{source}, document {number}"),
        }
    }

    /// Namespace and name.
    fn name(&self, place: Place) -> String {
        let name = self.get(place).text_at(&["metadata", "name"]).unwrap_or("without a name");
        match self.namespace(place) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// Kind and name, for a sentence about something else.
    pub fn short(&self, place: Place) -> String {
        format!("{} {}", self.kind(place), self.name(place))
    }

    pub fn kind(&self, place: Place) -> &str {
        self.get(place).text_at(&["kind"]).unwrap_or_default()
    }

    pub fn plain_name(&self, place: Place) -> &str {
        self.get(place).text_at(&["metadata", "name"]).unwrap_or_default()
    }

    pub fn namespace(&self, place: Place) -> Option<&str> {
        self.get(place).text_at(&["metadata", "namespace"])
    }

    /// Whether both can be in one namespace: where none is named, `kubectl apply -n` may say any.
    pub fn together(&self, a: Place, b: Place) -> bool {
        match (self.namespace(a), self.namespace(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    pub fn of_kind(&self, kind: &str) -> Vec<Place> {
        self.objects().into_iter().filter(|place| self.kind(*place) == kind).collect()
    }

    /// Everything with a pod that a Service can lead to.
    pub fn workloads(&self) -> Vec<Place> {
        let objects = self.objects().into_iter();
        // A hook of Helm's runs once, such as a chart's test.
        let is_hook =
            |place: Place| self.get(place).text_at(&["metadata", "annotations", "helm.sh/hook"]).is_some();
        let is_one = |place: &Place| {
            WORKLOADS.contains(&self.kind(*place)) && !self.containers(*place).is_empty() && !is_hook(*place)
        };
        objects.filter(is_one).collect()
    }

    /// Where the pod stands in a workload: its metadata and its spec.
    pub fn pod_path(&self, place: Place) -> &'static [&'static str] {
        if self.kind(place) == "Pod" { &[] } else { &["spec", "template"] }
    }

    pub fn pod(&self, place: Place) -> Option<&Node> {
        self.get(place).at(self.pod_path(place))
    }

    pub fn pod_spec(&self, place: Place) -> Option<&Node> {
        self.pod(place)?.get("spec")
    }

    pub fn pod_spec_mut(&mut self, place: Place) -> Option<&mut Node> {
        let path = self.pod_path(place);
        self.get_mut(place).at_mut(path)?.get_mut("spec")
    }

    pub fn containers(&self, place: Place) -> &[Node] {
        self.pod_spec(place).map_or(&[], |spec| spec.list_at(&["containers"]))
    }

    pub fn init_containers(&self, place: Place) -> &[Node] {
        self.pod_spec(place).map_or(&[], |spec| spec.list_at(&["initContainers"]))
    }

    /// The labels that Services and policies select by.
    pub fn pod_labels(&self, place: Place) -> Vec<(&str, &str)> {
        let labels = self.pod(place).and_then(|pod| pod.at(&["metadata", "labels"]));
        labels.map_or_else(Vec::new, pairs)
    }

    /// What a workload or its pod says under our prefix, as annotation or as label.
    pub fn marks(&self, place: Place) -> Vec<(&str, &str)> {
        let mut marks = Vec::new();
        for holder in [Some(self.get(place)), self.pod(place)].into_iter().flatten() {
            for kind in ["annotations", "labels"] {
                let found = holder.at(&["metadata", kind]).map_or_else(Vec::new, pairs);
                let ours =
                    found.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)));
                marks.extend(ours.filter(|mark| !marks.contains(mark)).collect::<Vec<_>>());
            }
            if self.kind(place) == "Pod" {
                break; // it is its own pod
            }
        }
        marks
    }

    pub fn annotation(&self, place: Place, name: &str) -> Option<&str> {
        self.get(place).text_at(&["metadata", "annotations", &format!("{PREFIX}{name}")])
    }

    /// A document of ours, behind all others.
    pub fn push(&mut self, root: Node) {
        self.documents.push(Document::made(root));
        self.origins.push(("made".to_owned(), self.documents.len()));
    }

    /// It goes at the next [`Manifests::drop_removed`], so that places stay until then.
    pub fn remove(&mut self, place: Place) {
        self.removed.insert(place);
    }

    pub fn drop_removed(&mut self) {
        for Place { document, item } in std::mem::take(&mut self.removed).into_iter().rev() {
            if let Some(item) = item {
                if let Some(items) = self.documents[document].root.get_mut("items").and_then(Node::items_mut)
                {
                    items.remove(item);
                }
            } else {
                self.documents.remove(document);
                self.origins.remove(document);
            }
        }
    }
}

/// The entries of a map of texts.
pub fn pairs(map: &Node) -> Vec<(&str, &str)> {
    map.entries().iter().filter_map(|(key, value)| Some((key.as_text()?, value.as_text()?))).collect()
}

/// Whether all of these stand among the labels; none at all selects nothing.
pub fn selects(selector: &[(&str, &str)], labels: &[(&str, &str)]) -> bool {
    !selector.is_empty() && selector.iter().all(|pair| labels.contains(pair))
}
