//! Manifests in, the same manifests with the gate out.
//!
//! Everything is found by name. What is ambiguous or not there, and what certainly leads around the gate, is
//! an error, and then there is no result; what may lead around it is told. Nothing else of a pod is touched,
//! and what was changed is written down in an annotation, so that it can be taken out or renewed.
//!
//! Nothing here reads a file or prints. How settings are judged comes from the caller, who asks the code
//! that judges them for `check`.

#[macro_use]
pub mod yaml;
mod around;
mod find;
mod gate;
mod objects;
mod undo;

use self::objects::Place;
pub use self::objects::{Manifests, Source};
use crate::config::pod::PodFiles;

/// What is asked for, for all workloads; an annotation `hookgate/NAME` asks it for one.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub words: Words,
    /// `NAME` or `KIND/NAME`.
    pub workloads: Vec<String>,
    /// The configuration file, as it is named and what it holds.
    pub config: Option<(String, String)>,
    /// Namespaces that may reach the gate; all if none is named.
    pub network_policy: Option<Vec<String>>,
    /// Namespaces that may ask for metrics; all if none is named.
    pub pod_monitor: Option<Vec<String>>,
}

/// What a flag or an annotation of one workload can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub image: Option<String>,
    pub container: Option<String>,
    pub services: Vec<String>,
    pub service_ports: Vec<String>,
    pub secret_name: Option<String>,
    pub config_map: Option<String>,
    pub mounts: Vec<Mount>,
    pub legacy: bool,
    /// Flags of `run` and their values, in the order of the help.
    pub settings: Vec<(String, String)>,
}

/// Where a volume of the gate comes from, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    pub name: String,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Secret,
    ConfigMap,
    /// A `PersistentVolumeClaim`.
    Claim,
    /// A volume that the pod has already.
    Volume,
}

impl std::str::FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("{text:?} is no mount: write secret/NAME:/PATH, configmap/…, pvc/… or volume/…");
        let (what, path) = text.split_once(':').ok_or_else(fault)?;
        let (kind, name) = what.split_once('/').ok_or_else(fault)?;
        let kind = match kind {
            "secret" => MountKind::Secret,
            "configmap" => MountKind::ConfigMap,
            "pvc" => MountKind::Claim,
            "volume" => MountKind::Volume,
            _ => return Err(fault()),
        };
        if name.is_empty() || !path.starts_with('/') || path == "/" {
            return Err(fault());
        }
        Ok(Mount { kind, name: name.to_owned(), path: path.trim_end_matches('/').to_owned() })
    }
}

/// The settings of one gate, to be judged.
#[derive(Debug)]
pub struct Settings<'s> {
    pub flags: &'s [(String, String)],
    /// For what neither a flag nor the configuration says.
    pub defaults: &'s [(&'static str, String)],
    pub config: Option<&'s (String, String)>,
    pub files: &'s PodFiles,
}

/// What the settings come to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Variables of the container, without the one that names the configuration.
    pub environment: Vec<(String, String)>,
    /// The port for traffic: with TLS if it listens so.
    pub traffic: u16,
    pub ops: u16,
    pub others: Vec<u16>,
    /// The most memory that the settings can take, in MiB.
    pub memory: usize,
    pub upstream: String,
    /// Whether gates remember together.
    pub shares: bool,
    pub notices: Vec<String>,
}

/// Settings into what they come to, or all that is wrong with them.
pub type Judge<'j> = dyn Fn(&Settings) -> Result<Judged, Vec<String>> + 'j;

/// What was done.
#[derive(Debug)]
pub struct Done {
    pub manifests: Manifests,
    /// What may lead around the gate, or keep events away from it.
    pub warnings: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// The manifests with the gate, or all that is in the way.
pub fn inject(
    mut manifests: Manifests,
    request: &Request,
    flags: &[String],
    judge: &Judge,
) -> Result<Done, Vec<String>> {
    let selected = find::workloads(&manifests, request)?;
    for place in &selected {
        undo::undo(&mut manifests, *place)?;
    }
    manifests.drop_removed();
    // Places stay: what is removed here was made by us, and stands behind everything else.
    let selected = find::workloads(&manifests, request)?;
    let mut plans = Vec::new();
    let mut faults = Vec::new();
    for place in &selected {
        match plan(&manifests, request, *place, &selected, flags, judge) {
            Ok(plan) => plans.push(plan),
            Err(found) => faults.extend(found),
        }
    }
    faults.extend(find::marked_without_gate(&manifests, &selected));
    if !faults.is_empty() {
        return Err(faults);
    }
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    for plan in &plans {
        warnings.extend(plan.warnings.iter().cloned());
        gate::put(&mut manifests, plan, request, &mut warnings);
        notes.extend(plan.notes.iter().cloned());
    }
    Ok(Done { manifests, warnings, notes })
}

/// The manifests without what [`inject`] has put into them.
pub fn uninject(mut manifests: Manifests, workloads: &[String]) -> Result<Done, Vec<String>> {
    let gated = find::gated(&manifests, workloads)?;
    let shared = find::shared(&manifests, &gated);
    if !shared.is_empty() {
        return Err(shared);
    }
    for place in &gated {
        undo::undo(&mut manifests, *place)?;
    }
    manifests.drop_removed();
    let notes =
        if gated.is_empty() { vec!["there is no gate of inject to take out".to_owned()] } else { Vec::new() };
    Ok(Done { manifests, warnings: Vec::new(), notes })
}

/// What will be done for one workload.
struct Plan {
    workload: Place,
    words: Words,
    target: find::Target,
    mounts: Vec<Mount>,
    judged: Judged,
    warnings: Vec<String>,
    notes: Vec<String>,
}

fn plan(
    manifests: &Manifests,
    request: &Request,
    workload: Place,
    selected: &[Place],
    flags: &[String],
    judge: &Judge,
) -> Result<Plan, Vec<String>> {
    let told = manifests.told(workload);
    let named =
        |found: Vec<String>| found.into_iter().map(|text| format!("{told}: {text}")).collect::<Vec<_>>();
    let mut words = find::words(manifests, &request.words, workload, flags).map_err(named)?;
    let target = find::target(manifests, &words, workload, selected).map_err(named)?;
    let ending = gate::ending(manifests, workload, &target, words.legacy);
    let mut notes = Vec::new();
    gate::complete(&mut words, request.config.is_some(), &mut notes);
    let mounts = gate::mounts(manifests, workload, &words, request);
    let config = gate::configuration(manifests, &words, request, workload).map_err(named)?;
    let files = gate::files(manifests, workload, &mounts);
    let mut defaults = vec![("upstream", format!("http://127.0.0.1:{}", target.port))];
    defaults.extend(ending.settings.iter().cloned());
    defaults.extend([("threads", "2".to_owned()), ("log-format", "json".to_owned())]);
    let settings =
        Settings { flags: &words.settings, defaults: &defaults, config: config.as_ref(), files: &files };
    let judged = judge(&settings).map_err(named)?;
    let conflicts = gate::conflicts(manifests, workload, (&target, &judged, &mounts, &words));
    if !conflicts.is_empty() {
        return Err(named(conflicts));
    }
    let found = around::look(manifests, request, workload, &target, &judged, &mounts);
    let (certain, possible): (Vec<_>, Vec<_>) = found.into_iter().partition(|way| way.certain);
    let texts = |ways: Vec<around::Way>| ways.into_iter().map(|way| way.text).collect::<Vec<_>>();
    if !certain.is_empty() {
        return Err(named(texts(certain)));
    }
    let mut warnings = named(texts(possible));
    warnings.extend(named(ending.warnings));
    notes.extend(judged.notices.iter().cloned());
    let notes = named(notes);
    Ok(Plan { workload, words, target, mounts, judged, warnings, notes })
}
